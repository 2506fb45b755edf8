"""Model files whose bytes depend on the model alone."""

import io
import time
import zipfile
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mcp_server.engine.canonical_files import canonical_file
from mcp_server.engine.model_files import TRUSTED_TYPES

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)


def forest() -> Any:
    return make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=3)).fit(ROWS, LABELS)


def neighbours_of_sparse_rows() -> Any:
    return KNeighborsClassifier(3, algorithm="brute").fit(scipy.sparse.csr_matrix(ROWS), LABELS)


def shared_parts() -> Any:
    part = LogisticRegression().fit(ROWS, LABELS)
    return {"first": part, "again": part, "__id__": 3, "file": "schema.json", "words": ["a", "a"]}


@pytest.mark.parametrize("make", [forest, neighbours_of_sparse_rows, shared_parts])
def test_equal_models_give_equal_files_that_hold_the_same(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = skops.io.dumps(make())
    later = time.localtime(time.time() + 86_400)
    monkeypatch.setattr(time, "localtime", lambda *_: later)  # an archive's members say when they were written
    kept = make()
    second = skops.io.dumps(make())
    assert first != second
    assert canonical_file(first) == canonical_file(second)
    loaded = skops.io.loads(canonical_file(first), trusted=sorted(TRUSTED_TYPES))
    if isinstance(kept, dict):
        assert loaded["first"] is loaded["again"]
        assert {key: loaded[key] for key in ("__id__", "file", "words")} == {
            key: kept[key] for key in ("__id__", "file", "words")
        }
        loaded, kept = loaded["first"], kept["first"]
    np.testing.assert_array_equal(loaded.predict_proba(ROWS), kept.predict_proba(ROWS))


def test_a_canonical_file_stays_as_it_is_and_is_smaller() -> None:
    data = skops.io.dumps(forest())
    canonical = canonical_file(data)
    assert canonical_file(canonical) == canonical
    assert len(canonical) < len(data)
    with zipfile.ZipFile(io.BytesIO(canonical)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "1.npy"


def test_models_that_differ_give_files_that_differ() -> None:
    others = [make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(ROWS, LABELS) for c in (1.0, 2.0)]
    assert canonical_file(skops.io.dumps(others[0])) != canonical_file(skops.io.dumps(others[1]))
