"""Buckets on S3 and its likes, through boto3: only those that the settings name are read or written."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from mcp_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    shown,
)
from mcp_server.settings import RemoteSettings, S3Settings
from mcp_server.stores.fetching import Deadline

logger = structlog.get_logger(__name__)

_CHUNK_BYTES: Final = 128 * 1024
_PART_BYTES: Final = 64 * 1024**2  # of a multipart upload; S3 allows 10,000 parts, each at least 5 MiB
_NEAR_KEYS: Final = 1000
_DEFAULT_REGION: Final = "us-east-1"  # what servers of one's own expect
_CREDENTIALS: Final = {
    "ExpiredToken",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
}
_OTHER_REGION: Final = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}
_FULL: Final = {"EntityTooLarge", "QuotaExceeded", "InsufficientStorage", "507"}
_SET_KEYS: Final = "Set NBA_MCP_S3__ACCESS_KEY_ID and NBA_MCP_S3__SECRET_ACCESS_KEY, or boto3's own variables."


@dataclass(frozen=True, slots=True)
class S3Location:
    """A place in a bucket; an empty key, or one that ends in a slash, is a folder."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object that was opened for reading."""

    size_bytes: int
    etag: str | None
    version_id: str | None
    body: Any

    def parts(self) -> Iterator[bytes]:
        """Yield its bytes.

        Raises:
            UnavailableError: the server broke off or fell silent.
        """
        with explained("s3"):
            yield from self.body.iter_chunks(_CHUNK_BYTES)


class Buckets:
    """The buckets that may be used. Thread-safe; the client is made when it is first needed."""

    def __init__(self, settings: S3Settings, remote: RemoteSettings) -> None:
        self._settings = settings
        self._remote = remote
        self._making = threading.Lock()
        self._client: Any = None

    def names(self) -> tuple[str, ...]:
        """Return the buckets that may be used."""
        return self._settings.buckets

    def location(self, address: str, word: str = "Source") -> S3Location:
        """Return the place that `address` spells; its key is taken as it stands.

        Raises:
            PermissionDeniedError: its bucket may not be used.
            InvalidArgumentError: it is no address of a bucket.
        """
        match = re.fullmatch(r"[sS]3://([^/]+)(?:/(.*))?", address)
        key = (match[2] or "") if match is not None else ""
        if match is None or not key.isprintable() or len(key.encode()) > 1024:
            raise InvalidArgumentError(f"{word} {shown(address)} is no s3://bucket/key.", hint="Mend the address.")
        if match[1] not in self._settings.buckets:
            known = ", ".join(self._settings.buckets[:20]) or "none"
            raise PermissionDeniedError(
                f"{word} {shown(address)} is not allowed: bucket {shown(match[1])} may not be used.",
                hint=f"Allowed: {known}. NBA_MCP_S3__BUCKETS names the buckets that may be read and written.",
            )
        return S3Location(match[1], key)

    def open(self, place: S3Location) -> S3Object | None:
        """Open an object for reading; None when there is none.

        Raises:
            LifecycleError: as `explained`.
        """
        from botocore.exceptions import ClientError

        with explained(str(place)):
            try:
                answer = self._connected().get_object(Bucket=place.bucket, Key=place.key)
            except ClientError as refusal:
                if _code(refusal) == "NoSuchKey":
                    return None
                raise
        return S3Object(answer["ContentLength"], _unquoted(answer.get("ETag")), answer.get("VersionId"), answer["Body"])

    def exists(self, place: S3Location) -> bool:
        """Return True when there is an object."""
        from botocore.exceptions import ClientError

        with explained(str(place)):
            try:
                self._connected().head_object(Bucket=place.bucket, Key=place.key)
            except ClientError as refusal:
                if _code(refusal) in ("404", "NoSuchKey"):
                    return False
                raise
        return True

    def keys(self, bucket: str, prefix: str, limit: int) -> list[tuple[str, int]]:
        """Return up to `limit` keys that begin with `prefix`, with their sizes in bytes, by name."""
        found: list[tuple[str, int]] = []
        with explained(f"s3://{bucket}/{prefix}"):
            pages = self._connected().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                found += [(entry["Key"], entry["Size"]) for entry in page.get("Contents", ())]
                if len(found) >= limit:
                    break
        return found[:limit]

    def missing(self, place: S3Location) -> NotFoundError:
        """Return the error for an object that is not there, with near names where they may be listed."""
        folder = place.key[: place.key.rfind("/") + 1]
        try:
            inside = self.keys(place.bucket, f"{place.key}/", 1)
            known = [str(S3Location(place.bucket, key)) for key, _ in self.keys(place.bucket, folder, _NEAR_KEYS)]
        except LifecycleError:  # who may read may still not list
            inside, known = [], []
        hint = f"It is a folder: {shown(f'{place}/')} names the objects in it." if inside else ""
        return NotFoundError("source", str(place), known, hint=hint or f"{len(known)} keys lie beside it.")

    def upload(self, path: Path, place: S3Location, *, overwrite: bool) -> None:
        """Store the file at `path` as one object, whole or not at all.

        Raises:
            AlreadyExistsError: there is one, and `overwrite` is false; also when it came meanwhile.
            LifecycleError: as `explained`.
        """
        from botocore.exceptions import ClientError

        condition = {} if overwrite else {"IfNoneMatch": "*"}
        where = {"Bucket": place.bucket, "Key": place.key}
        deadline = Deadline.after(self._remote.transfer_timeout_s)
        with explained(str(place)):
            try:
                if path.stat().st_size <= _PART_BYTES:
                    with path.open("rb") as file:
                        self._connected().put_object(Body=file, **where, **condition)
                else:
                    self._upload_parts(path, where, condition, deadline)
            except ClientError as refusal:
                if _code(refusal) in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
                    raise taken(place) from None
                raise

    def _upload_parts(
        self, path: Path, where: Mapping[str, str], condition: Mapping[str, str], deadline: Deadline
    ) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._connected()
        upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            with path.open("rb") as file:
                while data := file.read(_PART_BYTES):
                    deadline.check()
                    answer = client.upload_part(Body=data, PartNumber=len(parts) + 1, **upload)
                    parts.append({"PartNumber": len(parts) + 1, "ETag": answer["ETag"]})
            client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload, **condition)
        except BaseException:  # why: also an interrupt must not leave paid-for parts behind; it is raised again
            try:
                client.abort_multipart_upload(**upload)
            except (BotoCoreError, ClientError) as failure:  # the first failure is the one to tell
                logger.warning("s3_upload_not_aborted", place=str(where), reason=type(failure).__name__)
            raise

    def _connected(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Any:
        import boto3
        from botocore.config import Config

        settings, endpoint = self._settings, self._settings.endpoint_url or None
        keys = (settings.access_key_id, settings.secret_access_key)
        identifier, secret = (key.get_secret_value() or None if key is not None else None for key in keys)
        session = boto3.session.Session(region_name=settings.region or None)
        return session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=session.region_name or (_DEFAULT_REGION if endpoint else None),
            aws_access_key_id=identifier,
            aws_secret_access_key=secret,
            config=Config(
                connect_timeout=self._remote.connect_timeout_s,
                read_timeout=self._remote.read_timeout_s,
                retries={"mode": "standard", "total_max_attempts": 2},
                s3={"addressing_style": "path" if endpoint else "auto"},
                request_checksum_calculation="when_required",  # servers of one's own often know no other
                response_checksum_validation="when_required",
            ),
        )


def taken(place: S3Location) -> AlreadyExistsError:
    """Return the error for a target that is there."""
    return AlreadyExistsError(
        f"There is an object {shown(str(place))} already; nothing was written.",
        hint="Choose another target, or pass overwrite=true.",
    )


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what boto3 raises into our errors.

    Raises:
        NotFoundError: there is no such bucket.
        PermissionDeniedError: no credentials, wrong ones, or ones that do not suffice.
        FailedPreconditionError: the settings do not fit the bucket.
        ResourceExhaustedError: the server is full.
        UnavailableError: it cannot be reached, fell silent or is broken.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as refusal:
        raise _refused(refusal, where) from refusal
    except BotoCoreError as refusal:
        raise _failed(refusal, where) from refusal
    except ValueError as refusal:  # what botocore says of an address that is none
        if "endpoint" not in str(refusal).lower():
            raise
        raise FailedPreconditionError(
            "NBA_MCP_S3__ENDPOINT_URL is no address.", hint="Write it as https://host:port."
        ) from None


def _refused(refusal: Any, where: str) -> LifecycleError:
    code = _code(refusal)
    status = int(refusal.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    said = f"S3 refuses {shown(where)} ({shown(code)})"
    if code == "NoSuchBucket":
        return NotFoundError("bucket", where.removeprefix("s3://").partition("/")[0], hint="Check its name.")
    if code == "InvalidObjectState":
        return FailedPreconditionError(f"{said}: it is archived.", hint="Restore the object first.")
    if code in _OTHER_REGION:
        return FailedPreconditionError(f"{said}: its region is another.", hint="Set NBA_MCP_S3__REGION.")
    if code in _CREDENTIALS or status == 401:
        return PermissionDeniedError(f"{said}: the credentials are wrong.", hint=_SET_KEYS)
    if status == 403:
        return PermissionDeniedError(f"{said}.", hint="Its credentials do not suffice. " + _SET_KEYS)
    if code in _FULL:
        return ResourceExhaustedError(f"{said}: it is full.", hint="Free space there; nothing was written.")
    return UnavailableError(f"{said}, with status {status}.", hint="Try again later.")


def _failed(refusal: Any, where: str) -> LifecycleError:
    from botocore import exceptions

    unknown = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.ProfileNotFound,
    )
    if isinstance(refusal, unknown):
        return PermissionDeniedError(f"There are no credentials for {shown(where)}.", hint=_SET_KEYS)
    if isinstance(refusal, exceptions.NoRegionError):
        return FailedPreconditionError("The region of the bucket is not known.", hint="Set NBA_MCP_S3__REGION.")
    if isinstance(refusal, exceptions.ParamValidationError):
        return InvalidArgumentError(f"{shown(where)} is no s3://bucket/key.", hint="Mend the address.")
    word = type(refusal).__name__.removesuffix("Error")
    return UnavailableError(
        f"The S3 server of {shown(where)} cannot be reached, or fell silent ({word}).",
        hint="Check NBA_MCP_S3__ENDPOINT_URL and the network, then try again.",
    )


def _code(refusal: Any) -> str:
    """Return what S3 calls an error."""
    return str(refusal.response["Error"].get("Code"))


def _unquoted(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None
