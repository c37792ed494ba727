"""Files that stand in a kept body as base64."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from receiver.blobs.local import LocalBlobs
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.download import DownloadLimits
from receiver.fetching.fetcher import AssetLimits, Fetcher
from receiver.links import inline_link
from receiver.models import Outcome, Stage, StoredFile
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock
from tests.contracts.replaying import make_step, replay, start_replay
from tests.support.blank_record import lay_blank_record
from tests.support.factories import answer, inline, later, submission
from tests.support.factories import asset_work as work
from tests.support.media_host import picture

LIMITS = AssetLimits(
    download=DownloadLimits(max_bytes=100_000, deadline_seconds=5),
    max_task_bytes=300_000,
    max_pixels=1_000_000,
    kinds=frozenset({media.IMAGE}),
)
PICTURE = picture()
TEXT = base64.b64encode(PICTURE).decode()

Unpack = Callable[..., Fetcher]


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "assets")


@pytest.fixture
def fetching_from(client: GuardedClient, blobs: LocalBlobs) -> Unpack:
    def build(*kept: bytes) -> Fetcher:
        async def bodies(_provider: str, _task_id: str) -> list[bytes]:
            return list(kept)

        return Fetcher(
            client=client,
            blobs=blobs,
            clock=TurnableClock(),
            staging=blobs.staging,
            limits=LIMITS,
            bodies=bodies,
        )

    return build


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"output": [{"type": "text"}, {"result": TEXT}]}).encode(),
        json.dumps({"images": [f"  data:image/png;base64,{TEXT}\n"]}).encode(),
        json.dumps({"data": {"resultJson": json.dumps({"resultUrls": [f"data:;base64,{TEXT}"]})}}).encode(),
        b'--x\r\nContent-Disposition: form-data; name="payload"\r\n\r\n' + json.dumps([TEXT]).encode()
        + b"\r\n--x--\r\n",
    ],
    ids=["alone", "as a data URL", "in JSON in a text", "in a form"],
)  # fmt: skip
async def test_it_is_stored_with_its_facts_wherever_it_stands(
    fetching_from: Unpack, blobs: LocalBlobs, body: bytes
) -> None:
    settlement = await fetching_from(b"no document", b"{}", body).fetch(work(inline_link(TEXT)))

    assert settlement.file == StoredFile(
        key="vidgo/t%2F1/0.png",
        media_type="image/png",
        bytes=len(PICTURE),
        width=64,
        height=48,
        sha256=sha256(PICTURE).hexdigest(),
    )
    assert (blobs.root / "vidgo/t%2F1/0.png").read_bytes() == PICTURE


async def test_lines_may_be_wrapped_as_in_mail(fetching_from: Unpack) -> None:
    wrapped = base64.encodebytes(PICTURE).decode()
    body = json.dumps([wrapped]).encode()
    settlement = await fetching_from(body).fetch(work(inline_link(wrapped.strip())))
    assert settlement.outcome is Outcome.STORED


def of(text: str) -> tuple[bytes, str]:
    return json.dumps([text]).encode(), inline_link(text)


@pytest.mark.parametrize(
    ("kept", "outcome"),
    [
        (of(TEXT[:-3]), Outcome.NOT_AN_IMAGE),
        (of(TEXT[:40] + "*" + TEXT[41:]), Outcome.NOT_AN_IMAGE),
        (of("\u00e4" * 40), Outcome.NOT_AN_IMAGE),
        (of(base64.b64encode(b"#!/bin/sh\n").decode()), Outcome.NOT_AN_IMAGE),
        (of(base64.b64encode(PICTURE[:-20]).decode()), Outcome.TRUNCATED),
        (of(base64.b64encode(bytes(100_001)).decode()), Outcome.TOO_LARGE),
        ((b"[]", inline_link(TEXT)), Outcome.GONE),
        ((b"[[[[", inline_link(TEXT)), Outcome.GONE),
    ],
)
async def test_what_cannot_be_stored_is_an_outcome_that_waiting_does_not_mend(
    fetching_from: Unpack, blobs: LocalBlobs, kept: tuple[bytes, str], outcome: Outcome
) -> None:
    body, link = kept
    settlement = await fetching_from(body).fetch(work(link))

    assert settlement.outcome is outcome
    assert (settlement.file, settlement.retry_at, settlement.link_may_be_dead) == (None, None, False)
    assert settlement.detail
    assert "inline" not in settlement.detail
    assert not (blobs.root / "vidgo").exists()
    assert not blobs.staging.exists() or list(blobs.staging.iterdir()) == []


async def test_a_body_that_is_gone_is_told_as_that(fetching_from: Unpack) -> None:
    settlement = await fetching_from().fetch(work(inline_link(TEXT)))
    assert settlement.outcome is Outcome.GONE
    assert settlement.detail == "it stood in a body that is not kept any more"


async def test_it_is_stored_by_the_next_process_and_by_a_replay_as_long_as_its_body_is_kept(
    client: GuardedClient, blobs: LocalBlobs, tmp_path: Path
) -> None:
    said = inline("t1", TEXT)
    body = json.dumps({"result": TEXT}).encode()
    lay_blank_record(tmp_path)
    options = StoreOptions(data_dir=tmp_path, clock=TurnableClock())
    small = msgspec.structs.replace(LIMITS, download=DownloadLimits(max_bytes=9, deadline_seconds=5))

    async def run(limits: AssetLimits | None, *, replayed: bool = False) -> Outcome | None:
        """As a process that begins anew; without limits it ends before it has stored anything."""
        store = await SqliteStore.open("sqlite:receiver.db", options)
        try:
            if replayed:
                await start_replay(store, replay(Stage.FETCH))
                await make_step(store, 200)
            (leased,) = await store.lease_assets(later(300), later(360), 10)
            if limits is None:
                return None
            fetcher = Fetcher(
                client=client,
                blobs=blobs,
                clock=TurnableClock(),
                staging=blobs.staging,
                limits=limits,
                bodies=store.list_end_bodies,
            )
            settled = await fetcher.fetch(leased)
            await store.settle_asset(leased, msgspec.structs.replace(settled, retry_at=None))
            return settled.outcome
        finally:
            await store.aclose()

    store = await SqliteStore.open("sqlite:receiver.db", options)
    await store.log_submission(submission("t1"))
    await store.record(answer(said, body=body))
    await store.aclose()
    assert await run(None) is None
    assert await run(small) is Outcome.TOO_LARGE
    assert await run(LIMITS, replayed=True) is Outcome.STORED


async def test_it_counts_among_the_files_of_its_task(fetching_from: Unpack) -> None:
    body, link = of(TEXT)
    whole = msgspec.structs.replace(work(link), stored_bytes=LIMITS.max_task_bytes - len(PICTURE))
    assert (await fetching_from(body).fetch(whole)).outcome is Outcome.STORED
    full = msgspec.structs.replace(whole, stored_bytes=whole.stored_bytes + 1)
    assert (await fetching_from(body).fetch(full)).outcome is Outcome.TASK_TOO_LARGE
