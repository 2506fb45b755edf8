"""Loaded model versions that can score: least recently used out first, each loaded once however many ask.

A version never changes, so the end of an entry's life only asks for its file again. Where that file is damaged by then,
or the database away, what was loaded goes on serving for another life.
"""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from cachetools import LRUCache

from mcp_server.errors import FailedPreconditionError, LifecycleError, NotFoundError
from mcp_server.results.health import CacheFigures
from mcp_server.runtime.cache import LoadingCache
from mcp_server.runtime.clock import Clock
from mcp_server.settings import CacheSettings
from mcp_server.stores.model_versions import ModelVersion
from mcp_server.stores.models import ModelRegistry

if TYPE_CHECKING:
    import polars as pl

    from mcp_server.engine.scoring import Scorer

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A version that is loaded and can score.

    Attributes:
        classes: labels as probabilities are named, in their order.
        features: the columns it takes.
    """

    version: ModelVersion
    scorer: "Scorer"
    classes: tuple[str, ...]
    features: tuple[str, ...]


class ScorerCache:
    """Gives versions that are ready to score. Thread-safe."""

    def __init__(self, models: ModelRegistry, settings: CacheSettings, clock: Clock) -> None:
        self._models = models
        self._loaded: LoadingCache[ServedModel] = LoadingCache(settings.max_models, settings.ttl_s, clock.monotonic)
        self._last: LRUCache[str, ServedModel] = LRUCache(settings.max_models)
        self._lock = threading.Lock()  # of `_last`

    def get(self, ref: str) -> ServedModel:
        """Return a version, loading it where it is not in memory.

        Raises:
            NotFoundError: no such version.
            FailedPreconditionError: its file is damaged, and it was not loaded before.
            UnavailableError: the database is down, and it was not loaded before.
        """
        return self._loaded.get(ref, lambda: self._load_or_keep(ref))

    def has(self, ref: str) -> bool:
        """Return True when `get` would load nothing."""
        return self._loaded.has(ref)

    def sentence(self, ref: str) -> str:
        """Say how a version is scored and why; raises as `get` does."""
        scorer = self.get(ref).scorer
        return f"{scorer.path}: {scorer.reason}"

    def figures(self) -> CacheFigures:
        """Return the figures of the cache."""
        counts = self._loaded.counts()
        asked = counts.hits + counts.misses
        return CacheFigures(
            name="models",
            size=counts.size,
            capacity=counts.capacity,
            hits=counts.hits,
            misses=counts.misses,
            evictions=counts.evictions,
            expired=counts.expired,
            hit_rate=round(counts.hits / asked, 4) if asked else None,
            ttl_seconds=counts.ttl_s,
        )

    def _load_or_keep(self, ref: str) -> ServedModel:
        with self._lock:
            last = self._last.pop(ref, None)
        try:
            served = self._load(ref)
        except NotFoundError:  # deleted since
            raise
        except LifecycleError as failure:
            if last is None:
                raise
            logger.error("model_not_read_again", model=ref, reason=failure.message)
            served = last
        with self._lock:
            self._last[ref] = served
        return served

    def _load(self, ref: str) -> ServedModel:
        from mcp_server.engine.predictions import Signature
        from mcp_server.engine.scoring import build_scorer

        version = self._models.resolve(ref)
        given = version.signature
        signature = Signature(given.inputs, given.target, given.task, given.classes, given.threshold)
        scorer = build_scorer(self._models.load(version), signature, self._reference(version))
        names = tuple(column.name for column in given.inputs)
        return ServedModel(version, scorer, tuple(str(label) for label in given.classes), names)

    def _reference(self, version: ModelVersion) -> "pl.DataFrame | None":
        if version.reference_artifact is None:
            return None
        try:
            return self._models.reference(version)
        except FailedPreconditionError as failure:  # the model itself is whole: it serves by its own pipeline
            logger.warning("reference_not_read", model=version.ref, reason=failure.message)
            return None
