"""The sources `s3://bucket/key`: one object, or the parts that a pattern or a folder names."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, shown
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings, RemoteSettings
from mcp_server.stores.fetching import Deadline, Saving, read_fetched, room_beside, safe_name, with_origin
from mcp_server.stores.s3 import Buckets, S3Location
from mcp_server.stores.sources.reader import Brought, Listed

_GLOB: Final = re.compile(r"[*?\[]")
_MAX_PARTS: Final = 10_000
_MAX_LISTED: Final = 100_000
_MAX_TOLD: Final = 100


class S3Sources:
    """Reads `s3://…`. Thread-safe."""

    def __init__(self, buckets: Buckets, remote: RemoteSettings, limits: LimitSettings) -> None:
        self._buckets = buckets
        self._remote = remote
        self._limits = limits

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Fetch the object, or all parts, that `source` names, and write the rows to `output`.

        Raises:
            PermissionDeniedError: the bucket may not be used, or its server refuses.
            NotFoundError: there is no such object; carries near keys.
            UnavailableError: the server is down or silent.
            ResourceExhaustedError: the source is too large or too slow.
            LifecycleError: as `SourceFiles.bring`.
        """
        place = self._buckets.location(source)
        deadline = Deadline.after(self._remote.transfer_timeout_s)
        progress(0.0, f"asking for {place}")
        with room_beside(output) as folder:
            notes: list[str] = []
            found = self._buckets.open(place) if place.key and not place.key.endswith("/") else None
            if found is not None:
                name = safe_name(place.key)
                saving = Saving(self._limits, deadline, progress, found.size_bytes)
                saving.save(found.parts(), folder / name)
                details: dict[str, Any] = {"etag": found.etag, "version_id": found.version_id}
            elif not place.key or place.key.endswith("/") or _GLOB.search(place.key):
                parts = self._parts_of(place, format)
                details = self._fetch(place.bucket, parts, folder, deadline, progress)
                name, notes = parts.pattern, parts.notes
            else:
                raise self._buckets.missing(place)
            brought = read_fetched(folder, name, self._limits, format, options, output, progress)
        brought = replace(brought, notes=[*brought.notes, *notes])
        return with_origin(brought, str(place), details)

    def listed(self) -> Sequence[Listed]:
        """Return the buckets that may be read."""
        return [Listed(f"s3://{name}/…", "s3") for name in self._buckets.names()]

    def _fetch(
        self, bucket: str, parts: "_Parts", folder: Path, deadline: Deadline, progress: Progress
    ) -> dict[str, Any]:
        """Save every part below `folder`, as its key lies below the fixed start of the pattern."""
        saving = Saving(self._limits, deadline, progress, sum(parts.sizes.values()))
        etags: list[str | None] = []
        for key in parts.sizes:
            found = self._buckets.open(S3Location(bucket, key))
            if found is None:
                raise NotFoundError("source", str(S3Location(bucket, key)), hint="It went away; call again.")
            path = folder.joinpath(*map(safe_name, key.removeprefix(parts.start).split("/")))
            if path.exists():
                raise InvalidArgumentError(
                    f"Key {shown(key)} is called like another one, but for odd characters.",
                    hint="Name fewer objects with a narrower pattern.",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            saving.save(found.parts(), path)
            etags.append(found.etag)
        keys = list(parts.sizes)
        return {"keys": keys[:_MAX_TOLD], "etags": etags[:_MAX_TOLD], "n_objects": len(keys)}

    def _parts_of(self, place: S3Location, format: str | None) -> "_Parts":
        """Find the objects of one format that a pattern or folder names, by name."""
        from mcp_server.stores.sources.parse import kind_of

        fixed = _GLOB.split(place.key, maxsplit=1)[0]
        known = self._buckets.keys(place.bucket, fixed, _MAX_LISTED)
        pattern = place.key if fixed != place.key else f"{place.key}*"
        found = {key: size for key, size in known if size and _matches(key, pattern)}
        formats: dict[str, str] = {}
        for key in found:
            with suppress(InvalidArgumentError):  # what a writer of parts leaves beside them
                formats[key] = kind_of(safe_name(key), format).format
        if not formats:
            near = [str(S3Location(place.bucket, key)) for key, _ in known[:1000]]
            said = f"{len(known)} keys begin with {shown(fixed)}, {len(found)} fit, none can be imported."
            raise NotFoundError("source", str(place), near, hint=said)
        if len(formats) > _MAX_PARTS:
            raise ResourceExhaustedError(
                f"{shown(str(place))} names {len(formats):,} objects; the limit is {_MAX_PARTS:,}.",
                hint="Name fewer with a narrower pattern.",
            )
        if len(set(formats.values())) > 1:
            raise InvalidArgumentError(
                f"{shown(str(place))} names objects of several formats: {', '.join(sorted(set(formats.values())))}.",
                hint="Parts have one format; name them with a pattern such as s3://bucket/folder/*.parquet.",
            )
        others = [key.rpartition("/")[2] for key in found if key not in formats]
        names = ", ".join(shown(name, 40) for name in others[:5])
        return _Parts(
            start=fixed[: fixed.rfind("/") + 1],
            pattern="/".join("*" for _ in pattern.removeprefix(fixed[: fixed.rfind("/") + 1]).split("/")),
            sizes={key: found[key] for key in formats},
            notes=[f"{len(others)} other objects were left out ({names})."] if others else [],
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The objects that a pattern names.

    Attributes:
        start: what all keys begin with, up to a slash.
        pattern: the depth of the keys below it, as a pattern of files.
        sizes: in bytes, by key.
        notes: on what was left out.
    """

    start: str
    pattern: str
    sizes: Mapping[str, int]
    notes: list[str]


def _matches(key: str, pattern: str) -> bool:
    """Return True when each part of the key, between its slashes, fits its part of the pattern."""
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(_fits, parts, wanted))


def _fits(name: str, wanted: str) -> bool:
    """Return True for the name itself, or one that fits the pattern and is not hidden."""
    return name == wanted or bool(_GLOB.search(wanted) and name[:1] not in "._" and fnmatchcase(name, wanted))
