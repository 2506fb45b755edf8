"""The sources `s3://bucket/key`: one object, or the parts that a pattern or a folder names."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, shown
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings, RemoteSettings
from mcp_server.stores.fetching import Deadline, Saving, read_fetched, room_beside, safe_name, with_origin
from mcp_server.stores.s3 import Buckets, S3Location
from mcp_server.stores.sources_reader import Brought, Listed

_GLOB: Final = re.compile(r"[*?\[]")
_MAX_PARTS: Final = 10_000
_MAX_LISTED: Final = 100_000


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
            found = self._buckets.open(place) if place.key and not place.key.endswith("/") else None
            if found is not None:
                name = safe_name(place.key)
                saving = Saving(self._limits, deadline, progress, found.size_bytes)
                saving.save(found.parts(), folder / name)
                details: dict[str, Any] = {"etag": found.etag, "version_id": found.version_id}
            elif not place.key or place.key.endswith("/") or _GLOB.search(place.key):
                name, details = "parts", self._fetch_parts(place, folder / "parts", deadline, progress)
            else:
                raise self._buckets.missing(place)
            brought = read_fetched(folder, name, self._limits, format, options, output, progress)
        return with_origin(brought, str(place), details)

    def listed(self) -> Sequence[Listed]:
        """Return the buckets that may be read."""
        return [Listed(f"s3://{name}/…", "s3") for name in self._buckets.names()]

    def _fetch_parts(self, place: S3Location, folder: Path, deadline: Deadline, progress: Progress) -> dict[str, Any]:
        """Save every object that `place` names below `folder`, under names in the order of their keys."""
        keys = self._parts_of(place)
        saving = Saving(self._limits, deadline, progress, sum(size for _, size in keys))
        folder.mkdir()
        etags: list[str | None] = []
        for number, (key, _) in enumerate(keys):
            found = self._buckets.open(S3Location(place.bucket, key))
            if found is None:
                raise NotFoundError("source", str(S3Location(place.bucket, key)), hint="It went away; call again.")
            saving.save(found.parts(), folder / f"{number:05d}-{safe_name(key)}")
            etags.append(found.etag)
        return {"keys": [key for key, _ in keys[:100]], "etags": etags[:100], "n_objects": len(keys)}

    def _parts_of(self, place: S3Location) -> list[tuple[str, int]]:
        """Return the keys and sizes of the objects that a pattern or folder names, by name."""
        start = _GLOB.split(place.key, maxsplit=1)[0]
        known = self._buckets.keys(place.bucket, start, _MAX_LISTED)
        pattern = place.key if start != place.key else f"{place.key}*"
        found = [(key, size) for key, size in known if size and _matches(key, pattern) and not _is_hidden(key)]
        if not found:
            near = [str(S3Location(place.bucket, key)) for key, _ in known[:1000]]
            raise NotFoundError("source", str(place), near, hint=f"{len(known)} keys begin with {shown(start)}.")
        if len(found) > _MAX_PARTS:
            raise ResourceExhaustedError(
                f"{shown(str(place))} names {len(found):,} objects; the limit is {_MAX_PARTS:,}.",
                hint="Name fewer with a narrower pattern.",
            )
        endings = sorted({Path(key).suffix.lower() for key, _ in found})
        if len(endings) > 1:
            raise InvalidArgumentError(
                f"{shown(str(place))} names objects of several kinds: {', '.join(map(shown, endings[:10]))}.",
                hint="Name one kind, such as s3://bucket/folder/*.parquet.",
            )
        return found


def _matches(key: str, pattern: str) -> bool:
    """Return True when each part of the key, between its slashes, fits its part of the pattern."""
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _is_hidden(key: str) -> bool:
    """Return True for what writers of parts leave beside them, such as `_SUCCESS`."""
    return key.rpartition("/")[2].startswith(("_", "."))
