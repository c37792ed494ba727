"""The service with its files in a bucket: as a backend, a consumer and an operator meet it."""

import asyncio
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.clock import Clock
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from tests.e2e.service import API_TOKEN, Receiver, bearer, receiver
from tests.support.media_host import media_host, picture, says
from tests.support.s3 import BUCKET, S3Server, seaweedfs
from tests.support.waiting import until

PNG = picture(size=(64, 48))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


def settings(server: S3Server, folder: Path, **more: str) -> dict[str, str]:
    return {
        **server.environment,
        "RECEIVER_ASSETS_URL": f"s3://{BUCKET}/{folder.name}",
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        **more,
    }


async def completed(service: Receiver, task_id: str) -> dict[str, Any]:
    """A task with one file, once it is stored and told."""
    async with media_host() as host:
        await service.finish(task_id, host.put("/a.png", says(200, PNG)))
        await until_told(service, task_id)
    return await service.task(task_id)


def read(link: str) -> tuple[str, str, bytes]:
    with urllib.request.urlopen(link, timeout=10) as answer:
        return answer.headers["content-type"], answer.headers["content-disposition"], answer.read()


async def test_a_file_in_the_bucket_is_served_by_us_as_one_on_disk(server: S3Server, tmp_path: Path) -> None:
    async with receiver(tmp_path, settings(server, tmp_path)) as service:
        task = await completed(service, "t1")
        (asset,) = task["assets"]
        assert server.keys(tmp_path.name) == [f"{tmp_path.name}/vidgo/t1/0.png"]
        assert asset["url"].startswith(f"{service.url}/assets/vidgo/t1/0?expires=")
        assert not list(service.data.rglob("*.png"))
        link, headers = asset["url"], bearer(API_TOKEN)
        whole = await service.http.get(link)
        assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, PNG, "image/png")
        part = await service.http.get(link, headers={"range": "bytes=5-14"})
        assert (part.status_code, part.content) == (206, PNG[5:15])
        beyond = await service.http.get(link, headers={"range": f"bytes={len(PNG)}-"})
        assert beyond.status_code == 416
        known = await service.http.get(link, headers={"if-none-match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert (await service.http.get("/assets/vidgo/t1/0", headers=headers)).content == PNG
        assert await service.stop() < 10


async def test_presigned_links_lead_to_the_bucket_in_events_and_answers(
    server: S3Server, tmp_path: Path
) -> None:
    with_links = settings(server, tmp_path, RECEIVER_ASSET_LINKS="presigned", RECEIVER_LINK_TTL_SECONDS="60")
    async with receiver(tmp_path, with_links) as service:
        task = await completed(service, "t1")
        (told,) = service.events()
        for link in (task["assets"][0]["url"], told["data"]["assets"][0]["url"]):
            assert link.startswith(f"{server.endpoint}/{BUCKET}/{tmp_path.name}/vidgo/t1/0.png?")
            shown = await asyncio.to_thread(read, link)
            assert shown == ("image/png", 'inline; filename="t1-0.png"', PNG)
        assert str(server.access.secret_access_key) not in service.output()
        assert "X-Amz-Signature" not in service.output()


async def test_a_wrong_key_is_said_at_the_start_and_files_come_when_it_is_right(
    server: S3Server, tmp_path: Path
) -> None:
    wrong = settings(server, tmp_path, AWS_SECRET_ACCESS_KEY="another-key-of-some-length")
    async with media_host() as host:
        link = host.put("/a.png", says(200, PNG))
        async with receiver(tmp_path, wrong) as service:
            assert "assets.unusable" in service.output()
            assert "the secret key is wrong" in service.output()
            await service.finish("t1", link)

            async def says_why() -> bool:
                return "the secret key is wrong" in (await service.parts())["assets"]

            await until(says_why)
            assert (await service.task("t1"))["state"] == "fetching"
            await service.stop()
        async with receiver(tmp_path, settings(server, tmp_path)) as service:
            await until(lambda: service.told() == ["t1"])
            assert (await service.task("t1"))["state"] == "completed"


async def test_equal_files_of_one_owner_have_one_object_and_another_owner_has_its_own(
    server: S3Server, tmp_path: Path
) -> None:
    in_bucket = settings(server, tmp_path)
    one, other = (f"{tmp_path.name}/vidgo/{task_id}/0.png" for task_id in ("t1", "t3"))
    async with media_host() as host, receiver(tmp_path, in_bucket) as service:
        for number, owner in enumerate(("user-17", "user-17", "user-18"), start=1):
            await service.submit(f"t{number}", owner=owner)
            await service.call_back(f"t{number}", host.put(f"/{number}.png", says(200, PNG)))
            await until_told(service, f"t{number}")
        assert sorted(server.keys(tmp_path.name)) == [one, other]
        files = [(await service.task(f"t{number}"))["assets"][0] for number in (1, 2, 3)]
        assert [each["key"] for each in files] == ["vidgo/t1/0.png", "vidgo/t1/0.png", "vidgo/t3/0.png"]
        assert [each["outcome"] for each in files] == ["stored", "linked", "stored"]
        assert await service.stop() < 10

    # What retention drops of the first takes nothing from the second.
    options = StoreOptions(data_dir=service.data, clock=Clock(), routes=[])
    store = await SqliteStore.open("sqlite:receiver.db", options)
    assert await store.purge(Clock().now() + timedelta(days=1), 100) > 0
    await store.aclose()
    async with media_host() as host, receiver(tmp_path, in_bucket) as service:
        assert await content(service, "t2") == PNG

        # An operator removes the object that both have: the next equal file has one of its own again.
        await asyncio.to_thread(server.store().delete, [one])
        await service.finish("t4", host.put("/t4.png", says(200, PNG)))
        await until_told(service, "t4")
        assert await content(service, "t4") == await content(service, "t3") == PNG
        assert sorted(server.keys(tmp_path.name)) == [other, f"{tmp_path.name}/vidgo/t4/0.png"]


async def until_told(service: Receiver, task_id: str) -> None:
    await until(lambda: task_id in service.told())


async def content(service: Receiver, task_id: str) -> bytes:
    """A task's file, by the link that its answer has."""
    (file,) = (await service.task(task_id))["assets"]
    answer = await service.http.get(file["url"])
    answer.raise_for_status()
    return answer.content
