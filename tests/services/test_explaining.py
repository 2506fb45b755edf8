"""Explanations of registered models: single rows of every kind, by each method, and what is refused."""

from typing import Any

import polars as pl
import pytest

from mcp_server.errors import InvalidArgumentError
from mcp_server.results.training import ExplanationResult
from mcp_server.runtime.progress import NoProgress
from tests.services.training_world import Stand, games


@pytest.fixture
def neighbours(stand: Stand) -> Stand:
    stand.write("games", games(n_rows=200))
    stand.train(estimators=["knn"])
    return stand


def explain(stand: Stand, **arguments: Any) -> ExplanationResult:
    given: dict[str, Any] = {"model": "winner@1.0.0", "dataset": "games"}
    return stand.service.explain_model(progress=NoProgress(), **given | arguments)


def test_rows_of_a_model_without_an_exact_explainer_add_up_to_its_prediction(neighbours: Stand) -> None:
    found = explain(neighbours, rows=[0, 7])

    assert (found.method, found.exact, found.rows_unit) == ("permutation", False, "probability")
    assert found.importances[0].feature == "rating"
    assert [row.row for row in found.explanations] == [0, 7]
    for row in found.explanations:
        together = row.base_value + sum(part.contribution for part in row.contributions) + row.others
        assert together == pytest.approx(row.output, abs=1e-9)
        assert row.prediction == int(row.output >= 0.5)


def test_a_row_given_by_its_values_is_explained_as_the_same_row_of_the_dataset(neighbours: Stand) -> None:
    row = neighbours.datasets.read("games").row(3, named=True)
    values = {name: row[name] for name in ("rating", "rest", "venue")}

    of_dataset, of_values = explain(neighbours, rows=[3]), explain(neighbours, rows=[values])

    assert of_values.explanations[0].contributions == of_dataset.explanations[0].contributions


def test_lime_says_how_well_its_lines_fit(neighbours: Stand) -> None:
    pytest.importorskip("lime")
    found = explain(neighbours, rows=[0, 1], method="lime")

    assert (found.method, found.exact) == ("lime", False)
    for row in found.explanations:
        assert row.fit is not None
        assert 0 <= row.fit <= 1
        together = row.base_value + sum(part.contribution for part in row.contributions) + row.others
        assert together == pytest.approx(row.output, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "permutation", "rows": [0]}, "not of single ones"),
        ({"method": "gradients"}, "unknown"),
        ({"rows": [1000]}, "no row 1000"),
    ],
)
def test_what_cannot_be_explained_is_refused(trained: Stand, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        explain(trained, **arguments)


def test_a_forest_with_corrected_probabilities_is_explained_exactly_and_its_rows_add_up(stand: Stand) -> None:
    pytest.importorskip("numba")
    rare = pl.col("won") * (pl.col("season") % 4 == 0)  # balanced weights promise far too much of it
    stand.write("games", games(n_rows=1500).with_columns(won=rare.cast(pl.Int64)))
    forest = {"random_forest": {"n_estimators": [20], "max_depth": [3], "min_samples_leaf": [50]}}
    grid = {"search": "grid", "trials": 1, "search_space": forest}
    trained = stand.train(estimators=["random_forest"], class_weight="balanced", **grid)
    assert trained.correction is not None
    assert trained.correction.method != "none"

    found = explain(stand, rows=[0])

    assert (found.method, found.unit, found.rows_unit) == ("shap", "probability before correction", "probability")
    row = found.explanations[0]
    together = row.base_value + sum(part.contribution for part in row.contributions) + row.others
    assert together == pytest.approx(row.output, abs=1e-9)


def test_a_column_that_is_its_own_forecast_is_all_there_is_to_explain(stand: Stand) -> None:
    stand.write("games", games(n_rows=300))
    stand.train(estimators=["column:forecast"])
    found = explain(stand, rows=[0])
    assert [part.feature for part in found.importances] == ["forecast"]
    row = found.explanations[0]
    assert row.output == pytest.approx(stand.datasets.read("games")["forecast"][0])
    assert row.base_value + row.contributions[0].contribution == pytest.approx(row.output)
