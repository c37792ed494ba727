"""A real service that is killed, stopped, frozen and started again: what it answered for is never lost."""

import asyncio
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.aftermath import burst, recorded, stored_files, temporary_files
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, STOP_SECONDS, Receiver, bearer, consumer, receiver
from tests.support.loopback import Answer
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.waiting import until

PICTURE = picture(size=(800, 600))


class Gate:
    """Answers half of a picture, and the rest only once it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.asked = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        half = len(PICTURE) // 2
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(PICTURE) + PICTURE[:half])
        await writer.drain()
        await self.opened.wait()
        writer.write(PICTURE[half:])


async def half_fetched(service: Receiver, host: MediaHost, task_id: str) -> Gate:
    """A task whose only file is on its way when this returns."""
    gate = Gate()
    await service.finish(task_id, host.put(f"/{task_id}.png", gate))
    await until(lambda: gate.asked and temporary_files(service))
    return gate


EARLY = {"RECEIVER_EARLY_LIMIT": "100000"}


async def test_what_was_answered_before_a_kill_is_fetched_and_told_once_after_it(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        await half_fetched(service, host, "t1")
        await service.kill()
        (service.data / "assets/.incoming").mkdir(parents=True)
        (service.data / "assets/.incoming/tmp12345678").write_bytes(PICTURE[:100])
        assert len(temporary_files(service)) == 2
        assert (stored_files(service), service.events()) == ([], [])

        host.put("/t1.png", says(200, PICTURE))
        await service.start()
        await until(lambda: service.told() == ["t1"])

        assert stored_files(service) == [PICTURE]
        assert temporary_files(service) == []
        (event,) = service.events()
        task = await service.task("t1")
        assert (task["state"], event["id"]) == ("completed", task["event_id"])
        # The provider, which saw its answer, or not, asks again: nothing happens twice.
        assert await service.call_back("t1", host.url("/t1.png")) == "duplicate"
        await service.stop()
        assert service.told() == ["t1"]


async def test_every_200_of_a_burst_survives_a_kill_in_its_middle(tmp_path: Path) -> None:
    async with receiver(tmp_path, EARLY) as service:
        acknowledged, refusals = await burst(service, service.kill, after=300)
        await service.start()  # whatever the file looked like
        await service.stop()
    assert refusals == []
    assert acknowledged - recorded(service) == set()


async def test_every_200_of_a_burst_survives_sigterm_and_nobody_is_refused_by_it(tmp_path: Path) -> None:
    async with receiver(tmp_path, EARLY) as service:
        acknowledged, refusals = await burst(service, service.stop, after=300)
    assert refusals == []
    assert acknowledged - recorded(service) == set()
    assert_calm(service)


async def test_a_download_that_sigterm_cuts_short_is_finished_after_the_restart(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        await half_fetched(service, host, "t1")
        assert await service.stop() < STOP_SECONDS
        assert temporary_files(service) == []
        assert_calm(service)

        host.put("/t1.png", says(200, PICTURE))
        await service.start()
        await until(lambda: service.told() == ["t1"])
        assert stored_files(service) == [PICTURE]
        assert len({event["id"] for event in service.events()}) == 1


async def test_a_download_that_ends_soon_is_waited_for_by_sigterm(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        gate = await half_fetched(service, host, "t1")
        service.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        gate.opened.set()
        assert await service.ended() in {0, -signal.SIGTERM}
        assert stored_files(service) == [PICTURE]
        assert '"outcome":"stored"' in service.output()


async def test_a_body_that_sigterm_finds_half_sent_is_asked_for_again(tmp_path: Path) -> None:
    async with receiver(tmp_path) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = f"POST {service.callback_path()} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"data":')
        await writer.drain()
        for _ in range(2):  # whoever came later is answered: so it has been read
            assert (await service.http.get("/healthz")).status_code == 200
        assert await service.stop() < STOP_SECONDS
        answer = Answer(await reader.read())
        writer.close()
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert "Traceback" not in service.output()


async def test_a_notification_that_a_kill_left_unsettled_comes_again_under_the_same_id(
    tmp_path: Path,
) -> None:
    async with (
        consumer() as host,
        receiver(tmp_path, {"RECEIVER_SINK_HOOK": host.url}) as service,
    ):
        await host.start()
        host.silent = True  # it has the message, and we do not know
        await service.finish("t1")
        await until(lambda: len(host.bodies) == 1)
        await service.kill()
        host.silent = False
        await service.start()
        await until(lambda: len(host.bodies) == 2)
        assert host.bodies[0] == host.bodies[1]
        await until(lambda: delivered(service, "t1"))


async def delivered(service: Receiver, task_id: str) -> bool:
    task = await service.task(task_id)
    return {each["state"] for each in task["notifications"]} == {"delivered"}


async def test_frozen_and_thawed_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        gate = await half_fetched(service, host, "t1")
        await service.submit("t2")
        service.signal(signal.SIGSTOP)
        asked = asyncio.create_task(service.call_back("t2"))
        await asyncio.sleep(4)
        gate.opened.set()
        await asyncio.sleep(1)
        assert not asked.done()
        service.signal(signal.SIGCONT)
        assert await asked == "accepted"
        await until(lambda: service.told() == ["t1", "t2"])
        assert gate.asked == 1
        await until(service.is_ready, 10)  # what was found while it stood still stands for a moment


async def test_a_second_service_on_the_same_folder_fails_and_disturbs_nothing(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as first:
        gate = await half_fetched(first, host, "t1")
        second = Receiver(tmp_path, {})
        try:
            second.launch()
            assert await second.ended() == 1
        finally:
            second.discard()
            await second.http.aclose()
        (complaint,) = [line for line in second.output().splitlines() if line.startswith("receiver: ")]
        assert f"in use by another receiver (process {first.pid})" in complaint
        assert "RECEIVER_DATA_DIR" in complaint
        assert "Traceback" not in second.output()
        gate.opened.set()  # what the first was fetching is still there
        await until(lambda: first.told() == ["t1"])
        assert gate.asked == 1


def assert_calm(service: Receiver) -> None:
    """Nothing was left open, and nothing crashed."""
    for sign in ("Traceback", "ResourceWarning", "never retrieved", "was destroyed", '"level":"error"'):
        assert sign not in service.output(), service.output()


async def test_readers_that_take_nothing_do_not_keep_it_from_stopping(tmp_path: Path) -> None:
    loop, readers = asyncio.get_running_loop(), [socket.socket() for _ in range(8)]
    async with media_host() as host, receiver(tmp_path) as service:
        await service.finish("t1", host.put("/t1.png", says(200, picture(size=(1000, 1000)))))
        await until(service.events)
        link = urlsplit((await service.task("t1"))["assets"][0]["url"])
        wanted = ("/openapi.json", f"{link.path}?{link.query}")
        for reader, target in zip(readers, 4 * wanted, strict=True):
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, ("127.0.0.1", service.port))
            await loop.sock_sendall(reader, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 100)
        await asyncio.sleep(0.5)
        assert await service.stop() < STOP_SECONDS  # it waited until they left, a minute at most
        assert_calm(service)
        for reader in readers:
            reader.close()


async def test_whoever_waits_for_a_task_is_answered_at_once_when_the_service_stops(tmp_path: Path) -> None:
    async with receiver(tmp_path) as service:
        await service.submit("t1")
        asked = asyncio.create_task(
            service.http.get("/tasks/vidgo/t1?wait=60", headers=bearer(API_TOKEN), timeout=60)
        )
        await asyncio.sleep(0.3)
        for _ in range(2):  # whoever came later is answered: so it waits
            assert (await service.http.get("/healthz")).status_code == 200
        assert await service.stop() < STOP_SECONDS
        answer = await asked
        # What is cut short after the grace for requests gets 503.
        assert (answer.status_code, answer.json()["state"]) == (200, "submitted")
        assert_calm(service)


async def test_a_kill_loses_at_most_the_last_seconds_of_a_plot_and_no_row_of_the_record(
    tmp_path: Path,
) -> None:
    async def counted() -> float:
        asked = await service.http.get("/history/callbacks?span=1h", headers=bearer(ADMIN_TOKEN))
        return float(sum(column["value"] or 0 for column in asked.json()["columns"]))

    async def is_counted() -> bool:
        return await counted() == 1.0

    async with receiver(tmp_path) as service:
        await service.finish("t1")
        await until(is_counted)
        await service.finish("t2")
        await service.kill()
        assert recorded(service) == {"t1", "t2"}
        await service.start()
        assert await counted() in {1.0, 2.0}
