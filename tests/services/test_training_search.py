"""The trials of a training: the same for the same history, kept within their limits, and lost by no accident."""

from typing import Any

import pytest

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
)
from mcp_server.runtime.clock import SystemClock
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import LimitSettings
from tests.services.training_world import CALLER, QUICK, Stand


@pytest.mark.slow
def test_a_bayesian_search_is_the_same_whatever_the_order_in_which_a_round_ends(stand: Stand) -> None:
    plan = stand.plan(search="bayesian", estimators=["logistic_regression", "naive_bayes"], trials=6)
    assert (plan["n_trials"], plan["n_rounds"]) == (6, 2)
    first = stand.service.ask_trials(plan, 0, [])
    assert [trial["estimator"] for trial in first[:2]] == ["logistic_regression", "naive_bayes"]
    history = [stand.service.run_trial(plan, trial, lambda: False) for trial in first]
    again = [stand.service.run_trial(plan, trial, lambda: False) for trial in reversed(first)]
    by_number = sorted(again, key=lambda trial: trial["number"])
    assert [trial["score"] for trial in by_number] == [trial["score"] for trial in history]
    assert stand.service.ask_trials(plan, 1, history) == stand.service.ask_trials(plan, 1, by_number)


def test_a_trial_that_cannot_be_fitted_is_an_answer_and_all_of_them_are_an_error(stand: Stand) -> None:
    plan = stand.plan(search_space={"logistic_regression": {"C": [-1.0]}})
    trial = stand.service.run_trial(plan, stand.service.ask_trials(plan, 0, [])[0], lambda: False)
    assert trial["score"] is None
    assert "C" in trial["error"]
    with pytest.raises(FailedPreconditionError, match="None of the 1 trials"):
        stand.service.finish_training(caller=CALLER, job_id="job", plan=plan, history=[trial], progress=NoProgress())
    assert stand.models.latest("winner") is None


def test_a_trial_beyond_its_time_is_a_failed_trial(stand: Stand) -> None:
    service = stand.make(LimitSettings(trial_timeout_s=0.01))
    plan = stand.plan()
    trial = service.run_trial(plan, service.ask_trials(plan, 0, [])[0], lambda: False)
    assert "longer than its limit" in trial["error"]


def test_a_trial_beyond_its_memory_fails_alone_and_names_the_limit(stand: Stand) -> None:
    service = stand.make(LimitSettings(child_memory_bytes=1024**2))
    plan = service.plan_training(
        caller=CALLER, job_id="eats", name="eats", dataset="games", target="won", features=["rating"], **QUICK
    )
    answer = service.run_trial(plan, service.ask_trials(plan, 0, [])[0], lambda: False)
    assert answer["score"] is None
    assert "limit of 1 MiB of memory" in answer["error"]
    assert answer["cut"] is False


def test_a_cancelled_job_stops_its_trial(stand: Stand) -> None:
    plan = stand.plan()
    with pytest.raises(CancelledError):
        stand.service.run_trial(plan, stand.service.ask_trials(plan, 0, [])[0], lambda: True)


def test_a_search_cut_by_its_budget_keeps_what_was_found_and_says_so(trained: Stand) -> None:
    estimators = ["logistic_regression", "random_forest"]
    plan = trained.plan(name="cut", search="random", estimators=estimators, trials=4, time_budget_seconds=60)
    asked = trained.service.ask_trials(plan, 0, [])
    history = [trained.service.run_trial(plan, asked[0], lambda: False)]
    short = plan | {"time_budget_seconds": 0.06}
    history.append(trained.service.run_trial(short, asked[1], lambda: False))
    history.append(trained.service.run_trial(plan | {"time_budget_seconds": 0.0}, asked[2], lambda: False))
    assert [trial["cut"] for trial in history[1:]] == [True, True]
    assert history[1]["error"] == "The time budget ended."
    arguments: dict[str, Any] = {"caller": CALLER, "plan": plan, "progress": NoProgress()}
    result = trained.service.finish_training(job_id="cut", history=history, **arguments)
    assert result.trials == 3
    assert sum(row.cut for row in result.leaderboard) == 2
    assert any("after 3 of 4 trials, of which it stopped 2" in warning for warning in result.warnings)


@pytest.mark.parametrize("budget_s", [0.001, 1])
def test_a_model_comes_of_every_time_budget_however_short(stand: Stand, budget_s: float) -> None:
    service = stand.make(LimitSettings(), SystemClock())
    result = service.train_model(
        caller=CALLER,
        progress=NoProgress(),
        name="short",
        dataset="games",
        target="won",
        features=["rating", "rest", "venue"],
        time_budget_seconds=budget_s,
    )
    assert result.trials >= 1
    assert any(f"The time budget of {budget_s:g} s ended the search" in warning for warning in result.warnings)
    assert stand.models.resolve("short@1.0.0").run_id == result.run_id


def test_the_first_trial_is_the_cheapest_and_may_outlast_the_budget(stand: Stand) -> None:
    plan = stand.plan(
        estimators=["random_forest", "hist_gradient_boosting", "logistic_regression", "svm"],
        search="random",
        trials=20,
        time_budget_seconds=5,
    )
    first, *others = stand.service.ask_trials(plan, 0, [])
    assert (first["estimator"], first["share"], first["uncut"]) == ("logistic_regression", 1.0, True)
    assert {(trial["share"], trial["uncut"]) for trial in others} == {(0.5, False)}
    stand.clock.advance(6)
    history = [stand.service.run_trial(plan, trial, lambda: False) for trial in (first, *others)]
    assert history[0]["score"] is not None
    assert [trial.get("cut", False) for trial in history] == [False, True, True, True, True]
    assert stand.service.ask_trials(plan, 1, history) == []
    result = stand.service.finish_training(
        caller=CALLER, job_id="job", plan=plan, history=history, progress=NoProgress()
    )
    assert result.estimator == "logistic_regression"
    assert any("ended before logistic_regression did" in warning for warning in result.warnings)
    assert any("after 5 of 20 trials, of which it stopped 4" in warning for warning in result.warnings)


def test_a_first_trial_that_fails_is_followed_by_another_family_beyond_the_budget(stand: Stand) -> None:
    plan = stand.plan(
        estimators=["naive_bayes", "logistic_regression"],
        search="random",
        search_space={"logistic_regression": {"C": [-1.0]}},
        time_budget_seconds=5,
    )
    asked = stand.service.ask_trials(plan, 0, [])
    history = [stand.service.run_trial(plan, asked[0], lambda: False)]
    assert (history[0]["estimator"], history[0]["score"]) == ("logistic_regression", None)
    stand.clock.advance(6)
    history += [stand.service.run_trial(plan, trial, lambda: False) for trial in asked[1:]]
    assert all(trial["cut"] for trial in history[1:])
    (last,) = stand.service.ask_trials(plan, 1, history)
    assert (last["estimator"], last["number"], last["uncut"]) == ("naive_bayes", len(history), True)
    history.append(stand.service.run_trial(plan, last, lambda: False))
    assert stand.service.ask_trials(plan, 2, history) == []
    result = stand.service.finish_training(
        caller=CALLER, job_id="job", plan=plan, history=history, progress=NoProgress()
    )
    assert result.estimator == "naive_bayes"


def test_a_cancelled_search_tells_what_it_found_and_the_next_one_goes_on_from_there(stand: Stand) -> None:
    wanted: dict[str, Any] = {
        "name": "again",
        "dataset": "games",
        "target": "won",
        "features": ["rating", "rest"],
        "estimators": ["logistic_regression"],
        "search": "random",
        "trials": 3,
        "cv": 2,
    }
    service = stand.service
    plan = service.plan_training(caller=CALLER, job_id="first", **wanted)
    untold = service.findings("first")
    assert untold is not None
    assert "after 0 of 3 trials" in untold["message"]
    assert service.findings("unknown") is None
    history = [service.run_trial(plan, trial, lambda: False) for trial in service.ask_trials(plan, 0, [])[:2]]
    for found in history:
        service.record_trial(plan, found)
    told = service.findings("first")
    best = min(history, key=lambda trial: trial["score"])
    assert told is not None
    assert f"after 2 of 3 trials; no model was registered. The best, {best['estimator']}" in told["message"]
    assert told["details"]["best"]["params"] == best["params"]
    assert told["details"]["leaderboard"][0]["score"] == best["score"]

    other = service.plan_training(caller=CALLER, job_id="other", **wanted | {"seed": 1})
    assert not any("known" in trial for trial in service.ask_trials(other, 0, []))
    next_plan = service.plan_training(caller=CALLER, job_id="second", **wanted)
    assert any("2 trials of an unfinished training" in warning for warning in next_plan["warnings"])
    trials = service.ask_trials(next_plan, 0, [])
    assert [trial.get("known") for trial in trials] == [*history, None]
    kept = service.findings("second")
    assert kept is not None
    assert kept["details"]["trials_finished"] == 2


@pytest.mark.slow
def test_a_trial_worse_than_the_median_of_the_others_stops_after_some_folds(trained: Stand) -> None:
    plan = trained.plan(name="pruned", cv=4)
    trial = trained.service.ask_trials(plan, 0, [])[0]
    hopeless = trained.service.run_trial(plan, trial | {"prune_at": [0.0] * 4}, lambda: False)
    assert (hopeless["pruned"], hopeless["score"], hopeless["error"]) == (True, None, None)
    assert len(hopeless["fold_scores"]) == 2
    whole = trained.service.run_trial(plan, trial | {"prune_at": [9.0] * 4}, lambda: False)
    assert len(whole["fold_scores"]) == 4
    assert whole["fold_scores"][:2] == hopeless["fold_scores"]
    part = trained.service.run_trial(plan, trial | {"share": 0.5}, lambda: False)
    assert (part["share"], len(part["fold_scores"])) == (0.5, 2)
