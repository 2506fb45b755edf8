"""Studies are kept in Optuna's tables, on both databases: made once, each trial once, found again by recipe."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa

from mcp_server.engine.sampling import frozen_trial
from mcp_server.engine.search import Search, plan_search
from mcp_server.stores.database import Database
from mcp_server.stores.studies import StudyStore

KEY = "k" * 32


def search() -> Search:
    return plan_search(
        "bayesian", ["ridge", "random_forest"], 9, None, task="regression", seed=0, higher_is_better=False
    )


def result(number: int, score: float | None, **rest: Any) -> dict[str, Any]:
    params = {part.name: part.default for part in search().spaces["ridge"]}
    folds = [] if score is None else [score, score]
    base = {"number": number, "estimator": "ridge", "params": params, "members": [], "score": score}
    return base | {"fold_scores": folds} | rest


@pytest.fixture
def studies(database: Database, tmp_path: Path) -> Iterator[StudyStore]:
    store = StudyStore(database, tmp_path)
    yield store
    store.close()


def record(store: StudyStore, job_id: str, found: dict[str, Any]) -> None:
    store.record(job_id, frozen_trial(search(), search().families, found), found)


def test_a_study_keeps_each_trial_once_with_its_state(studies: StudyStore) -> None:
    studies.start("job1", KEY, {"n_trials": 9}, higher_is_better=False)
    studies.start("job1", KEY, {"n_trials": 9}, higher_is_better=False)
    pruned = result(2, None, fold_scores=[3.0, 4.0], pruned=True)
    for found in (result(1, 0.5), result(0, 0.25), pruned, result(1, 0.5), result(3, None, error="no")):
        record(studies, "job1", found)
    kept = studies.read("job1")
    assert kept is not None
    assert kept.facts == {"n_trials": 9}
    assert not kept.finished
    assert kept.results == [result(0, 0.25), result(1, 0.5), pruned, result(3, None, error="no")]
    with studies._storage() as storage:
        study = optuna.load_study(study_name=f"job1/{KEY}", storage=storage)
        states = sorted(trial.state.name for trial in study.trials)
        assert states == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED"]
        assert study.best_value == 0.25
        assert study.best_params["estimator"] == "ridge"
        assert {
            t.user_attrs["number"]: list(t.intermediate_values.values())
            for t in study.trials
            if t.state.name == "PRUNED"
        } == {2: [3.0, 3.5]}


def test_an_unfinished_study_is_found_by_its_recipe_until_a_model_came_of_it(studies: StudyStore) -> None:
    assert studies.unfinished(KEY, other_than="job2") is None
    studies.start("job1", KEY, {}, higher_is_better=True)
    record(studies, "job1", result(0, 0.5))
    assert studies.unfinished("x" * 32, other_than="job2") is None
    assert studies.unfinished(KEY, other_than="job1") is None
    found = studies.unfinished(KEY, other_than="job2")
    assert found is not None
    assert found.results == [result(0, 0.5)]
    studies.finish("job1")
    assert studies.unfinished(KEY, other_than="job2") is None


def test_only_the_newest_studies_are_kept_and_nothing_is_left_of_the_others(database: Database, tmp_path: Path) -> None:
    store = StudyStore(database, tmp_path, keep=2)
    for index in range(4):
        store.start(f"job{index}", KEY, {}, higher_is_better=True)
        record(store, f"job{index}", result(0, 0.5))
    assert [store.read(f"job{index}") is not None for index in range(4)] == [False, False, True, True]
    with store._storage() as storage, storage.engine.connect() as connection:
        for table in ("trials", "trial_values", "study_user_attributes"):
            assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 2
    store.close()


def test_stores_that_open_at_once_make_the_tables_together(database: Database, tmp_path: Path) -> None:
    stores = [StudyStore(database, tmp_path) for _ in range(4)]
    failures: list[Exception] = []

    def start(index: int) -> None:
        try:
            stores[index].start(f"job{index}", KEY, {}, higher_is_better=True)
        except Exception as failure:  # noqa: BLE001  # why: raised in a thread, judged below
            failures.append(failure)

    threads = [threading.Thread(target=start, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(stores[0].read(f"job{index}") is not None for index in range(4))
    for store in stores:
        store.close()
