"""What a running search says: the trial, the best so far, and the time left."""

from typing import Any

import pytest

from mcp_server.runtime.search_progress import search_progress

PLAN: dict[str, Any] = {
    "n_trials": 10,
    "time_budget_seconds": None,
    "search_from": 1000.0,
    "search": {"higher_is_better": False},
}


def trial(number: int, score: float | None, **rest: object) -> dict[str, Any]:
    return {"number": number, "estimator": "ridge", "score": score} | rest


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([trial(0, 0.5)], "trial 1 of 10: ridge scored 0.5000; about 36 s left"),
        (
            [trial(0, 0.5), trial(1, 0.7)],
            "trial 2 of 10: ridge scored 0.7000; best so far 0.5000 (ridge, trial 1); about 16 s left",
        ),
        (
            [trial(0, 0.5), trial(1, 0.1, share=0.5)],
            "trial 2 of 10: ridge scored 0.1000 on 50% of the rows; "
            "best so far 0.5000 (ridge, trial 1); about 16 s left",
        ),
        ([trial(0, None, pruned=True)], "trial 1 of 10: ridge was pruned; about 36 s left"),
    ],
)
def test_a_search_says_its_trial_its_best_score_and_the_time_left(history: list[dict[str, Any]], words: str) -> None:
    fraction, said = search_progress(PLAN, history, 1004.0)
    assert said == words
    assert fraction == pytest.approx(0.05 + 0.75 * len(history) / 10)


def test_with_a_time_budget_the_time_left_is_that_of_the_budget() -> None:
    fraction, said = search_progress(
        PLAN | {"time_budget_seconds": 20}, [trial(0, 0.5), trial(1, None, cut=True)], 1015.0
    )
    assert said == "trial 2: ridge was cut by the budget; best so far 0.5000 (ridge, trial 1); 5 s left"
    assert fraction == pytest.approx(0.05 + 0.75 * 0.75)
    assert search_progress(PLAN | {"time_budget_seconds": 20}, [trial(0, 0.5)], 1030.0)[1].endswith("0 s left")
