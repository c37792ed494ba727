"""Asset files in a bucket of S3, or of a server that speaks its language.

All calls are the driver's blocking ones, in threads of our own: its asynchronous ones can end the process at
the interpreter's exit (obstore 0.12.1).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from receiver.asset_keys import disposition, key_parts
from receiver.errors import Misconfigured, Unavailable
from receiver.models import Outcome
from receiver.options import AwsAccess, PluginOptions

T = TypeVar("T")

# A part of a large file is in memory twice while it is sent: 13 MiB for each upload at once.
UPLOADS_AT_ONCE = 6
PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes
READS_AT_ONCE = 16  # of the next piece each: a reader that takes nothing holds no thread
PIECE_BYTES = 64 * 1024
CONNECT_SECONDS, SILENCE_SECONDS = 5, 30
RETRIES = 2
# A rule of the bucket that removes objects by their age takes a linked file by so much too early at most.
LINKED_WITHIN = timedelta(days=1)
PROBE = ".receiver"  # in keys of pings; no key of a file begins so

# What S3's codes of errors mean to whoever set it up (its API reference, "Error responses").
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "AccessDenied": "these keys may not do this in the bucket",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is wrong",
    "RequestTimeTooSkewed": "this machine's clock is off by minutes",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "IllegalLocationConstraintException": "the region is wrong",
    "PermanentRedirect": "the region is wrong",
    "SlowDown": "it is asked too often",
}
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_FORM = "write s3://bucket, s3://bucket/prefix, or s3: where BUCKET_NAME is set"
_OPTIONS = frozenset({"region", "endpoint", "credentials"})


class S3Blobs:
    """A blob store in a bucket, under a prefix of keys."""

    root = None

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._uploads = ThreadPoolExecutor(UPLOADS_AT_ONCE, "s3-upload")
        self._reads = ThreadPoolExecutor(READS_AT_ONCE, "s3-read")

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``s3://bucket/prefix``, with ``?endpoint=``, ``region=`` or ``credentials=role`` if wished.

        What it does not say, and the keys, the environment does (see ``AwsAccess``).
        """
        place = urlsplit(url)
        asked = dict(parse_qsl(place.query, keep_blank_values=True))
        bucket = place.netloc or options.aws.bucket
        if place.scheme != "s3" or place.fragment or not bucket or "@" in bucket or asked.keys() - _OPTIONS:
            raise Misconfigured(
                f"{options.name}: {_FORM}; options are ?endpoint=, ?region=, ?credentials=role"
            )
        try:
            return cls(_open_store(bucket, unquote(place.path).strip("/"), asked, options))
        except (BaseError, ValueError) as exc:
            raise Misconfigured(f"{options.name}: this cannot be the place of a bucket; {_FORM}") from exc

    async def put(self, key: str, source: Path, media_type: str) -> None:
        # Whoever opens a link that the bucket serves gets these two from there.
        headers = {"Content-Type": media_type, "Content-Disposition": disposition(key, media_type)}
        key_parts(key)  # refuses what is none
        await self._upload(key, source, headers)
        await asyncio.to_thread(source.unlink, missing_ok=True)

    async def link(self, stored: str, key: str, source: Path) -> str | None:
        """See ``ports.LinkingBlobs``: an object has one key, so it is had under that one."""
        for each in (stored, key):
            key_parts(each)  # refuses what is none
        size = (await asyncio.to_thread(source.stat)).st_size
        try:
            there = await self._read(lambda: obstore.head(self._store, stored))
        except FileNotFoundError:
            return None
        if there["size"] != size or datetime.now(UTC) - there["last_modified"] > LINKED_WITHIN:
            return None
        await asyncio.to_thread(source.unlink, missing_ok=True)
        return stored

    async def open(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        key_parts(key)  # refuses what is none
        if length <= 0:
            await self._read(lambda: obstore.head(self._store, key))
            return
        try:
            pieces = await self._read(lambda: self._pieces(key, start, start + length))
        except _BeyondEnd:
            return
        while (piece := await self._read(lambda: next(pieces, None))) is not None:
            for begin in range(0, len(piece), PIECE_BYTES):
                yield piece[begin : begin + PIECE_BYTES]

    async def sign(self, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """See ``ports.SigningBlobs``; at most seven days."""
        life = timedelta(seconds=seconds)
        return await self._read(lambda: obstore.sign(self._store, "GET", list(keys), life)) if keys else []

    async def sweep(self) -> int:
        """Nothing: an upload that ends early leaves no file. See the manual for what it may leave hidden."""
        return 0

    async def ping(self) -> None:
        """Write a small object, read it and remove it."""
        key, wrote = f"{PROBE}/{uuid4().hex}", b"receiver"
        await self._upload(key, wrote, {"Content-Type": "text/plain"})
        try:
            read = await self._read(lambda: bytes(obstore.get(self._store, key).bytes()))
        finally:
            await self._read(lambda: obstore.delete(self._store, key))
        if read != wrote:
            raise Unavailable("the bucket gives back other bytes", outcome=Outcome.STORAGE_FAILED)

    async def aclose(self) -> None:
        for pool in (self._uploads, self._reads):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    def _pieces(self, key: str, start: int, end: int) -> Any:
        """The stream of a part, which was begun: so one answer brings all of it, of one file."""
        stream = iter(obstore.get(self._store, key, options={"range": (start, end)}).stream(PIECE_BYTES))
        first = next(stream, None)
        return map(bytes, chain([] if first is None else [first], stream))

    async def _upload(self, key: str, content: Path | bytes, headers: dict[str, str]) -> None:
        await _run(
            self._uploads,
            lambda: obstore.put(
                self._store, key, content, attributes=headers, chunk_size=PART_BYTES, max_concurrency=1
            ),
        )

    async def _read(self, call: Callable[[], T]) -> T:
        return await _run(self._reads, call)


class _BeyondEnd(Exception):
    """The file ends before the part that is asked for."""


async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Call the driver in a thread. Raises FileNotFoundError, Unavailable or _BeyondEnd."""
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, call)
    except FileNotFoundError as exc:
        if _code(exc) in {None, "NoSuchKey"}:
            raise FileNotFoundError("no such asset") from exc
        raise _unavailable(exc) from exc
    except BaseError as exc:
        if _code(exc) == "InvalidRange":
            raise _BeyondEnd from exc
        raise _unavailable(exc) from exc


def _unavailable(exc: Exception) -> Unavailable:
    """In words of ours alone: the driver's hold URLs, and may hold what the server wrote."""
    code, status = _code(exc), _STATUS.search(str(exc))
    if code in _MEANINGS:
        why = f"{_MEANINGS[code]} ({code})"
    elif "incorrectly configured region" in str(exc):
        why = "the region is wrong"
    elif code or status:
        why = f"it answered {code or 'HTTP'}{f' {status[1]}' if status else ''}"
    else:
        why = "it cannot be reached"
    return Unavailable(f"the bucket took nothing: {why}", outcome=Outcome.STORAGE_FAILED)


def _code(exc: Exception) -> str | None:
    found = _CODE.search(str(exc))
    return found[1] if found else None


def _open_store(bucket: str, prefix: str, asked: dict[str, str], options: PluginOptions) -> S3Store:
    access = options.aws
    endpoint = asked.get("endpoint") or access.endpoint
    region = asked.get("region") or access.region or ("auto" if endpoint else "us-east-1")
    given: dict[str, Any] = {"region": region, "virtual_hosted_style_request": False}
    if endpoint:
        given["endpoint"] = endpoint
    given |= _keys(access, asked, options.name)
    return S3Store(
        bucket,
        prefix=prefix or None,
        **given,
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=SILENCE_SECONDS),
            "timeout": timedelta(days=1),  # a slow reader of a large file is no failure
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=SILENCE_SECONDS)},
    )


def _keys(access: AwsAccess, asked: dict[str, str], name: str) -> dict[str, Any]:
    """The keys to sign with; none where the driver finds credentials by itself. Raises Misconfigured."""
    if access.access_key_id and access.secret_access_key:
        keys = {
            "access_key_id": access.access_key_id,
            "secret_access_key": access.secret_access_key,
            "token": access.session_token,
            "expires_at": None,
        }
        # Given one by one they would be joined by what else is in the environment: another program's token
        # would be in every link (obstore 0.12.1).
        return {"credential_provider": lambda: keys}
    if access.has_role or asked.get("credentials") == "role":
        return {}
    raise Misconfigured(
        f"{name}: set {access.lacking}, or write ?credentials=role behind it where the machine has a role at"
        " AWS"
    )
