import polars as pl
import pytest

from mcp_server.engine.expectations.conditions import parse_condition
from mcp_server.engine.expectations.literals import CannotEvaluateError, condition_expression
from mcp_server.errors import InvalidArgumentError

FRAME = pl.DataFrame(
    {"a": [1, 2, 3, None], "b": [1, 1, 3, 4], "s": ["x", "y", None, "x"], "my col": [True, False, True, None]}
).with_columns(d=pl.date(2020, 1, 1) + pl.duration(days=pl.int_range(4)))


def _rows(condition: object) -> list[int]:
    expression = condition_expression(parse_condition(condition), FRAME.schema)
    return FRAME.with_row_index().filter(expression)["index"].to_list()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ('col("a") >= 2', [1, 2]),
        ("a != 2", [0, 2, 3]),
        ('col("s").notNull()', [0, 1, 3]),
        ("s.isnull()", [2]),
        ("s == 'x' and a == 1", [0]),
        ("s == 'x' | a == 3", [0, 2, 3]),
        ("not (a < 3 or s == 'x')", [2]),
        ("a in [1, 3]", [0, 2]),
        ("a not in (1, 3)", [1, 3]),
        ("`my col` == True", [0, 2]),
        ('col("d") > date("2020-01-02")', [2, 3]),
        ("a > 1.5 & a < 2.5", [1]),
        ("2 <= a", [1, 2]),
        ("1 < a <= 3", [1, 2]),
        ("a == b", [0, 2]),
        ("a != b", [1, 3]),
        ("1 < a > b", [1]),
        ("a == a", [0, 1, 2]),
        ("a == [1, 3]", [0, 2]),
        ("a != [1, 3]", [1, 3]),
        ("a IS NOT NULL AND s <> 'x'", [1, 2]),
        ("s is null", [2]),
        ("a = 1", [0]),
        ("a between 2 and 3 and b = 1", [1]),
        ("a not between 2 and 3", [0, 3]),
        ('col("d") >= date("2020-01-02") and date("2020-01-04") > d', [1, 2]),
        ({"column": {"name": "a"}, "operator": ">", "parameter": 2}, [2]),
        ({"column": {"name": "s"}, "is_null": True}, [2]),
        ({"column": {"name": "a"}, "operator": "NOT_IN", "parameter": [1]}, [1, 2, 3]),
        (
            {
                "conditions": [
                    {"column": {"name": "a"}, "operator": "==", "parameter": 1},
                    {"column": {"name": "s"}, "operator": "==", "parameter": "x"},
                ]
            },
            [0],
        ),
    ],
)
def test_conditions_choose_rows(condition: object, rows: list[int]):
    assert _rows(condition) == rows


@pytest.mark.parametrize(
    "condition",
    [
        '__import__("os").system("x")',
        "a",
        "a ==",
        "1 == 1",
        "a == b == ",
        "a is 3",
        "a between 1",
        "'x' in [1]",
        "(a == 1",
        "a == 1 a == 2",
        "a.apply(f)",
        "(" * 50 + "a == 1" + ")" * 50,
        "a == 1 or " * 300 + "a == 1",
        'col("d") > date("soon")',
        {"column": {"name": "a"}, "operator": "LIKE", "parameter": 1},
        {"column": {"name": "a"}, "operator": "==", "parameter": {"x": 1}},
        7,
    ],
)
def test_everything_else_is_refused(condition: object):
    with pytest.raises(InvalidArgumentError):
        parse_condition(condition)


@pytest.mark.parametrize("condition", ["nope == 1", "a < 'x'"])
def test_a_condition_that_the_table_cannot_answer_says_so(condition: str):
    with pytest.raises(CannotEvaluateError):
        condition_expression(parse_condition(condition), FRAME.schema)
