"""A single large fit or cross-validation on a Dask cluster: its joblib tasks go to the cluster's workers.

Used only where a scheduler's address is set and the fit is large: `LARGE_CELLS` rows × columns or more. Below that the
way to the cluster and back takes longer than the fit. TLS is Dask's own configuration (`distributed.comm.tls`, or
`DASK_DISTRIBUTED__COMM__TLS__…` in the environment).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import joblib

from mcp_server.errors import FailedPreconditionError, UnavailableError

LARGE_CELLS = 5_000_000
SETTING = "NBA_MCP_DASK__SCHEDULER"


def is_large(n_rows: int, n_columns: int) -> bool:
    """Return True when a fit has `LARGE_CELLS` rows × columns or more."""
    return n_rows * n_columns >= LARGE_CELLS


def cluster_for(cluster: Mapping[str, Any] | None, n_rows: int, n_columns: int) -> AbstractContextManager[None]:
    """Return the context to fit in: that of the cluster (`scheduler`, `timeout_s`) where there is one and it pays."""
    if cluster is None or not is_large(n_rows, n_columns):
        return nullcontext()
    return dask_cluster(cluster["scheduler"], cluster["timeout_s"])


@contextmanager
def dask_cluster(scheduler: str, timeout_s: float) -> Iterator[None]:
    """Send joblib's tasks to the cluster at `scheduler` while the context is open.

    A fit takes part unless it asks for one task at a time: an estimator's `n_jobs=None` means one without a cluster
    and all with it. What comes out is what one process would give, because each task carries its own seed and joblib
    returns them in order.

    Args:
        scheduler: address such as `tcp://10.0.0.5:8786` or `tls://…`.
        timeout_s: longest wait for it.

    Raises:
        FailedPreconditionError: the package is not installed.
        UnavailableError: no scheduler answers there in time, it has no workers, or they are lost; never repeats the
            address's credentials.
    """
    try:
        from distributed import Client, KilledWorker
        from distributed.client import FutureCancelledError
    except ImportError:
        raise FailedPreconditionError(
            f"{SETTING} is set, but the package distributed is not installed.",
            hint="Install nba-mcp[dask], or empty the setting.",
        ) from None
    try:
        client = Client(scheduler, timeout=timeout_s, set_as_default=False)  # type: ignore[no-untyped-call]
    except (TimeoutError, OSError, ValueError):
        raise _unavailable(f"No Dask scheduler answered at {_place(scheduler)} within {timeout_s:g} s.") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=timeout_s)
            with joblib.parallel_config(backend="dask", n_jobs=-1, client=client, wait_for_workers_timeout=timeout_s):
                yield
        except TimeoutError:
            raise _unavailable(f"The Dask scheduler at {_place(scheduler)} has no workers.") from None
        except (OSError, FutureCancelledError, KilledWorker) as loss:
            raise _unavailable(
                f"The Dask cluster at {_place(scheduler)} was lost in the middle of a fit ({type(loss).__name__})."
            ) from None


def _unavailable(message: str) -> UnavailableError:
    return UnavailableError(message, hint=f"Start it, or correct or empty {SETTING}.", details={"setting": SETTING})


def _place(scheduler: str) -> str:
    """Return scheme, host and port of an address, without user and password."""
    try:
        parts = urlsplit(scheduler if "://" in scheduler else f"tcp://{scheduler}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the address set"
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") if host else "the address set"
