"""The search of a training and its durable record: what was found is kept when the training is not finished."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_server.runtime.search_progress import best_of
from mcp_server.stores.studies import StudyRecord, StudyStore

_SAME = ("number", "estimator", "params", "members", "share")
_SHOWN_FAMILIES = 20


def recipe_key(recipe: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    """Return what two trainings share exactly when each trial of one is the trial of the other."""
    text = json.dumps([dict(recipe), dict(lineage)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class SearchRecords:
    """Studies of trainings. Thread-safe."""

    def __init__(self, studies: StudyStore) -> None:
        self._studies = studies

    def begin(self, job_id: str, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Open the study of a training; returns the trials that an unfinished one of the same recipe has left."""
        key = recipe_key(plan["recipe"], plan["lineage"])
        left = self._studies.unfinished(key, other_than=job_id)
        facts = {name: plan[name] for name in ("name", "dataset", "search", "n_trials")}
        facts |= {"metric": plan["spec"]["metric"]}
        self._studies.start(job_id, key, facts, higher_is_better=plan["search"]["higher_is_better"])
        found = [] if left is None else left.results
        return [result for result in found if result["score"] is not None or result.get("pruned")]

    def record(self, plan: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Record a trial that ended.

        Raises:
            UnavailableError: the database does not answer.
        """
        from mcp_server.engine.sampling import frozen_trial
        from mcp_server.engine.search import Search

        search = Search.from_document(plan["search"])
        kinds = [*search.families, *search.ensembles]
        self._studies.record(plan["job_id"], frozen_trial(search, kinds, result), result)

    def with_known(self, plan: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the trials of a round; one that was made before carries its result as `known`."""
        known = {result["number"]: result for result in plan["found_before"]}
        asked = []
        for trial in trials:
            result = known.get(trial["number"])
            if result is None or any(result[name] != trial[name] for name in _SAME):
                asked.append(dict(trial))
                continue
            self.record(plan, result)
            asked.append(dict(trial) | {"known": result})
        return asked

    def finish(self, job_id: str) -> None:
        """Mark that a model came of it."""
        self._studies.finish(job_id)

    def results(self, job_id: str) -> list[dict[str, Any]]:
        """Return the trials of a search that are recorded, by number."""
        record = self._studies.read(job_id)
        return [] if record is None else record.results

    def findings(self, job_id: str) -> dict[str, Any] | None:
        """Return `message`, `hint` and `details` of a search that was cancelled; None when it had not begun."""
        record = self._studies.read(job_id)
        return None if record is None else _told(record)


def _told(record: StudyRecord) -> dict[str, Any]:
    from mcp_server.engine.search import Search, leaderboard

    facts, results = record.facts, record.results
    best = best_of(facts, results)
    details: dict[str, Any] = {
        "trials_finished": len(results),
        "trials_planned": facts["n_trials"],
        "metric": facts["metric"],
        "registered": False,
        "best": None,
        "leaderboard": leaderboard(Search.from_document(facts["search"]), results)[:_SHOWN_FAMILIES],
    }
    message = f"The job was cancelled after {len(results)} of {facts['n_trials']} trials; no model was registered."
    if best is not None:
        kept = ("number", "estimator", "params", "score", "score_std")
        details["best"] = {name: best.get(name) for name in kept}
        message += f" The best, {best['estimator']}, has a cross-validated {facts['metric']} of {best['score']:.4f}."
    if not results:
        return {"message": message, "hint": "Call train_model again to start anew.", "details": details}
    hint = (
        f"Call train_model with the same arguments: it goes on from these {len(results)} trials; "
        "or with fewer trials, or with details.best.estimator alone, to end sooner."
    )
    return {"message": message, "hint": hint, "details": details}
