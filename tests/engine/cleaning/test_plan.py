"""A plan carries what one table taught it to another."""

import json
import warnings
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # scikit-learn hides it behind this
from sklearn.impute import IterativeImputer, KNNImputer

from mcp_server.engine.cleaning import duplicates, imputation
from mcp_server.engine.cleaning import table as cleaning_table
from mcp_server.engine.cleaning.plan import Plan, apply_plan, fit
from mcp_server.engine.cleaning.steps import Step
from mcp_server.errors import CancelledError, FailedPreconditionError, InvalidArgumentError

TRAIN = pl.DataFrame(
    {
        "n": [1, 2, 6, None],
        "x": [1.0, None, 3.0, 8.0],
        "team": ["BOS", "BOS", "LAL", None],
        "day": [date(2024, 1, 1), None, date(2024, 1, 1), date(2024, 1, 3)],
    }
)
TEST = pl.DataFrame(
    {"n": [None, 9], "x": [100.0, None], "team": [None, "MIA"], "day": [None, date(2025, 1, 1)]}, schema=TRAIN.schema
)


def plan_of(frame: pl.DataFrame, *steps: Step) -> Plan:
    """Make a plan and send it through JSON, as a store does."""
    document = json.loads(json.dumps(fit(frame, list(steps)).plan.to_document(), allow_nan=False))
    return Plan.from_document(document)


@pytest.mark.parametrize(
    ("method", "column", "filled"),
    [
        ("mean", "n", 3.0),
        ("mean", "x", 4.0),
        ("median", "x", 3.0),
        ("most_frequent", "team", "BOS"),
        ("most_frequent", "day", date(2024, 1, 1)),
    ],
)
def test_other_rows_get_the_values_of_the_first_table(method: str, column: str, filled: Any) -> None:
    plan = plan_of(TRAIN, Step("impute", (column,), {"method": method}))
    after, changes = apply_plan(TEST, plan)
    missing = TEST[column].is_null()
    assert after[column].filter(missing).to_list() == [filled]
    assert after[column].filter(~missing).to_list() == TEST[column].drop_nulls().to_list()
    assert [(c.column, c.cells_changed) for c in changes] == [(column, 1)]


def test_a_column_without_gaps_in_the_first_table_is_filled_in_the_second() -> None:
    plan = plan_of(pl.DataFrame({"n": [1, 2]}), Step("impute", None, {"method": "mean"}))
    after, _ = apply_plan(pl.DataFrame({"n": [None, 7]}, schema={"n": pl.Int64}), plan)
    assert after["n"].to_list() == [2, 7]  # the mean 1.5 rounded: the column had no fraction before


def test_bounds_are_those_of_the_first_table() -> None:
    train = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 5.0]})  # quartiles 2 and 4: from −1 to 7
    other = pl.DataFrame({"x": [-50.0, 6.0, 1000.0, 2000.0]})
    assert apply_plan(other, plan_of(train, Step("clip_outliers")))[0]["x"].to_list() == [-1.0, 6.0, 7.0, 7.0]
    assert apply_plan(other, plan_of(train, Step("drop_outliers")))[0]["x"].to_list() == [6.0]
    kept, _ = apply_plan(other, plan_of(train, Step("drop_outliers")), keep_rows=True)
    assert kept.equals(other)


def test_repeated_rows_are_those_of_the_table_itself() -> None:
    plan = plan_of(pl.DataFrame({"k": [1, 1, 2]}), Step("drop_duplicates"))
    after, _ = apply_plan(pl.DataFrame({"k": [1, 2, 3, 3]}), plan)
    assert after["k"].to_list() == [1, 2, 3]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (TEST.drop("x"), "no column 'x'"),
        (TEST.with_columns(pl.col("x").cast(pl.String)), "column 'x' is String; the plan was made for Float64"),
    ],
)
def test_another_shape_of_table_is_refused_by_the_columns_name(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        apply_plan(frame, plan_of(TRAIN, Step("impute", ("x",), {"method": "mean"})))


def test_a_plan_asks_for_no_column_that_its_steps_leave_alone_and_knows_renamed_ones() -> None:
    steps = [
        Step("rename", None, {"names": {"x": "y"}}),
        Step("impute", ("y",), {"method": "mean"}),
        Step("drop_duplicates"),
    ]
    plan = plan_of(TRAIN, *steps)
    assert plan.columns == {"x": "Float64"}
    after, _ = apply_plan(TEST.select("x"), plan)
    assert after.to_dict(as_series=False) == {"y": [100.0, 4.0]}


def test_a_plan_of_another_format_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="format 99"):
        Plan.from_document({"format": 99})


def _cloud(seed: int, n_rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(10, 3, n_rows), rng.normal(size=n_rows)
    values = np.column_stack([a, b, 2 * a - b + rng.normal(0, 0.1, n_rows)])
    values[rng.random(values.shape) < 0.1] = np.nan
    return pl.DataFrame(values, schema=["a", "b", "c"]).fill_nan(None)


@pytest.mark.parametrize("method", ["knn", "iterative"])
def test_models_fill_other_rows_as_scikit_learn_does(method: str) -> None:
    train, test = _cloud(0, 300), _cloud(1, 80)
    values, others = train.to_numpy(), test.to_numpy()
    centre, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    model = KNNImputer() if method == "knn" else IterativeImputer(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((values - centre) / scale)
    expected = model.transform((others - centre) / scale) * scale + centre
    after, _ = apply_plan(test, plan_of(train, Step("impute", None, {"method": method})))
    np.testing.assert_allclose(after.to_numpy(), expected, rtol=1e-9)
    present = ~np.isnan(others)
    assert (after.to_numpy()[present] == others[present]).all()


@pytest.mark.parametrize("method", ["knn", "iterative"])
def test_models_look_at_the_columns_they_are_told_to_and_need_no_others(method: str) -> None:
    train = _cloud(0, 200).with_columns(pl.lit(1e308).alias("huge"), pl.lit(None, pl.Float64).alias("void"))
    plan = plan_of(train, Step("impute", ("a",), {"method": method, "by": ["c"]}))
    assert plan.columns == {"a": "Float64", "c": "Float64"}
    after, _ = apply_plan(train.select("a", "c"), plan)
    assert after["a"].null_count() == 0
    every = plan_of(train, Step("impute", ("a",), {"method": method}))
    assert list(every.columns) == ["a", "b", "c"]
    with pytest.raises(InvalidArgumentError, match="no column 'd'"):
        plan_of(train, Step("impute", ("a",), {"method": method, "by": ["d"]}))


def test_models_learn_from_a_sample_where_there_are_many_rows_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "_KNN_ROWS", 100)
    frame = _cloud(0, 500)
    cleaning = fit(frame, [Step("impute", ("a",), {"method": "knn"})])
    (after, _, _) = next(cleaning.batches())
    assert after["a"].null_count() == 0
    assert "100 random rows of 500" in cleaning.changes()[0].detail


@pytest.mark.parametrize("contamination", ["auto", 0.05])
def test_an_isolation_forest_drops_the_rows_that_scikit_learn_would(contamination: Any) -> None:
    train, test = _cloud(0, 400).drop_nulls(), _cloud(1, 300).drop_nulls()
    step = Step("drop_outliers", None, {"method": "isolation_forest", "contamination": contamination, "seed": 3})
    forest = IsolationForest(contamination=contamination, random_state=3).fit(train.to_numpy())
    for frame in (train, test):
        after, changes = apply_plan(frame, plan_of(train, step))
        expected = frame.filter(pl.Series(forest.predict(frame.to_numpy()) == 1))
        assert after.equals(expected)
        assert changes[0].rows_removed == len(frame) - len(expected) > 0


def test_the_journal_says_why_a_row_went() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 100.0, None, 2.0], "k": [1, 2, 3, 4, 5, 6, 2]})
    steps = [Step("drop_duplicates"), Step("drop_missing"), Step("drop_outliers", ("x",))]
    _, journal, _ = next(fit(frame, steps).batches())
    assert journal.select("step", "row", "column", "before", "after").rows() == [
        (0, 6, None, "equals row 1", None),
        (1, 5, None, "missing: x", None),
        (2, 4, None, "x = 100.0 outside -1 to 7", None),
    ]


def test_a_journal_is_cut_at_its_limit_and_counts_go_on() -> None:
    frame = pl.DataFrame({"x": [None] * 50 + [1.0]})
    cleaning = fit(frame, [Step("impute", ("x",), {"method": "mean"})], max_entries=20)
    _, journal, _ = next(cleaning.batches())
    assert len(journal) == 20
    assert (cleaning.recorder.counts.entries, cleaning.recorder.counts.kept) == (50, 20)
    assert cleaning.changes()[0].cells_changed == 50


@pytest.mark.parametrize(
    "step",
    [
        Step("impute", ("a",), {"method": "knn"}),
        Step("impute", ("a",), {"method": "iterative"}),
        Step("drop_outliers", None, {"method": "isolation_forest"}),
    ],
)
def test_a_model_at_work_hears_that_it_is_to_end(step: Step) -> None:
    told = []

    def tick(share: float, message: str) -> None:
        told.append(message)
        if len(told) > 1:  # the first is said before the step
            raise CancelledError("The job was cancelled.")

    with pytest.raises(CancelledError):
        fit(_cloud(0, 200), [step], tick=tick)
    assert set(told) == {f"step 0: {step.action}"}


def test_equal_rows_are_found_whatever_their_hashes_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    # a missing cell hashes as this number does
    odd = pl.DataFrame({"n": [3188347919, None, 7, 7, None]})
    assert apply_plan(odd, plan_of(odd, Step("drop_duplicates")))[0]["n"].to_list() == [3188347919, None, 7]
    monkeypatch.setattr(duplicates, "_CELLS_AT_ONCE", 10)
    many = pl.DataFrame({"n": [i % 50 for i in range(120)], "s": ["x"] * 120})
    after, changes = apply_plan(many, plan_of(many, Step("drop_duplicates", None, {"keep": "last"})))
    assert after["n"].to_list() == [i % 50 for i in range(70, 120)]
    assert changes[0].rows_removed == 70


def test_a_large_table_that_the_last_step_empties_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning_table, "_CELLS_IN_MEMORY", 0)
    frame = pl.DataFrame({"x": [None, 1.0], "y": [1.0, None]})
    with pytest.raises(InvalidArgumentError, match=r"Step 0 \(drop_missing\): it would leave 0 rows"):
        list(fit(frame, [Step("drop_missing")]).batches())
