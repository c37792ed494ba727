"""The process that draws has little, may do nothing, and is ended; the service goes on, whatever it draws."""

import asyncio
import hashlib
import io
import os
import signal
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from receiver.blobs.local import LocalBlobs
from receiver.errors import Rejected, Unavailable
from receiver.models import Asset, AssetState
from receiver.problem_types import ProblemType
from receiver.thumbnails import process, thumbnailer
from receiver.thumbnails.cache import ThumbnailCache
from receiver.thumbnails.thumbnailer import EDGES, MOST_WAITING, Thumbnailer
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # starts processes

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "AVIF": "avif"}
QUARTER_TURN = 6  # EXIF's orientation


@pytest.fixture
async def drawing(tmp_path: Path) -> AsyncIterator[Thumbnailer]:
    blobs = LocalBlobs(tmp_path / "assets")
    opened = Thumbnailer(blobs, ThumbnailCache(tmp_path / "thumbs"))
    before, servers = descriptors(), children()  # those of other tests that run for all of them
    yield opened
    await opened.aclose()
    await until(lambda: children() <= servers)  # none is left, and none a zombie
    await until(lambda: descriptors() <= before)
    await blobs.aclose()


def children() -> set[int]:
    found = (thread / "children" for thread in Path("/proc/self/task").iterdir())
    return {int(pid) for path in found for pid in path.read_text().split()}


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def picture(width: int = 640, height: int = 400, name: str = "PNG", *, shade: int = 90, **more: Any) -> bytes:
    file = io.BytesIO()
    ramp = Image.linear_gradient("L").resize((width, height))
    Image.merge("RGB", (ramp, ramp.point(lambda value: value // 2), Image.new("L", ramp.size, shade))).save(
        file, name, **more
    )
    return file.getvalue()


def stored(tmp_path: Path, content: bytes, name: str = "PNG", **more: Any) -> Asset:
    """A file in the folder of assets, and its row; its size in pixels is not known."""
    digest = hashlib.sha256(content).hexdigest()
    key = f"vidgo/{digest}/0.{EXTENSIONS[name]}"
    path = tmp_path / "assets" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    now = datetime(2026, 11, 29, tzinfo=UTC)
    row: dict[str, Any] = {
        "index": 0,
        "state": AssetState.STORED,
        "kind": "image",
        "outcome": None,
        "attempts": 1,
        "deadline_at": now,
        "key": key,
        "media_type": f"image/{name.lower()}",
        "bytes": len(content),
        "width": None,
        "height": None,
        "sha256": digest,
        "settled_at": now,
    }
    return Asset(**row | more)


def opened(image: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(image))
    assert found.format == "WEBP"
    return found


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", EXTENSIONS)
async def test_every_format_becomes_a_small_webp_without_what_else_the_file_says(
    drawing: Thumbnailer, tmp_path: Path, name: str, edge: int
) -> None:
    said = Image.Exif()
    said[0x010E] = "CANARY of a caption"
    extra: dict[str, Any] = {} if name == "GIF" else {"exif": said}
    content = picture(1600, 1000, name, **extra)
    image = await drawing.get(stored(tmp_path, content, name), edge)
    assert opened(image).size == (edge, edge * 10 // 16)
    assert all(word not in image for word in (b"CANARY", b"EXIF", b"ICCP", b"XMP "))


@pytest.mark.parametrize("name", EXTENSIONS)
async def test_a_user_other_than_root_who_may_start_no_thread_has_every_format(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Root is bound by no number of threads. What is loaded is loaded before, as the user may not read it."""
    become = "draw._warm_up(); os.getuid() or os.setuid(54321)"
    changed = f"from receiver.thumbnails import draw; {become}; draw.main()"
    monkeypatch.setattr(process, "_PROGRAM", process._PROGRAM.partition("from receiver")[0] + changed)
    image = await drawing.get(stored(tmp_path, picture(1600, 1000, name), name), 320)
    assert opened(image).size == (320, 200)


async def test_a_photo_is_turned_as_it_says_and_never_made_larger(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    turned = Image.Exif()
    turned[0x0112] = QUARTER_TURN
    jpeg = await drawing.get(stored(tmp_path, picture(200, 100, "JPEG", exif=turned), "JPEG"), 320)
    webp = await drawing.get(stored(tmp_path, picture(200, 100, "WEBP", exif=turned), "WEBP"), 320)
    assert opened(jpeg).size == (100, 200)
    assert opened(webp).size == (200, 100)  # as browsers show it


async def test_what_can_be_seen_through_stays_so(drawing: Thumbnailer, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (500, 500), (200, 30, 30, 0)).save(file, "PNG")
    image = opened(await drawing.get(stored(tmp_path, file.getvalue()), 320))
    assert image.mode == "RGBA"
    assert image.getpixel((100, 100)) == (0, 0, 0, 0) or image.getpixel((100, 100))[3] == 0  # type: ignore[index]


async def test_a_picture_of_much_detail_is_kept_small(drawing: Thumbnailer, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((900, 900), 60).filter(ImageFilter.GaussianBlur(1)).save(file, "PNG")
    image = await drawing.get(stored(tmp_path, file.getvalue()), 320)
    assert len(image) < EDGES[320]


async def test_the_process_has_what_it_needs_and_nothing_else(drawing: Thumbnailer, tmp_path: Path) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    here = Path(f"/proc/{drawing.pid}")
    limits = {line[:26].strip(): line[26:47].strip() for line in (here / "limits").read_text().splitlines()}
    assert limits["Max address space"] == str(512 * 2**20)
    assert limits["Max open files"] == "3"
    assert limits["Max processes"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert sorted(path.name for path in (here / "fd").iterdir()) == ["0", "1", "2"]
    assert (here / "environ").read_bytes() == b""
    assert (here / "status").read_text().count("Threads:\t1\n") == 1


def claiming(width: int, height: int) -> bytes:
    """A PNG whose head says so many pixels, of which there is none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


async def test_what_claims_too_many_pixels_is_refused_before_any_is_read(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)  # so that the process is there
    began = asyncio.get_running_loop().time()
    with pytest.raises(Rejected, match="more than 17,000,000 pixels"):
        await drawing.get(stored(tmp_path, claiming(20_000, 20_000)), 320)
    assert asyncio.get_running_loop().time() - began < 0.5
    pid = drawing.pid
    known = stored(tmp_path, claiming(20_000, 20_001), width=20_000, height=20_001)
    assert not drawing.can_draw(known)
    with pytest.raises(Rejected, match="more than 17,000,000 pixels"):
        await drawing.get(known, 320)
    assert drawing.pid == pid  # it was not asked, and lives


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"media_type": "video/mp4"}, "video/mp4"),
        ({"media_type": None}, "no known type"),
        ({"bytes": 33 * 2**20}, "more than 32 MiB"),
        ({"state": AssetState.PENDING}, "it is pending"),
    ],
)
async def test_what_can_have_none_starts_nothing(
    drawing: Thumbnailer, tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Rejected, match=reason) as refused:
        await drawing.get(stored(tmp_path, picture(), **more), 320)
    assert refused.value.kind is ProblemType.NO_THUMBNAIL
    assert drawing.pid is None


async def test_what_is_no_image_is_refused_and_remembered(drawing: Thumbnailer, tmp_path: Path) -> None:
    damaged = stored(tmp_path, picture()[:200])
    for _ in range(2):
        with pytest.raises(Rejected, match="cannot be read"):
            await drawing.get(damaged, 320)
    assert (await drawing.get(stored(tmp_path, picture()), 320))[:4] == b"RIFF"


async def test_a_file_that_is_gone_costs_no_process(drawing: Thumbnailer, tmp_path: Path) -> None:
    asset = stored(tmp_path, picture())
    (tmp_path / "assets" / str(asset.key)).unlink()
    with pytest.raises(Rejected) as refused:
        await drawing.get(asset, 320)
    assert refused.value.kind is ProblemType.FILE_MISSING
    assert drawing.pid is None


async def test_it_gives_way_to_all_else_among_the_processes_of_its_session_and_among_sessions(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    assert os.getpriority(os.PRIO_PROCESS, drawing.pid or 0) == 19
    shares = Path(f"/proc/{drawing.pid}/autogroup")  # not where the system was built without them
    if shares.exists() and (shown := shares.read_text()).startswith("/autogroup"):
        assert shown.endswith(" nice 19\n")
        assert Path("/proc/self/autogroup").read_text() != shown


async def test_a_picture_for_which_nobody_leaves_time_comes_late_and_is_not_given_up(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    first = drawing.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    asking = asyncio.create_task(drawing.get(stored(tmp_path, picture(shade=91)), 320))
    await asyncio.sleep(1)
    os.kill(first, signal.SIGCONT)
    assert opened(await asking).size == (320, 200)
    assert drawing.pid == first


async def test_one_that_takes_too_much_of_a_processor_is_ended_by_the_system(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAWN_SECONDS", 600.0)
    program(monkeypatch, "lambda *_: exec('while True: pass')", more="draw.DRAW_SECONDS = 0.0; ")
    with pytest.raises(Rejected, match="as it ended"):
        await drawing.get(stored(tmp_path, picture()), 320)


async def test_one_that_does_not_answer_in_time_is_ended_and_another_draws(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    monkeypatch.setattr(process, "DRAWN_SECONDS", 5.0)
    first = drawing.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    image = await drawing.get(stored(tmp_path, picture(shade=91)), 320)
    assert opened(image).size == (320, 200)
    assert drawing.pid != first


def program(monkeypatch: pytest.MonkeyPatch, instead: str, more: str = "") -> None:
    """Processes from now on do ``instead`` of drawing, with all the limits of those that draw."""
    drawing = f"draw.draw = {instead}; draw._warm_up = int; {more}draw.main()"
    changed = f"from receiver.thumbnails import draw; {drawing}"
    monkeypatch.setattr(process, "_PROGRAM", process._PROGRAM.partition("from receiver")[0] + changed)


@pytest.mark.parametrize(
    "instead",
    [
        pytest.param("lambda *_: __import__('time').sleep(60)", id="never through"),
        pytest.param("lambda *_: (0, bytes(700 * 2**20))", id="too much memory"),
        pytest.param("lambda *_: __import__('os').abort()", id="crashes"),
        pytest.param("lambda *_: (0, b'RIFF not an image')", id="something else"),
        pytest.param("lambda *_: (9, b'')", id="an answer that nobody knows"),
        pytest.param("lambda *_: (0, bytes(5 * 2**20))", id="too large an answer"),
        pytest.param("lambda *_: open('/etc/hostname')", id="a file"),
        pytest.param("lambda *_: __import__('socket').socket()", id="the network"),
    ],
)
async def test_whatever_it_does_over_a_file_the_service_refuses_that_file_and_goes_on(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    monkeypatch.setattr(process, "DRAWN_SECONDS", 0.5)
    with monkeypatch.context() as patch:
        program(patch, instead)
        asset = stored(tmp_path, picture())
        with pytest.raises(Rejected, match="has no thumbnail"):
            await drawing.get(asset, 320)
        with pytest.raises(Rejected, match="has no thumbnail"):  # at once, and without a process
            await drawing.get(asset, 1280)
    await drawing._process.end(at_once=True)  # the program that nothing replaces any more
    monkeypatch.setattr(process, "DRAWN_SECONDS", 60.0)
    assert opened(await drawing.get(stored(tmp_path, picture(shade=91)), 320)).size == (320, 200)


async def test_where_none_can_be_started_it_is_unavailable_and_not_tried_for_each(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PROGRAM", "raise SystemExit(1)")
    with pytest.raises(Unavailable, match="did not start"):
        await drawing.get(stored(tmp_path, picture()), 320)
    with pytest.raises(Unavailable, match="can be started"):
        await drawing.get(stored(tmp_path, picture(shade=91)), 320)


async def _made(folder: Path, count: int) -> None:
    await until(lambda: len([*(folder / "thumbs").rglob("*.webp")]) >= count)


async def test_kills_under_load_cost_time_and_no_picture(drawing: Thumbnailer, tmp_path: Path) -> None:
    assets = [stored(tmp_path, picture(shade=shade)) for shade in range(24)]
    asking = asyncio.gather(*(drawing.get(asset, 320) for asset in assets))
    for killed in range(4):
        await _made(tmp_path, 5 * killed + 1)
        if drawing.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(drawing.pid, signal.SIGKILL)
    assert {opened(image).size for image in await asking} == {(320, 200)}


async def test_nobody_who_leaves_is_drawn_for_and_nobody_who_stays_is_forgotten(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    assert drawing.pid is not None
    os.kill(drawing.pid, signal.SIGSTOP)
    left, stays = stored(tmp_path, picture(shade=91)), stored(tmp_path, picture(shade=92))
    first = asyncio.create_task(drawing.get(stored(tmp_path, picture(shade=93)), 320))
    await until(lambda: drawing._begun)
    leaving = [asyncio.create_task(drawing.get(asset, 320)) for asset in (left, stays)]
    staying = asyncio.create_task(drawing.get(stays, 320))
    await asyncio.sleep(0.1)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    os.kill(drawing.pid, signal.SIGCONT)
    await first
    assert opened(await staying).size == (320, 200)
    made = {path.name[:64] for path in (tmp_path / "thumbs").rglob("*.webp")}
    assert stays.sha256 in made
    assert left.sha256 not in made
    assert opened(await drawing.get(left, 320)).size == (320, 200)  # whoever asks again gets it


async def test_so_many_may_wait_and_one_more_is_told_to_come_again(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    await drawing.get(stored(tmp_path, picture()), 320)
    assert drawing.pid is not None
    os.kill(drawing.pid, signal.SIGSTOP)
    assets = [stored(tmp_path, picture(64, 64, shade=shade)) for shade in range(MOST_WAITING + 2)]
    asking = [asyncio.create_task(drawing.get(asset, 320)) for asset in assets[:-1]]
    await until(lambda: len(drawing._wanted) == MOST_WAITING + 1)
    with pytest.raises(Unavailable, match="wait to be drawn"):
        await drawing.get(assets[-1], 320)
    os.kill(drawing.pid, signal.SIGCONT)
    assert len(await asyncio.gather(*asking)) == MOST_WAITING + 1


async def test_it_is_gone_when_nobody_wants_anything_and_there_again(
    drawing: Thumbnailer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnailer, "IDLE_SECONDS", 0.1)
    assert drawing.pid is None  # before the first is asked for
    servers = children()
    await drawing.get(stored(tmp_path, picture()), 320)
    await until(lambda: drawing.pid is None and children() <= servers)
    await drawing.get(stored(tmp_path, picture(shade=91)), 320)


async def test_what_one_process_has_made_another_on_the_same_folder_does_not_make_again(
    drawing: Thumbnailer, tmp_path: Path
) -> None:
    asset = stored(tmp_path, picture())
    image = await drawing.get(asset, 320)
    blobs = LocalBlobs(tmp_path / "assets")
    other = Thumbnailer(blobs, ThumbnailCache(tmp_path / "thumbs"))
    assert await other.get(asset, 320) == image
    assert other.pid is None
    await other.aclose()
    await blobs.aclose()
