"""MLflow's own file: made once, whole, by whoever comes first."""

import subprocess
import sys
from pathlib import Path

import pytest

from mcp_server.stores.mlflow_opening import TrackingPlace, make_client

_OPEN = """
import sys, pathlib
from mcp_server.stores.mlflow_opening import TrackingPlace, make_client
import mlflow.tracking
print("ready", flush=True)
sys.stdin.readline()
folder = pathlib.Path(sys.argv[1])
place = TrackingPlace(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", None, "test", 5.0)
print(len(make_client(place).search_experiments()))
"""


@pytest.mark.slow
def test_processes_that_open_a_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    answers = [opener.communicate(timeout=60)[0].strip() for opener in openers]

    assert answers == ["1", "1"]


def test_a_file_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.unfinished").write_bytes(b"SQLite format 3\0 and then the power went")
    place = TrackingPlace(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", None, "test", 5.0)

    assert [experiment.name for experiment in make_client(place).search_experiments()] == ["Default"]
