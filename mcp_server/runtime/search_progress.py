"""What a running search says of itself: which trial, the best score so far, the time left."""

from collections.abc import Mapping, Sequence
from typing import Any

_FROM, _SPAN = 0.05, 0.75  # of the whole training: the plan comes before, the refit after


def search_progress(plan: Mapping[str, Any], history: Sequence[Mapping[str, Any]], now_s: float) -> tuple[float, str]:
    """Return how far a training is (0 to 1) after the trials in `history`, and that in words.

    Args:
        plan: of the training: `n_trials`, `time_budget_seconds`, `search_from`, `search.higher_is_better`.
        now_s: as `search_from`, since the epoch.
    """
    elapsed_s = max(0.0, now_s - plan["search_from"])
    done, budget_s = len(history), plan.get("time_budget_seconds")
    share = done / max(plan["n_trials"], done, 1)
    words = f"trial {done} of {plan['n_trials']}"
    if budget_s is not None:
        share = max(share, min(1.0, elapsed_s / budget_s))
        words = f"trial {done}"
    if history:
        words += f": {history[-1].get('estimator')} {_outcome(history[-1])}"
    best = best_of(plan, history)
    if best is not None and done > 1:
        words += f"; best so far {best['score']:.4f} ({best.get('estimator')}, trial {best['number'] + 1})"
    if budget_s is not None:
        words += f"; {max(0.0, budget_s - elapsed_s):.0f} s left"
    elif 0 < done < plan["n_trials"]:
        words += f"; about {elapsed_s / done * (plan['n_trials'] - done):.0f} s left"
    return _FROM + _SPAN * share, words


def best_of(plan: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the best trial on all rows; None while there is none."""
    sign = -1.0 if plan.get("search", {}).get("higher_is_better", False) else 1.0
    scored = [result for result in history if result.get("score") is not None and result.get("share", 1.0) == 1.0]
    return min(scored, key=lambda result: (sign * result["score"], result["number"]), default=None)


def _outcome(result: Mapping[str, Any]) -> str:
    score = result.get("score")
    if score is not None:
        share = result.get("share", 1.0)
        return f"scored {score:.4f}" + (f" on {share:.0%} of the rows" if share < 1 else "")
    return "was pruned" if result.get("pruned") else "was cut by the budget" if result.get("cut") else "failed"
