"""A real MLflow tracking server for the tests, started as a user would: it can be frozen and killed."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_STARTS_WITHIN_S = 120.0


class MlflowServer:
    """`mlflow server` on a port of its own, with its database and its artifacts in a folder."""

    def __init__(self, folder: Path, tables: Path, command: str = "server") -> None:
        """Hold what it will be started with.

        Args:
            folder: for `mlflow.db`, `served-artifacts` and a log.
            tables: an SQLite file with MLflow's tables, copied if the folder has none.
            command: `server` with artifacts that it serves, or `ui` on what is in the folder.
        """
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "mlflow.db").exists():
            shutil.copyfile(tables, folder / "mlflow.db")

    def start(self) -> None:
        """Start it, and return once it answers."""
        arguments = [self._command, "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        arguments += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        if self._command == "server":
            arguments += ["--artifacts-destination", str(self.folder / "served-artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = _spawn([str(Path(sysconfig.get_path("scripts")) / "mlflow"), *arguments], environment, log)
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("The MLflow server did not start: " + (self.folder / "server.log").read_text()[-2000:])

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all its processes at once."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@contextmanager
def run_mlflow(folder: Path, tables: Path, command: str = "server") -> Iterator[MlflowServer]:
    """Start a server and end it at the end, whatever has become of it meanwhile."""
    server = MlflowServer(folder, tables, command)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _spawn(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
