"""What else depends on a dataset: models made from it, retraining policies and schedules that name it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mcp_server.stores.alerts import PolicyRow
from mcp_server.stores.models import ModelRegistry

# Arguments of job tools that name datasets
_NAMING: Final = ("dataset", "inputs", "reference", "current", "foreign_keys")
_WORD: Final = re.compile(r"[a-z][a-z0-9_-]*(?:@[0-9]+)?")


class DatasetUsers:
    """Finds who uses datasets. Thread-safe."""

    def __init__(
        self,
        models: ModelRegistry,
        policies: Callable[[], Sequence[PolicyRow]],
        schedules: Callable[[], Sequence[Mapping[str, Any]]],
    ) -> None:
        self._models = models
        self._policies = policies
        self._schedules = schedules

    def __call__(self, references: Sequence[str]) -> list[str]:
        """Return what depends on any of the references, such as `model upset@1.0.0` and `schedule nightly`.

        Args:
            references: versions (`games@3`), and a bare name where no version of it would be left.
        """
        wanted = set(references)
        users = self._models.trained_on(references)
        users += [
            f"retraining policy of endpoint {row.endpoint}"
            for row in self._policies()
            if wanted & set(named_in(row.policy.get("training") or {}))
        ]
        users += [
            f"schedule {row['name']}" for row in self._schedules() if wanted & set(named_in(row.get("arguments") or {}))
        ]
        return users


def named_in(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dataset references that a job's arguments name; of SQL every word, for any may be one."""
    for name in _NAMING:
        yield from _references(arguments.get(name))
    yield from _WORD.findall(str(arguments.get("sql") or "").lower())


def _references(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.partition(".")[0]
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        yield from _references(value.get("references"))
