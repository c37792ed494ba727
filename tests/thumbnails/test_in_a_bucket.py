"""Small pictures of files that lie in a bucket: fetched once, drawn here, kept here."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from receiver.blobs.s3 import S3Blobs
from receiver.errors import Rejected, Unavailable
from receiver.fetching.client import open_plain_client
from receiver.models import Asset
from receiver.options import AwsAccess, PluginOptions
from receiver.problem_types import ProblemType
from receiver.thumbnails.cache import ThumbnailCache
from receiver.thumbnails.thumbnailer import Thumbnailer
from tests.support.s3 import BUCKET, S3Server, seaweedfs
from tests.thumbnails.test_thumbnailer import opened, picture, stored

pytestmark = pytest.mark.slow  # a server has to start


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
async def blobs(bucket: S3Server, tmp_path: Path) -> AsyncIterator[S3Blobs]:
    async with open_plain_client() as http:
        options = PluginOptions(name="RECEIVER_ASSETS_URL", data_dir=tmp_path, http=http, aws=bucket.access)
        blobs = S3Blobs.from_url(f"s3://{BUCKET}/{tmp_path.name}", options)
        yield blobs
        await blobs.aclose()


@pytest.fixture
async def drawing(blobs: S3Blobs, tmp_path: Path) -> AsyncIterator[Thumbnailer]:
    opened = Thumbnailer(blobs, ThumbnailCache(tmp_path / "thumbs"))
    yield opened
    await opened.aclose()


async def in_bucket(blobs: S3Blobs, folder: Path) -> Asset:
    asset = stored(folder, picture(1600, 1000))
    await blobs.put(str(asset.key), folder / "assets" / str(asset.key), "image/png")
    return asset


async def test_a_picture_is_drawn_of_an_object_and_then_the_bucket_is_not_asked(
    bucket: S3Server, blobs: S3Blobs, drawing: Thumbnailer, tmp_path: Path
) -> None:
    asset = await in_bucket(blobs, tmp_path)
    first = await drawing.get(asset, 320)
    assert opened(first).size == (320, 200)
    bucket.freeze()
    try:
        assert await drawing.get(asset, 320) == first
    finally:
        bucket.thaw()


async def test_an_object_that_is_gone_is_told_as_a_missing_file(drawing: Thumbnailer, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as refused:
        await drawing.get(stored(tmp_path, picture()), 320)
    assert refused.value.kind is ProblemType.FILE_MISSING


async def test_a_bucket_that_is_not_there_is_no_fault_of_the_pictures(tmp_path: Path) -> None:
    async with open_plain_client() as http:
        aws = AwsAccess(access_key_id="k", secret_access_key="s", endpoint="http://127.0.0.1:9")
        options = PluginOptions(name="RECEIVER_ASSETS_URL", data_dir=tmp_path, http=http, aws=aws)
        blobs = S3Blobs.from_url(f"s3://{BUCKET}", options)
        drawing = Thumbnailer(blobs, ThumbnailCache(tmp_path / "thumbs"))
        with pytest.raises(Unavailable):
            await drawing.get(stored(tmp_path, picture()), 320)
        await drawing.aclose()
        await blobs.aclose()
