import os
from datetime import timedelta

from mcp_server.runtime.clock import ManualClock
from mcp_server.stores.artifacts import ArtifactStore


def test_what_a_killed_process_left_is_swept_after_a_day(artifacts: ArtifactStore, clock: ManualClock) -> None:
    with artifacts.temporary_path() as old, artifacts.temporary_folder() as folder, artifacts.temporary_path() as young:
        (folder / "spilled").write_bytes(b"x")
        long_ago = (clock.now() - timedelta(days=2)).timestamp()
        just_now = (clock.now() - timedelta(hours=1)).timestamp()
        for path, when in ((old, long_ago), (folder, long_ago), (young, just_now)):
            os.utime(path, (when, when))

        assert artifacts.sweep(clock.now()) == 2

        assert [path.exists() for path in (old, folder, young)] == [False, False, True]


def test_what_is_stored_is_not_swept(artifacts: ArtifactStore, clock: ManualClock) -> None:
    key = artifacts.put_bytes(b"kept")

    artifacts.sweep(clock.now() + timedelta(days=9_000))

    assert artifacts.read_bytes(key) == b"kept"
