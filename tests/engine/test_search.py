"""The same seed and history give the same trials; every family is tried; spaces can be changed."""

import json
from typing import Any

import pytest

from mcp_server.engine.search import Search, ask, ask_documents, best_first, leaderboard, n_rounds, plan_search
from mcp_server.errors import InvalidArgumentError

FAMILIES = ["logistic_regression", "hist_gradient_boosting", "extra_trees"]


def planned(method: str = "bayesian", estimators: list[str] | None = None, trials: int = 12, **rest: Any) -> Search:
    settings: dict[str, Any] = {"task": "binary", "seed": 3, "higher_is_better": False} | rest
    overrides = settings.pop("overrides", None)
    return plan_search(method, estimators or FAMILIES, trials, overrides, **settings)


def run(search: Search) -> list[dict[str, Any]]:
    """Run a search whose scores only depend on the trial."""
    history: list[dict[str, Any]] = []
    while trials := ask(search, history):
        for trial in trials:
            size = float(sum(value for value in trial.params.values() if isinstance(value, int | float)))
            history.append(trial.to_document() | {"score": 1 / (1 + size) if trial.number % 5 != 4 else None})
    return history


@pytest.mark.parametrize("method", ["none", "grid", "random", "bayesian"])
def test_a_search_is_reproducible_through_json_and_tries_every_family(method: str) -> None:
    search = planned(method)
    first = run(search)
    again = run(Search.from_document(json.loads(json.dumps(search.to_document()))))
    assert first == again
    assert {trial["estimator"] for trial in first} == set(FAMILIES)
    assert [trial["number"] for trial in first] == list(range(search.trials))
    assert search.trials == (3 if method == "none" else 12)


def test_another_seed_gives_other_trials() -> None:
    assert run(planned(seed=1)) != run(planned(seed=2))


def test_a_bayesian_search_finds_a_better_value_than_its_first() -> None:
    search = planned("bayesian", ["logistic_regression"], 30)
    history: list[dict[str, Any]] = []
    while trials := ask(search, history):
        for trial in trials:
            strength = trial.params["C"]
            assert isinstance(strength, float)
            history.append(trial.to_document() | {"score": abs(strength - 0.02)})
    assert best_first(search, history)[0]["score"] < 0.01 < history[0]["score"]


def test_a_grid_is_no_larger_than_its_points() -> None:
    search = planned("grid", ["logistic_regression"], 100, overrides={"logistic_regression": {"C": [0.1, 1.0, 10.0]}})
    assert [trial["params"]["C"] for trial in run(search)] == [0.1, 1.0, 10.0]


def test_ranges_can_be_changed_and_new_parameters_added() -> None:
    overrides = {
        "hist_gradient_boosting": {"max_iter": {"low": 5, "high": 9}, "learning_rate": {"choices": [0.5, 0.6]}}
    }
    history = run(planned(estimators=["hist_gradient_boosting"], overrides=overrides))
    assert {trial["params"]["learning_rate"] for trial in history} <= {0.5, 0.6}
    assert all(5 <= trial["params"]["max_iter"] <= 9 for trial in history)


def test_ensembles_come_last_and_are_made_of_the_best_of_each_family() -> None:
    history = run(planned(estimators=[*FAMILIES, "voting", "stacking"], trials=9))
    assert [trial["estimator"] for trial in history[-2:]] == ["voting", "stacking"]
    members = history[-1]["members"]
    assert {member["estimator"] for member in members} == set(FAMILIES)
    best = min(
        (trial for trial in history[:-2] if trial["score"] is not None and trial["estimator"] == "extra_trees"),
        key=lambda trial: trial["score"],
    )
    assert {"estimator": "extra_trees", "params": best["params"]} in members


def test_the_leaderboard_counts_failures_and_puts_the_best_family_first() -> None:
    search = planned()
    history = run(search)
    board = leaderboard(search, history)
    assert board[0]["score"] == min(trial["score"] for trial in history if trial["score"] is not None)
    assert sum(row["trials"] for row in board) == len(history)
    assert sum(row["failed"] for row in board) == sum(trial["score"] is None for trial in history)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "genetic"}, "unknown"),
        ({"trials": 0}, "trials must be"),
        ({"trials": 5000}, "trials must be"),
        ({"estimators": ["logistic_regression", "voting"], "trials": 1}, "too few"),
        ({"overrides": {}}, "empty"),
        ({"overrides": {"ridge": {"alpha": [1]}}}, "not searched"),
        ({"overrides": {"logistic_regression": {"C": []}}}, "no values"),
        ({"overrides": {"logistic_regression": {"C": {"low": 0, "high": 1, "log": True}}}}, "range"),
        ({"overrides": {"logistic_regression": {"n_jobs": [8]}}}, "no parameter"),
    ],
)
def test_searches_that_cannot_be_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        planned(**change)


def score_of(trial: dict[str, Any]) -> float:
    """A score that only depends on the trial: extra trees are best, and a stronger C is worse."""
    base = {"extra_trees": 0.1, "hist_gradient_boosting": 0.2, "random_forest": 0.3}.get(trial["estimator"], 0.5)
    size = float(sum(value for value in trial["params"].values() if isinstance(value, int | float)))
    return base + size * 1e-6


def test_families_compete_on_doubling_shares_of_the_rows_until_the_best_are_searched() -> None:
    families = [*FAMILIES, "random_forest", "naive_bayes"]
    search = planned(estimators=families, trials=20, budgeted=True)
    history: list[dict[str, Any]] = []
    rounds = []
    for _ in range(n_rounds(search)):
        asked = ask_documents(search, history)
        rounds.append([(trial["estimator"], trial["share"]) for trial in asked])
        history += [trial | {"score": score_of(trial), "fold_scores": []} for trial in asked]
    cheapest_first = ["logistic_regression", "naive_bayes", "hist_gradient_boosting", "extra_trees", "random_forest"]
    assert rounds[0] == [("logistic_regression", 1.0), *((name, 0.25) for name in cheapest_first)]
    assert rounds[1] == [(name, 0.5) for name in ("extra_trees", "hist_gradient_boosting", "random_forest")]
    assert rounds[2] == [(name, 1.0) for name in ("extra_trees", "hist_gradient_boosting")]
    later = [trial for asked in rounds[3:] for trial in asked]
    assert {name for name, _ in later} <= {"extra_trees", "hist_gradient_boosting"}
    assert {share for _, share in later} == {1.0}
    assert [trial["number"] for trial in history] == list(range(20))
    rows = leaderboard(search, history)
    assert rows[0]["estimator"] == "extra_trees"
    assert next(row for row in rows if row["estimator"] == "naive_bayes")["score"] is None


def test_a_family_that_fails_in_a_stage_does_not_go_on() -> None:
    search = planned(estimators=FAMILIES, trials=12, budgeted=True)
    first = ask_documents(search, [])
    history = [trial | {"score": None if trial["number"] < 3 else 0.5, "fold_scores": []} for trial in first]
    assert [trial["estimator"] for trial in ask_documents(search, history)] == ["extra_trees"]
    nothing = [trial | {"score": None, "fold_scores": []} for trial in first]
    assert ask_documents(search, nothing) == []


def test_the_family_that_opened_a_search_is_not_tried_again_with_the_same_parameters() -> None:
    search = planned(estimators=FAMILIES, trials=12, budgeted=True)
    first = ask_documents(search, [])
    assert [(trial["estimator"], trial["share"]) for trial in first] == [
        ("logistic_regression", 1.0),
        ("logistic_regression", 0.5),
        ("hist_gradient_boosting", 0.5),
        ("extra_trees", 0.5),
    ]
    history = [trial | {"score": 0.1 * trial["number"], "fold_scores": []} for trial in first]
    second = ask_documents(search, history)
    assert [(trial["number"], trial["estimator"]) for trial in second] == [(4, "hist_gradient_boosting")]
    history += [trial | {"score": 0.9, "fold_scores": []} for trial in second]
    later = ask_documents(search, history)
    assert [trial["number"] for trial in later] == [5, 6, 7, 8]
    assert {trial["estimator"] for trial in later} <= {"logistic_regression", "hist_gradient_boosting"}


def test_when_time_is_up_only_a_search_without_a_score_goes_on_with_the_next_family_that_has_not_failed() -> None:
    search = planned(estimators=["svm", "ridge", "knn"], trials=12, budgeted=True, task="regression")
    first = ask_documents(search, [])
    failed = [trial | {"score": None, "cut": trial["number"] > 0, "fold_scores": []} for trial in first]
    for time_is_up in (True, False):  # a round that was cut has ended the time too
        (last,) = ask_documents(search, failed, time_is_up=time_is_up)
        assert (last["estimator"], last["number"], last["uncut"]) == ("knn", len(first), True)
    scored = [*failed, last | {"score": 0.5, "fold_scores": []}]
    assert ask_documents(search, scored, time_is_up=True) == []
    assert ask_documents(search, [trial | {"cut": False} for trial in failed], time_is_up=True) == []


def test_only_later_trials_are_pruned_and_at_the_median_of_ended_ones() -> None:
    search = planned("bayesian", ["logistic_regression"], 12)
    first = ask_documents(search, [])
    assert [trial["prune_at"] for trial in first] == [None] * 4
    folds = [[1.0, 3.0], [2.0, 2.0], [3.0, 3.0], [4.0, 8.0]]
    history = [
        trial | {"score": sum(scores) / 2, "fold_scores": scores} for trial, scores in zip(first, folds, strict=True)
    ]
    # means up to each fold: (1, 2), (2, 2), (3, 3), (4, 6); their medians:
    assert [trial["prune_at"] for trial in ask_documents(search, history)] == [[2.5, 2.5]] * 4
    pruned = history[3] | {"score": None, "pruned": True, "fold_scores": [9.0]}
    assert ask_documents(search, [*history[:3], pruned])[0]["prune_at"] is None
    row = leaderboard(search, [*history[:3], pruned])[0]
    assert (row["trials"], row["pruned"], row["failed"], row["cut"]) == (4, 1, 0, 0)
