"""What MLflow raises, as our errors: it does not answer, it refuses us, or what is asked for is not there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from mcp_server.errors import FailedPreconditionError, LifecycleError, UnavailableError, shown

MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
TAKEN = {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}
_OURS = {"INVALID_PARAMETER_VALUE", "INVALID_STATE", "FEATURE_DISABLED", "NOT_IMPLEMENTED"}
_REFUSED = {"PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED", "ENDPOINT_NOT_FOUND", "BAD_REQUEST"}
_PASSING_STATUS = {408, 429}  # of the client errors of HTTP, the ones that end by themselves
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_REASON_LENGTH = 300


@contextmanager
def explained() -> Iterator[None]:
    """Turn what MLflow raises into our errors; what is a bug stays what it is.

    Raises:
        UnavailableError: it does not answer, or fails inside; the same call may succeed later.
        FailedPreconditionError: it refuses us, or is no MLflow; somebody must change a setting.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as refusal:
        if refusal.error_code in _OURS | MISSING | TAKEN:
            raise
        raise (_refused if refusal.error_code in _REFUSED else _silent)(refusal) from refusal
    except OSError as refusal:  # an artifact's upload raises what its HTTP library does
        status = getattr(getattr(refusal, "response", None), "status_code", 500)
        final = 400 <= status < 500 and status not in _PASSING_STATUS
        raise (_refused if final else _silent)(refusal) from refusal
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as refusal:
        raise _silent(refusal) from refusal


def _silent(refusal: Exception) -> LifecycleError:
    return UnavailableError(
        "MLflow, which keeps runs, versions and stages, does not answer.",
        hint="See check_health, component mlflow; start MLflow again, then repeat the call.",
        details={"reason": _reason(refusal)},
    )


def _refused(refusal: Exception) -> LifecycleError:
    return FailedPreconditionError(
        f"MLflow, which keeps runs, versions and stages, refuses the request: {_reason(refusal)}",
        hint="Check NBA_MCP_MLFLOW__TRACKING_URI, the server's --allowed-hosts, and the credentials that MLflow reads "
        "from MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN.",
    )


def _reason(refusal: Exception) -> str:
    return shown(_CREDENTIALS.sub("", str(refusal)), _REASON_LENGTH)


@contextmanager
def passing_over(codes: set[str]) -> Iterator[None]:
    """Pass over MLflow's errors that have one of `codes`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as refusal:
        if refusal.error_code not in codes:
            raise
