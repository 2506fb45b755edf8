"""The ranges of a search: the usual ones of each family, and those a caller puts in their place."""

from collections.abc import Mapping
from typing import Any

from mcp_server.engine.estimators import COLUMN_PREFIX, FAMILIES, Building, Parameter
from mcp_server.engine.metrics import Task
from mcp_server.errors import InvalidArgumentError, shown

_NOT_SEARCHED = frozenset({"n_jobs", "random_state", "verbose", "class_weight", "warm_start", "scoring", "estimator"})


def overridden(
    spaces: Mapping[str, list[Parameter]], overrides: Mapping[str, Any] | None, task: Task
) -> dict[str, list[Parameter]]:
    """Return the spaces of the families that `overrides` changes.

    Raises:
        InvalidArgumentError: nothing to search, an estimator or parameter that is not searched, a range without values.
    """
    if overrides is None:
        return {}
    if not overrides:
        raise InvalidArgumentError(
            "search_space is empty.", hint="Leave it out for the usual ranges, or name an estimator."
        )
    changed: dict[str, list[Parameter]] = {}
    for family, ranges in overrides.items():
        if family not in spaces or family.startswith(COLUMN_PREFIX):
            raise InvalidArgumentError(
                f"search_space names {shown(family)}, which is not searched.",
                hint=f"The search tries {', '.join(spaces)}.",
            )
        if not isinstance(ranges, Mapping) or not ranges:
            raise InvalidArgumentError(
                f"search_space of {family} is empty.",
                hint='For example {"ridge": {"alpha": {"low": 0.1, "high": 10, "log": true}}}.',
            )
        known = {part.name: part for part in spaces[family]}
        allowed = _settable(family, task) | set(known)
        for name, given in ranges.items():
            if name not in allowed:
                raise InvalidArgumentError(
                    f"{family} has no parameter {shown(name)} to search.",
                    hint=f"It has {', '.join(sorted(allowed))[:300]}.",
                )
            known[name] = _range(family, name, given, known.get(name))
        changed[family] = list(known.values())
    return changed


def _settable(family: str, task: Task) -> set[str]:
    estimator = FAMILIES[family].build({}, Building(task, 0, 1000))
    return {
        name
        for name, value in estimator.get_params(deep=False).items()
        if name not in _NOT_SEARCHED and (value is None or isinstance(value, str | int | float))
    }


def _range(family: str, name: str, given: Any, usual: Parameter | None) -> Parameter:
    where = f"search_space {family}.{name}"
    if isinstance(given, Mapping) and "choices" in given:
        given = given["choices"]
    if not isinstance(given, list | Mapping):
        given = [given]
    if isinstance(given, list):
        if not given or not all(value is None or isinstance(value, str | int | float) for value in given):
            raise InvalidArgumentError(f"{where} has no values to try.", hint="Give a list of plain values.")
        keeps = usual is not None and usual.default in given
        return Parameter(name, usual.default if usual and keeps else given[0], tuple(given), "choice")
    low, high, log = given.get("low"), given.get("high"), bool(given.get("log", False))
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not low <= high or (log and low <= 0) or set(given) - {"low", "high", "log"}:
        raise InvalidArgumentError(
            f"{where} is an empty or unclear range.",
            hint='Give {"low": 0.01, "high": 10, "log": true} with low at most high (above 0 for log).',
        )
    whole = isinstance(low, int) and isinstance(high, int) and (usual is None or usual.kind == "int")
    middle = (low * high) ** 0.5 if log else (low + high) / 2
    ends = [low, middle, high]
    grid = tuple(dict.fromkeys(round(x) for x in ends) if whole else dict.fromkeys(float(x) for x in ends))
    default = grid[len(grid) // 2]
    return Parameter(name, default, grid, "int" if whole else "float", low, high, log)
