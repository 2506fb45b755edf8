"""The one rule for what runs in the server itself: work that is estimated to take less than about a second.

The estimate is rough on purpose: a fixed part and a part for every million cells (rows × columns) that are read, taken
from measurements on two slow cores. What cannot be estimated (a remote source, a model to fit, a search) is long.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from mcp_server.errors import LifecycleError
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.predictions import PredictionStore
from mcp_server.stores.sources.files import SourceFiles

# Seconds: fixed, and for every million cells
_RATES: Final[Mapping[str, tuple[float, float]]] = {
    "describe_dataset": (0.3, 0.25),
    "validate_dataset": (0.05, 0.05),
    "suggest_suite": (0.2, 0.3),
    "check_integrity": (0.05, 0.1),
    "clean_dataset": (0.1, 0.3),
    "transform_dataset": (0.1, 0.3),
    "check_training_data": (0.4, 2.0),
    "evaluate_model": (0.4, 1.0),
    "compare_models": (0.4, 2.0),
    "predict_dataset": (0.3, 0.5),
    "check_drift": (0.4, 1.0),
    "check_performance": (0.3, 1.0),
}
_S_PER_COLUMN: Final = {"describe_dataset": 0.004, "suggest_suite": 0.004, "check_drift": 0.004}  # however few its rows
_IMPORT_S, _IMPORT_S_PER_BYTE, _COMPRESSED = 0.2, 5e-8, 10  # of a file; a compressed one holds about so many times more
_SAMPLE_S_PER_SEASON: Final = 0.05
_FITS: Final = {"knn", "iterative", "isolation_forest"}  # steps of cleaning that fit a model
_LOGGED_COLUMNS: Final = 20
_WORD: Final = re.compile(r"[a-z][a-z0-9_-]*")
_REMOTE: Final = ("s3:", "sql:", "https:", "nba:")
_COMPRESSIONS: Final = (".gz", ".bz2", ".zst")


def _nothing_is_known(_kind: str, _arguments: Mapping[str, Any]) -> bool:
    return False


class ShortWork:
    """Estimates how long the work of a job tool takes. Thread-safe."""

    def __init__(
        self,
        *,
        limit_s: float,
        datasets: DatasetStore,
        sources: SourceFiles,
        predictions: PredictionStore,
        is_known: Callable[[str, Mapping[str, Any]], bool] = _nothing_is_known,
        takes_long: Callable[[str, Mapping[str, Any]], bool] = _nothing_is_known,
    ) -> None:
        """Take the parts.

        Args:
            limit_s: what takes longer goes to a worker; 0 sends everything there.
            is_known: tells that the answer is kept already, so that giving it takes no time.
            takes_long: tells that the work takes long however little data there is.
        """
        self._limit_s = limit_s
        self._datasets = datasets
        self._sources = sources
        self._predictions = predictions
        self._is_known = is_known
        self._takes_long = takes_long

    def is_short(self, kind: str, arguments: Mapping[str, Any], wait_seconds: float) -> bool:
        """Return True when the work is to run in the server: it is short, and the caller waits that long."""
        if self._limit_s <= 0 or wait_seconds < self._limit_s:
            return False
        return self.estimate_s(kind, arguments) <= self._limit_s

    def estimate_s(self, kind: str, arguments: Mapping[str, Any]) -> float:
        """Return the seconds that the work will take, about; infinity where that cannot be said.

        What names something that does not exist takes no time: its refusal is there at once.
        """
        try:
            if self._is_known(kind, arguments):
                return 0.0
            if kind == "import_dataset":
                return self._import_s(arguments)
            if kind not in _RATES or _is_long(kind, arguments) or self._takes_long(kind, arguments):
                return math.inf
            fixed, per_million = _RATES[kind]
            cells, columns = self._size(kind, arguments)
            return fixed + per_million * cells / 1e6 + _S_PER_COLUMN.get(kind, 0.0) * columns
        except LifecycleError:
            return 0.0

    def _import_s(self, arguments: Mapping[str, Any]) -> float:
        source = str(arguments["source"])
        if source in ("nba://teams", "nba://players"):  # thousands of rows that a package carries
            return _IMPORT_S
        if source.startswith("nba://"):
            seasons = (arguments.get("options") or {}).get("seasons", 3)
            known = source == "nba://sample" and isinstance(seasons, int)
            return _IMPORT_S + _SAMPLE_S_PER_SEASON * seasons if known else math.inf
        if source.lower().startswith(_REMOTE):
            return math.inf
        if "://" in source:
            return 0.0  # nobody reads it
        files, _ = self._sources.find_parts(source, arguments.get("format"))
        sizes = (file.size_bytes * (_COMPRESSED if file.source.endswith(_COMPRESSIONS) else 1) for file in files)
        return _IMPORT_S + _IMPORT_S_PER_BYTE * sum(sizes)

    def _size(self, kind: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """Return the cells and the columns of all that is read."""
        references = [arguments.get(name) for name in ("dataset", "reference", "current")]
        references += arguments.get("inputs") or []
        references += [str(_parent(key)).partition(".")[0] for key in arguments.get("foreign_keys") or []]
        if arguments.get("sql"):
            words = set(_WORD.findall(str(arguments["sql"]).lower()))
            references += [name for name in self._datasets.names() if name in words]
        cells, columns = 0, 0
        for reference in dict.fromkeys(each for each in references if each):
            version = self._datasets.resolve(str(reference))
            cells += version.rows * len(version.columns)
            columns += len(version.columns)
        if kind in ("check_drift", "check_performance") and arguments.get("endpoint"):
            cells += self._predictions.count(arguments["endpoint"], at_most=100_000) * _LOGGED_COLUMNS
        return cells, columns


def _is_long(kind: str, arguments: Mapping[str, Any]) -> bool:
    """Return True where the size of the data says little about the time."""
    if kind == "validate_dataset":
        return bool(arguments.get("engine") == "gx")
    if kind == "clean_dataset":
        if (arguments.get("options") or {}).get("apply_plan"):
            return True  # the plan may have a model to ask
        steps = arguments.get("steps") or []
        options = [step.get("options") or {} for step in steps if isinstance(step, dict)]
        return any(_FITS & {str(value) for value in each.values()} for each in options)
    return False


def _parent(key: object) -> object:
    target = key.get("references", "") if isinstance(key, dict) else ""
    return target[0] if isinstance(target, list) and target else target
