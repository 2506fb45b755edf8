"""LightGBM and XGBoost: silent, repeatable, saved as text, refused where that text was tampered with."""

import copy
import hashlib
import importlib.util
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mcp_server.engine.boosting import (
    PACKAGES,
    BoostedTrees,
    LightGBMClassifier,
    LightGBMRegressor,
    XGBoostClassifier,
    XGBoostRegressor,
    import_booster,
)
from mcp_server.engine.estimators import resolve_estimators
from mcp_server.engine.model_files import dump_model, load_model
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError
from tests.engine.models import need_booster

CLASSIFIERS: dict[str, Any] = {"lightgbm": LightGBMClassifier, "xgboost": XGBoostClassifier}
REGRESSORS: dict[str, Any] = {"lightgbm": LightGBMRegressor, "xgboost": XGBoostRegressor}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    need_booster(name)
    return name


def rows(n_rows: int = 800, seed: int = 0) -> tuple[Any, Any]:
    """Return a matrix with gaps, and what decides the target: a product, so that no linear model finds it."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_rows, 4))
    signal = features[:, 0] * features[:, 1]
    features[rng.random(features.shape) < 0.05] = np.nan
    return features, signal


def test_a_product_of_two_columns_with_gaps_is_found(package: str) -> None:
    features, signal = rows(2000)
    fresh, truth = rows(2000, seed=1)
    model = CLASSIFIERS[package](random_state=3).fit(features, signal > 0)
    assert roc_auc_score(truth > 0, model.predict_proba(fresh)[:, 1]) > 0.93
    values = REGRESSORS[package](random_state=3).fit(features, signal)
    assert np.corrcoef(values.predict(fresh), truth)[0, 1] > 0.85


def test_the_same_seed_gives_the_same_bytes(package: str) -> None:
    features, signal = rows()
    first, second = (CLASSIFIERS[package](random_state=5).fit(features, signal > 0) for _ in range(2))
    other = CLASSIFIERS[package](random_state=6).fit(features, signal > 0)
    assert first.model_ == second.model_
    assert first.model_ != other.model_  # other rows said when to stop


def test_one_class_in_two_hundred_is_weighed(package: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3))
    rare = np.arange(4000) % 200 == 0
    features[rare, 0] += 2
    weighed = CLASSIFIERS[package](class_weight="balanced").fit(features, rare)
    plain = CLASSIFIERS[package]().fit(features, rare)
    assert weighed.predict(features)[rare].mean() > plain.predict(features)[rare].mean()
    assert weighed.predict(features)[rare].mean() > 0.7


def test_copies_of_every_kind_predict_the_same(package: str) -> None:
    features, signal = rows()
    model = CLASSIFIERS[package]().fit(features, np.digitize(signal, [-0.5, 0.5]))
    expected = model.predict_proba(features)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(features), expected)


def test_huge_and_infinite_numbers_do_not_fail(package: str) -> None:
    features, signal = rows()
    features[0, 0], features[1, 0], features[2, 1] = np.inf, -1e308, 1e300
    model = REGRESSORS[package]().fit(features, signal)
    assert np.isfinite(model.predict(features)).all()


@pytest.mark.parametrize("n_rows", [2, 30, 499, 500])
def test_few_rows_are_enough(package: str, n_rows: int) -> None:
    features, signal = rows(n_rows)
    labels = np.zeros(n_rows, dtype=int)
    labels[0] = 1  # a class with one row
    assert np.isfinite(CLASSIFIERS[package]().fit(features, labels).predict_proba(features)).all()
    assert np.isfinite(REGRESSORS[package]().fit(features, signal).predict(features)).all()


@pytest.mark.slow
def test_nothing_is_written_to_the_streams_of_a_process(package: str) -> None:
    program = f"""
import warnings; warnings.simplefilter("error")
import numpy as np
from tests.engine.test_boosting import CLASSIFIERS
model = CLASSIFIERS[{package!r}]().fit(np.zeros((600, 2)), np.arange(600) % 2)
model.predict_proba(np.zeros((3, 2)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def tampered(model: BoostedTrees, change: str) -> BoostedTrees:
    if isinstance(model, LightGBMRegressor):
        wanted = {"child": "left_child=", "feature": "split_feature=", "kind": "decision_type="}[change]
        lines = model.model_.decode().splitlines()
        place = next(i for i, line in enumerate(lines) if line.startswith(wanted))
        lines[place] = wanted + " ".join(["1000001", *lines[place].removeprefix(wanted).split()[1:]])
        model.model_ = "\n".join(lines).encode()
        return model
    document = json.loads(model.model_)
    wanted = {"child": "left_children", "feature": "split_indices", "kind": "split_type"}[change]
    document["learner"]["gradient_booster"]["model"]["trees"][0][wanted][0] = 1000001
    model.model_ = json.dumps(document).encode()
    return model


@pytest.mark.parametrize("change", ["child", "feature", "kind"])
def test_a_text_that_points_outside_itself_is_refused(package: str, change: str) -> None:
    features, signal = rows()
    data = dump_model(tampered(REGRESSORS[package](n_estimators=3).fit(features, signal), change))
    with pytest.raises(InvalidArgumentError, match="damaged: a boosted model"):
        load_model(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("text", [b"", b"tree\n", b"{}", b"[]", b"\xff\x00", b"null"])
def test_a_text_that_is_no_model_is_refused(package: str, text: bytes) -> None:
    features, signal = rows(100)
    model = REGRESSORS[package](n_estimators=3).fit(features, signal)
    model.model_ = text
    data = dump_model(model)
    with pytest.raises(InvalidArgumentError, match="damaged: a boosted model"):
        load_model(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("package_name", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(package_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package_name else found(name))
    with pytest.raises(FailedPreconditionError, match="not installed") as refusal:
        resolve_estimators([package_name], "binary", 1000, [])
    assert "nba-mcp[boosting]" in str(refusal.value.hint)


def test_a_package_whose_shared_library_is_missing_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "lightgbm.py").write_text(f"raise OSError({words!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    with pytest.raises(FailedPreconditionError, match=r"cannot be loaded: libgomp\.so\.1") as refusal:
        import_booster("lightgbm")
    assert "libgomp1" in str(refusal.value.hint)
