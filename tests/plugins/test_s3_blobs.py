"""Files in a bucket: the blob store contract on two servers, links, and every way in which a bucket fails."""

import asyncio
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.blobs.s3 import S3Blobs
from receiver.errors import Misconfigured, Unavailable
from receiver.fetching.client import open_plain_client
from receiver.models import Outcome
from receiver.options import AwsAccess, PluginOptions
from tests.contracts.blobs import BlobContract, LinkingContract, read
from tests.support.s3 import BUCKET, S3Server, moto, seaweedfs

pytestmark = pytest.mark.slow  # a server has to start


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="module")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


async def opened(access: AwsAccess, url: str, folder: Path) -> S3Blobs:
    async with open_plain_client() as http:
        options = PluginOptions(name="RECEIVER_ASSETS_URL", data_dir=folder, http=http, aws=access)
        return S3Blobs.from_url(url, options)


@pytest.fixture
async def blobs(seaweed: S3Server, tmp_path: Path) -> AsyncIterator[S3Blobs]:
    """In a prefix of its own."""
    blobs = await opened(seaweed.access, f"s3://{BUCKET}/{tmp_path.name}", tmp_path)
    yield blobs
    await blobs.aclose()


class TestSeaweedBlobs(LinkingContract, BlobContract):
    pass


class TestMotoBlobs(LinkingContract, BlobContract):
    @pytest.fixture
    async def blobs(self, moto_server: S3Server, tmp_path: Path) -> AsyncIterator[S3Blobs]:
        blobs = await opened(moto_server.access, f"s3://{BUCKET}/{tmp_path.name}", tmp_path)
        yield blobs
        await blobs.aclose()


async def put(blobs: S3Blobs, folder: Path, key: str, data: bytes, media_type: str = "image/png") -> None:
    source = folder / "source"
    source.write_bytes(data)
    await blobs.put(key, source, media_type)


def fetched(url: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
    """Status, headers and body of a link's answer, as a consumer without any key of ours gets it."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.headers, exc.read()


async def test_an_object_that_a_rule_may_soon_remove_is_not_linked_to(
    blobs: S3Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(blobs, tmp_path, "vidgo/t1/0.png", b"bytes")
    source = tmp_path / "again"
    source.write_bytes(b"bytes")
    monkeypatch.setattr("receiver.blobs.s3.LINKED_WITHIN", timedelta(seconds=-60))  # as if it were older
    assert await blobs.link("vidgo/t1/0.png", "vidgo/t2/0.png", source) is None
    assert source.exists()


# --- links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "media_type", "kind", "name"),
    [
        ("vidgo/t1/0.png", "image/png", "inline", "t1-0.png"),
        ("vidgo/a%2Fb%20c/0.png", "image/png", "inline", "a-b-c-0.png"),
        ("vidgo/t1/1.mp4", "video/mp4", "attachment", "t1-1.mp4"),
    ],
)
async def test_a_presigned_link_gives_the_bytes_with_their_type_and_name(
    blobs: S3Blobs, tmp_path: Path, key: str, media_type: str, kind: str, name: str
) -> None:
    data = os.urandom(1000)
    await put(blobs, tmp_path, key, data, media_type)
    (link,) = await blobs.sign([key], 60)
    status, headers, body = await asyncio.to_thread(fetched, link)
    assert (status, body) == (200, data)
    assert headers["content-type"] == media_type
    assert headers["content-disposition"] == f'{kind}; filename="{name}"'
    status, _, body = await asyncio.to_thread(fetched, link, {"Range": "bytes=10-19"})
    assert (status, body) == (206, data[10:20])


async def test_a_presigned_link_dies_and_is_good_for_nothing_else(blobs: S3Blobs, tmp_path: Path) -> None:
    await put(blobs, tmp_path, "p/t/0.png", b"bytes")
    await put(blobs, tmp_path, "p/t/1.png", b"other")
    (link,) = await blobs.sign(["p/t/0.png"], 1)
    assert (await asyncio.to_thread(fetched, link.replace("/0.png", "/1.png")))[0] == 403
    await asyncio.sleep(2.1)
    assert (await asyncio.to_thread(fetched, link))[0] == 403


async def test_no_link_holds_a_token_of_another_program(
    seaweed: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-program")
    blobs = await opened(seaweed.access, f"s3://{BUCKET}/{tmp_path.name}", tmp_path)
    await put(blobs, tmp_path, "p/t/0.png", b"bytes")
    (link,) = await blobs.sign(["p/t/0.png"], 60)
    assert "of-another-program" not in link
    assert (await asyncio.to_thread(fetched, link))[0] == 200
    await blobs.aclose()


async def test_nothing_is_signed_for_a_task_without_files(blobs: S3Blobs) -> None:
    assert list(await blobs.sign([], 60)) == []


# --- large files --------------------------------------------------------------------------------------


async def test_a_file_in_many_parts_is_whole_and_no_part_of_it_is_seen_before(
    blobs: S3Blobs, tmp_path: Path
) -> None:
    data = os.urandom(17_000_001)
    putting = asyncio.create_task(put(blobs, tmp_path, "p/t/0", data))
    seen = set()
    while not putting.done():
        try:
            seen.add(await read(blobs, "p/t/0"))
        except FileNotFoundError:
            await asyncio.sleep(0.01)
    await putting
    assert seen <= {data}
    assert await read(blobs, "p/t/0") == data
    assert await read(blobs, "p/t/0", 5_242_870, 20) == data[5_242_870:5_242_890]  # across two parts


async def test_many_readers_that_take_nothing_hold_up_nobody(blobs: S3Blobs, tmp_path: Path) -> None:
    await put(blobs, tmp_path, "p/t/0", os.urandom(2_000_000))
    idle = [blobs.open("p/t/0", 0, 2_000_000) for _ in range(40)]
    for each in idle:
        await anext(each)
    async with asyncio.timeout(10):
        await put(blobs, tmp_path, "p/t/1", b"another")
        assert await read(blobs, "p/t/1") == b"another"
    for each in idle:
        await each.aclose()  # type: ignore[attr-defined]


# --- what is wrong with it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "url", "words"),
    [
        ({}, "s3://nowhere", "there is no such bucket|may not do this"),
        ({"secret_access_key": "another"}, f"s3://{BUCKET}", "the secret key is wrong"),
        ({"access_key_id": "nobody"}, f"s3://{BUCKET}", "the access key is not known there"),
        ({"endpoint": "http://127.0.0.1:1"}, f"s3://{BUCKET}", "it cannot be reached"),
    ],
)
async def test_a_ping_tells_what_is_wrong_and_no_secret(
    seaweed: S3Server, tmp_path: Path, wrong: dict[str, str], url: str, words: str
) -> None:
    access = msgspec.structs.replace(seaweed.access, **wrong)
    blobs = await opened(access, url, tmp_path)
    with pytest.raises(Unavailable, match=words) as caught:
        await blobs.ping()
    assert caught.value.outcome is Outcome.STORAGE_FAILED
    for secret in (access.secret_access_key, seaweed.access.secret_access_key, "127.0.0.1"):
        assert secret is not None
        assert secret not in str(caught.value)
    await blobs.aclose()


async def test_a_ping_leaves_nothing_behind(blobs: S3Blobs, seaweed: S3Server, tmp_path: Path) -> None:
    await blobs.ping()
    assert seaweed.keys(tmp_path.name) == []


async def test_a_file_that_could_not_be_stored_stays_where_it_was(seaweed: S3Server, tmp_path: Path) -> None:
    access = msgspec.structs.replace(seaweed.access, secret_access_key="another")
    blobs = await opened(access, f"s3://{BUCKET}", tmp_path)
    with pytest.raises(Unavailable):
        await put(blobs, tmp_path, "p/t/0", b"bytes")
    assert (tmp_path / "source").read_bytes() == b"bytes"
    await blobs.aclose()


async def test_a_server_that_hangs_for_a_while_loses_nothing(
    blobs: S3Blobs, seaweed: S3Server, tmp_path: Path
) -> None:
    seaweed.freeze()
    try:
        putting = asyncio.create_task(put(blobs, tmp_path, "p/t/0", b"bytes"))
        await asyncio.sleep(1)
        assert not putting.done()
    finally:
        seaweed.thaw()
    async with asyncio.timeout(20):
        await putting
    assert await read(blobs, "p/t/0") == b"bytes"


@pytest.mark.parametrize(
    "url",
    ["s3:", "s3://", "s3://b#x", "s3://b?x=y", "s3://key:secret@b", "s3://b/a//b", "s3://b/../x", "file:x"],
)
async def test_a_url_that_names_no_bucket_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    access = AwsAccess(access_key_id="k", secret_access_key="s")
    with pytest.raises(Misconfigured, match=r"RECEIVER_ASSETS_URL: .*write s3://bucket") as caught:
        await opened(access, url, tmp_path)
    assert "secret@" not in str(caught.value)


async def test_without_keys_the_variables_to_set_are_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"):
        await opened(AwsAccess(), "s3://bucket", tmp_path)
    with pytest.raises(Misconfigured, match="set AWS_SECRET_ACCESS_KEY, or"):
        await opened(AwsAccess(access_key_id="k"), "s3://bucket", tmp_path)
    blobs = await opened(AwsAccess(has_role=True), "s3://bucket", tmp_path)
    await blobs.aclose()


async def test_the_environment_names_the_bucket_where_the_url_does_not(
    seaweed: S3Server, tmp_path: Path
) -> None:
    access = msgspec.structs.replace(seaweed.access, bucket=BUCKET)
    blobs = await opened(access, f"s3:{tmp_path.name}", tmp_path)
    await put(blobs, tmp_path, "p/t/0", b"bytes")
    there = await opened(seaweed.access, f"s3://{BUCKET}", tmp_path)
    assert await read(there, f"{tmp_path.name}/p/t/0") == b"bytes"
    await blobs.aclose()
    await there.aclose()
