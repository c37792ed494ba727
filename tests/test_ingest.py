"""From raw bytes to a verdict: authenticity first, then meaning, then the record."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote_plus

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver import payload
from receiver.errors import FetchFailed, Rejected
from receiver.fetching.addresses import check_url
from receiver.ingest import Ingest, Secrets, fingerprint, read_report
from receiver.models import (
    MAX_URL_LENGTH,
    Callback,
    EventType,
    Outcome,
    Proof,
    Receipt,
    RemoteFile,
    Report,
    Signing,
    SigningKeys,
    Verdict,
    Via,
)
from receiver.options import StoreOptions, never
from receiver.plugins import load_providers, names
from receiver.ports import Provider
from receiver.problem_types import ProblemType
from receiver.providers.vidgo import Vidgo
from receiver.signing import hex_bytes, hmac_fits, text_keys
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock, sample_callback
from receiver.tokens import TokenClaim, Tokens
from tests.support.blank_record import lay_blank_record
from tests.support.factories import NOW, completed, confirms_weak, failed, submission
from tests.support.samples import links_in_sample

TOKENS = Tokens(["a-secret-of-enough-length"])
LINK = "https://cdn.test/1.png"
SECRETS = ("an-old-secret-of-theirs", "a-new-secret-of-theirs")
encode = msgspec.json.encode


class Door:
    """An ingest over a real store, and which loops it woke."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.woken: list[str] = []
        self.ingest = self.build(allow_untokened=False)

    def build(
        self,
        *,
        allow_untokened: bool,
        provider: Provider | None = None,
        tokens: Tokens = TOKENS,
        signed: bool = False,
        in_parts: Collection[str] = (),
    ) -> Ingest:
        return Ingest(
            store=self.store,
            providers={"vidgo": provider} if provider else load_providers(),
            tokens=tokens,
            allow_untokened=allow_untokened,
            wake=self.woken.append,
            signed={"vidgo": Secrets(SECRETS)} if signed else {},
            in_parts=in_parts,
        )

    async def post(self, body: bytes, token: str | None, provider: str = "vidgo") -> Receipt:
        admission = self.ingest.authorize(provider, token)
        receipt, _ = await self.ingest.accept(admission, body=body, headers={}, received_at=NOW)
        return receipt


class SigningBody(Vidgo):
    """A provider whose bodies prove themselves."""

    facts = msgspec.structs.replace(Vidgo.facts, signing=Signing.TEXT)

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        claim = hex_bytes(callback.headers.get("signature", ""))
        return hmac_fits(text_keys(keys), callback.body, [claim] if claim else [])


class SigningSender(SigningBody):
    """A provider whose signatures leave the body out."""

    facts = msgspec.structs.replace(SigningBody.facts, signs_body=False)


class Crashing(SigningBody):
    """An adapter with a bug."""

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        raise KeyError(callback.body)


class CountingTokens(Tokens):
    """Knows how often it was asked."""

    checks = 0

    def check(self, provider: str, token: str) -> TokenClaim | None:
        self.checks += 1
        return super().check(provider, token)


@asynccontextmanager
async def opened(data_dir: Path, confirms: Callable[[str, Proof], bool] = never) -> AsyncIterator[Door]:
    options = StoreOptions(data_dir=data_dir, clock=TurnableClock(NOW), confirms=confirms)
    lay_blank_record(data_dir, "r.db")
    store = await SqliteStore.open("sqlite:r.db", options)
    yield Door(store)
    await store.aclose()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as door:
        yield door


@pytest.mark.parametrize("provider", names("providers"))
async def test_every_providers_callback_is_accepted_once(door: Door, provider: str) -> None:
    await door.store.log_submission(submission("t1", provider=provider))
    body = sample_callback(provider, "t1", files=[LINK])
    token = TOKENS.for_provider(provider)

    first = await door.post(body, token, provider)
    second = await door.post(body, token, provider)

    assert (first.status, second.status) == (Verdict.ACCEPTED, Verdict.DUPLICATE)
    first_work = "assets" if links_in_sample(provider, [LINK]) else "sink"
    assert door.woken == [first_work, f"poll {provider}"]


async def test_music_of_apidot_is_its_files_each_of_its_kind(door: Door) -> None:
    await door.store.log_submission(submission("task-music-1-a", provider="apidot"))
    item = {"audio_url": "https://s.test/1.mp3", "image_url": "https://s.test/1.jpeg"}
    data = {"task_id": "task-music-1-a", "status": "finished", "files": [item]}

    await door.post(encode({"code": 200, "data": data}), TOKENS.for_provider("apidot"), "apidot")

    event = await door.store.get_event("apidot", "task-music-1-a")
    assert event is not None
    assert (event.type, [asset.kind for asset in event.assets]) == (None, ["audio", "image"])


async def test_a_callback_that_is_sent_again_at_the_press_of_a_button_is_a_repeat_after_retention_too(
    door: Door,
) -> None:
    await door.store.log_submission(submission("t1", provider="apidot"))
    body = sample_callback("apidot", "t1", files=[LINK])
    await door.post(body, TOKENS.for_provider("apidot"), "apidot")

    for days in (1, 60, 700):
        await door.store.purge(NOW + timedelta(days=days), 100)
        again = await door.post(body, TOKENS.for_provider("apidot"), "apidot")
        assert again.status is Verdict.DUPLICATE

    task = await door.store.get_task("apidot", "t1")
    assert task is not None
    assert [(each.verdict, each.seen) for each in task.deliveries] == [(Verdict.ACCEPTED, 4)]


async def test_a_task_that_an_administrator_fails_after_it_finished_stays_finished(door: Door) -> None:
    await door.store.log_submission(submission("t1", provider="apidot"))
    token = TOKENS.for_provider("apidot")
    await door.post(sample_callback("apidot", "t1", files=[LINK]), token, "apidot")

    failure = sample_callback("apidot", "t1", error="refunded by hand")
    for _ in range(3):
        assert (await door.post(failure, token, "apidot")).status is Verdict.CONFLICT

    task = await door.store.get_task("apidot", "t1")
    assert task is not None
    assert task.event is not None
    assert (task.event.error_message, [asset.kind for asset in task.event.assets]) == (None, ["image"])
    kept = [(each.verdict, each.provider_state, each.seen) for each in task.deliveries]
    assert kept == [(Verdict.ACCEPTED, "finished", 1), (Verdict.CONFLICT, "failed", 3)]


async def test_a_submissions_token_binds_its_task(door: Door) -> None:
    reserved = submission(None)
    await door.store.log_submission(reserved)

    receipt = await door.post(
        sample_callback("vidgo", "t1", files=[LINK]), TOKENS.for_submission("vidgo", reserved.id)
    )

    assert receipt == Receipt(status=Verdict.ACCEPTED, task_id="t1")


async def test_a_task_that_a_first_word_of_it_binds_wakes_what_its_early_callbacks_need_and_nothing_else(
    door: Door,
) -> None:
    reserved = submission(None)
    await door.store.log_submission(reserved)
    early = await door.post(sample_callback("vidgo", "t1", files=[LINK]), TOKENS.for_provider("vidgo"))
    progress = encode({"code": 200, "data": {"task_id": "t1", "status": "running", "progress": 40}})

    said = await door.post(progress, TOKENS.for_submission("vidgo", reserved.id))

    assert (early.status, said.status) == (Verdict.EARLY, Verdict.PROGRESS)
    assert door.woken == ["assets", "sink", "poll vidgo"]
    assert await door.store.next_due_at("assets") == NOW


async def test_a_submissions_token_for_another_task_is_refused(door: Door) -> None:
    await door.store.log_submission(submission("theirs"))
    mine = submission("mine")
    await door.store.log_submission(mine)

    with pytest.raises(Rejected) as refused:
        await door.post(sample_callback("vidgo", "theirs", files=[]), TOKENS.for_submission("vidgo", mine.id))

    assert refused.value.kind is ProblemType.TOKEN_OF_ANOTHER_TASK


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "p.",
        "p.wrong",
        "s.sub_1.wrong",
        TOKENS.for_provider("apidot"),
        Tokens(["another-secret-of-length"]).for_provider("vidgo"),
        "p." + "A" * 400,
        "p.\ud800",
    ],
)
async def test_missing_and_wrong_tokens_get_the_same_answer_and_leave_nothing(
    door: Door, token: str | None
) -> None:
    with pytest.raises(Rejected) as refused:
        await door.post(sample_callback("vidgo", "t1", files=[LINK]), token)

    assert (refused.value.kind, refused.value.title) == (ProblemType.NOT_AUTHENTIC, "Not authentic")
    assert (await door.store.count_stats()).deliveries == {}


async def test_untokened_callbacks_pass_only_where_the_operator_says_so(door: Door) -> None:
    await door.store.log_submission(submission("t1"))
    door.ingest = door.build(allow_untokened=True)

    receipt = await door.post(sample_callback("vidgo", "t1", files=[LINK]), None)

    assert receipt.status is Verdict.ACCEPTED
    with pytest.raises(Rejected):
        await door.post(sample_callback("vidgo", "t1", files=[LINK]), "p.wrong")


@pytest.mark.parametrize("token", ["p.wrong", TOKENS.for_provider("apidot"), None])
async def test_without_a_right_token_no_body_is_asked_for(door: Door, token: str | None) -> None:
    with pytest.raises(Rejected) as refused:
        door.ingest.authorize("vidgo", token)

    assert refused.value.kind is ProblemType.NOT_AUTHENTIC


async def test_a_token_is_checked_once(door: Door) -> None:
    tokens = CountingTokens(["a-secret-of-enough-length"])
    door.ingest = door.build(allow_untokened=False, tokens=tokens)

    await door.post(sample_callback("vidgo", "t1"), TOKENS.for_provider("vidgo"))

    assert tokens.checks == 1


def signature(body: bytes, secret: str = SECRETS[1]) -> dict[str, str]:
    return {"signature": hmac.digest(secret.encode(), body, "sha256").hex()}


@pytest.mark.parametrize("allow_untokened", [True, False])
@pytest.mark.parametrize("secret", SECRETS)
async def test_a_right_signature_stands_in_for_the_token(
    door: Door, secret: str, *, allow_untokened: bool
) -> None:
    ingest = door.build(allow_untokened=allow_untokened, provider=SigningBody(), signed=True)
    body = sample_callback("vidgo", "t1")

    verified = await ingest.verify(
        ingest.authorize("vidgo", None), body=body, headers=signature(body, secret), received_at=NOW
    )
    _, told = await ingest.accept(
        ingest.authorize("vidgo", None), body=body, headers=signature(body, secret), received_at=NOW
    )

    assert (verified.proof, verified.submission_id) == (Proof.SIGNATURE, None)
    assert told is Proof.SIGNATURE


@pytest.mark.parametrize("allow_untokened", [True, False])
@pytest.mark.parametrize(
    "token", [None, TOKENS.for_provider("vidgo"), TOKENS.for_submission("vidgo", "sub_1")]
)
@pytest.mark.parametrize("headers", [{}, signature(b"[]"), signature(b"{}", "a-secret-of-nobody")])
@pytest.mark.parametrize("provider", [SigningBody(), SigningSender(), Crashing()])
async def test_where_callbacks_are_signed_none_passes_without_by_any_token(
    door: Door, provider: Provider, headers: dict[str, str], token: str | None, *, allow_untokened: bool
) -> None:
    ingest = door.build(allow_untokened=allow_untokened, provider=provider, signed=True)

    with pytest.raises(Rejected) as refused, capture_logs() as lines:
        await ingest.accept(ingest.authorize("vidgo", token), body=b"{}", headers=headers, received_at=NOW)

    assert refused.value.kind is ProblemType.NOT_AUTHENTIC
    assert lines[-1]["event"] == "callback.unsigned"
    assert lines[-1]["by_token"] is (token is not None)
    assert (await door.store.count_stats()).deliveries == {}


async def test_no_signature_makes_up_for_a_wrong_token(door: Door) -> None:
    with pytest.raises(Rejected):
        door.build(allow_untokened=True, provider=SigningBody(), signed=True).authorize("vidgo", "p.wrong")


@pytest.mark.parametrize(
    ("provider", "token", "proof"),
    [
        (SigningBody(), None, Proof.SIGNATURE),
        (SigningBody(), TOKENS.for_provider("vidgo"), Proof.SIGNATURE),
        (SigningBody(), TOKENS.for_submission("vidgo", "sub_1"), Proof.SUBMISSION),
        (SigningSender(), None, Proof.PROVIDER),
        (SigningSender(), TOKENS.for_provider("vidgo"), Proof.PROVIDER),
        (SigningSender(), TOKENS.for_submission("vidgo", "sub_1"), Proof.SUBMISSION),
    ],
)
async def test_a_signature_proves_as_much_as_it_covers(
    door: Door, provider: Provider, token: str | None, proof: Proof
) -> None:
    ingest = door.build(allow_untokened=False, provider=provider, signed=True)
    verified = await ingest.verify(
        ingest.authorize("vidgo", token), body=b"{}", headers=signature(b"{}"), received_at=NOW
    )
    assert verified.proof is proof


@pytest.mark.parametrize(
    ("provider", "verdict"), [(SigningBody(), "accepted"), (SigningSender(), "unconfirmed")]
)
async def test_a_signed_body_is_believed_and_a_signed_sender_confirmed(
    tmp_path: Path, provider: Provider, verdict: str
) -> None:
    async with opened(tmp_path, confirms_weak) as door:
        await door.store.log_submission(submission("t1"))
        ingest = door.build(allow_untokened=False, provider=provider, signed=True)
        body = sample_callback("vidgo", "t1", files=[LINK])

        await ingest.accept(
            ingest.authorize("vidgo", None), body=body, headers=signature(body), received_at=NOW
        )

        assert (await door.store.count_stats()).deliveries == {verdict: 1}


NO_DOCUMENT = [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b"NaN", b"\xef\xbb\xbf{}", b"hello"]


@pytest.mark.parametrize("body", NO_DOCUMENT)
async def test_what_is_neither_json_nor_a_form_is_kept_raw_as_unrecognised(door: Door, body: bytes) -> None:
    receipt = await door.post(body, TOKENS.for_provider("vidgo"))

    assert (receipt.status, receipt.task_id) == (Verdict.UNRECOGNISED, None)
    assert (await door.store.count_stats()).deliveries == {"unrecognised": 1}
    page = await door.store.pages.list_odd(Verdict.UNRECOGNISED, 10, None)
    assert [(row.note, row.bytes) for row in page.deliveries] == [("neither JSON nor a form", len(body))]


async def test_a_form_ends_a_task_as_json_does(door: Door) -> None:
    await door.store.log_submission(submission("t1"))
    body = b"payload=" + quote_plus(sample_callback("vidgo", "t1", files=[LINK])).encode()
    receipt = await door.post(body, TOKENS.for_provider("vidgo"))

    assert (receipt.status, receipt.task_id) == (Verdict.ACCEPTED, "t1")
    assert await door.store.list_links("vidgo", "t1") == [LINK]


@pytest.mark.parametrize("body", NO_DOCUMENT)
async def test_what_proves_nothing_and_is_not_json_is_rejected_and_leaves_nothing(
    tmp_path: Path, body: bytes
) -> None:
    async with opened(tmp_path) as door:
        ingest = door.build(allow_untokened=True)
        with pytest.raises(Rejected) as rejected:
            await ingest.accept(ingest.authorize("vidgo", None), body=body, headers={}, received_at=NOW)

        assert rejected.value.kind is ProblemType.NOT_JSON
        assert (await door.store.count_stats()).deliveries == {}


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'"text"', b"7", b"{}", b'{"data": []}', b'{"data": {"task_id": {}}}']
)
async def test_json_of_another_shape_is_kept_as_unrecognised(door: Door, body: bytes) -> None:
    receipt = await door.post(body, TOKENS.for_provider("vidgo"))

    assert receipt.status is Verdict.UNRECOGNISED
    assert (await door.store.count_stats()).deliveries == {"unrecognised": 1}


async def test_a_report_with_absurdly_many_files_is_not_believed(door: Door) -> None:
    await door.store.log_submission(submission("t1"))
    links = [f"https://cdn.test/{n}.png" for n in range(payload.MOST_FILES + 1)]

    receipt = await door.post(sample_callback("vidgo", "t1", files=links), TOKENS.for_provider("vidgo"))

    assert receipt.status is Verdict.UNRECOGNISED


async def test_a_link_that_nobody_would_follow_is_kept_no_longer_than_it_takes_to_refuse_it(
    door: Door,
) -> None:
    await door.store.log_submission(submission("t1"))
    longest = f"https://cdn.test/{'x' * MAX_URL_LENGTH}"[:MAX_URL_LENGTH]
    links = [longest, f"{longest}/1.png", f"https://cdn.test/{'y' * 1_000_000}.png"]
    await door.post(sample_callback("vidgo", "t1", files=links), TOKENS.for_provider("vidgo"))

    works = sorted(await door.store.lease_assets(NOW, NOW, 10), key=lambda work: work.index)

    assert [len(work.url) - MAX_URL_LENGTH for work in works] == [0, 1, 1]
    assert check_url(works[0].url).host == "cdn.test"
    for work in works[1:]:
        with pytest.raises(FetchFailed) as failure:
            check_url(work.url)
        assert failure.value.outcome is Outcome.BAD_URL


async def test_assets_carry_the_deadline_of_the_providers_links(door: Door) -> None:
    await door.store.log_submission(submission("t1", provider="apixo"))
    await door.post(
        sample_callback("apixo", "t1", files=[LINK]), TOKENS.for_provider("apixo"), provider="apixo"
    )

    event = await door.store.get_event("apixo", "t1")

    assert event is not None
    assert event.assets[0].deadline_at == NOW + timedelta(hours=24)


# --- what has to be confirmed, and what the provider answers itself -------------------------------------


@pytest.fixture
async def weak(tmp_path: Path) -> AsyncIterator[Door]:
    """A door that believes no provider token, over a task that is ours."""
    async with opened(tmp_path, confirms_weak) as door:
        await door.store.log_submission(submission("t1"))
        yield door


def answered(files: list[str], *, error: str | None = None) -> tuple[Report, bytes]:
    body = sample_callback("vidgo", "t1", files=files, error=error)
    return Vidgo().parse(payload.decode(body)), body


async def test_an_end_on_weak_proof_waits_for_the_provider_and_asks_it_now(weak: Door) -> None:
    receipt = await weak.post(sample_callback("vidgo", "t1", files=[LINK]), TOKENS.for_provider("vidgo"))

    assert receipt == Receipt(status=Verdict.ACCEPTED, task_id="t1")  # its sender learns nothing else
    assert await weak.store.get_event("vidgo", "t1") is None
    assert (await weak.store.count_stats()).deliveries == {"unconfirmed": 1}
    assert weak.woken == ["assets", "poll vidgo"]
    assert await weak.store.next_due_at("polls", "vidgo") == NOW


async def test_the_providers_own_files_take_the_place_of_the_callbacks(weak: Door) -> None:
    forged = "https://evil.test/1.png"
    await weak.post(sample_callback("vidgo", "t1", files=[forged]), TOKENS.for_provider("vidgo"))

    receipt = await weak.ingest.accept_answer("vidgo", *answered([LINK]), NOW)

    assert receipt.status is Verdict.ACCEPTED
    assert weak.woken == ["assets", "poll vidgo", "assets"]
    assert [work.url for work in await weak.store.lease_assets(NOW, NOW, 10)] == [LINK]
    task = await weak.store.get_task("vidgo", "t1")
    assert task is not None
    assert task.event is not None
    assert task.event.via is Via.POLL
    assert [(each.proof, each.verdict) for each in task.deliveries] == [
        (Proof.PROVIDER, Verdict.CONFLICT),
        (Proof.POLL, Verdict.ACCEPTED),
    ]


async def test_stronger_proof_counts_at_once(weak: Door) -> None:
    reserved = submission(None)
    await weak.store.log_submission(reserved)
    token = TOKENS.for_submission("vidgo", reserved.id)

    await weak.post(sample_callback("vidgo", "t2", files=[LINK]), token)

    assert await weak.store.get_event("vidgo", "t2") is not None


@pytest.mark.parametrize("named", ["sub_lost", "sub_reserved"])
async def test_a_submissions_token_proves_nothing_about_another_task(weak: Door, named: str) -> None:
    await weak.store.log_submission(submission(None, id_="sub_reserved"))
    forged = sample_callback("vidgo", "t1", files=["https://evil.test/1.png"])

    receipt = await weak.post(forged, TOKENS.for_submission("vidgo", named))

    task = await weak.store.get_task("vidgo", "t1")
    assert receipt.status is Verdict.ACCEPTED
    assert task is not None
    assert task.event is None
    assert [(each.proof, each.verdict) for each in task.deliveries] == [
        (Proof.SUBMISSION, Verdict.UNCONFIRMED)
    ]
    assert await weak.store.lease_assets(NOW, NOW, 10) == []


async def test_posts_for_one_image_each_wait_for_the_answer_that_has_them_all(tmp_path: Path) -> None:
    links = [f"https://im.test/{number}.png" for number in range(3)]
    async with opened(tmp_path, lambda provider, _proof: provider == "runware") as door:
        door.ingest = door.build(allow_untokened=False, in_parts={"runware"})
        ours = submission("t1", provider="runware")
        await door.store.log_submission(ours)
        token = TOKENS.for_submission("runware", ours.id)
        for link in links[:2]:  # on the strongest proof
            part = sample_callback("runware", "t1", files=[link])
            assert (await door.post(part, token, "runware")).status is Verdict.ACCEPTED
        assert await door.store.get_event("runware", "t1") is None
        assert await door.store.next_due_at("polls", "runware") == NOW

        whole = sample_callback("runware", "t1", files=links)
        report = read_report(load_providers()["runware"], whole)
        await door.ingest.accept_answer("runware", report, whole, NOW)
        late = sample_callback("runware", "t1", files=links[2:])
        assert (await door.post(late, token, "runware")).status is Verdict.DUPLICATE

        assert await door.store.list_links("runware", "t1") == links
        assert (await door.store.count_stats()).deliveries == {"accepted": 3, "duplicate": 1}


async def test_what_ends_nothing_needs_no_confirmation(weak: Door) -> None:
    running = b'{"code": 200, "data": {"task_id": "t1", "status": "running"}}'

    receipt = await weak.post(running, TOKENS.for_provider("vidgo"))

    assert receipt.status is Verdict.PROGRESS
    assert weak.woken == []


async def test_callback_and_answer_at_once_make_one_event(door: Door) -> None:
    await door.store.log_submission(submission("t1"))
    report, body = answered([LINK])

    receipts = await asyncio.gather(
        door.post(body, TOKENS.for_provider("vidgo")),
        door.ingest.accept_answer("vidgo", report, body, NOW),
    )

    assert sorted(receipt.status for receipt in receipts) == [Verdict.ACCEPTED, Verdict.DUPLICATE]
    assert door.woken.count("assets") == 1


async def test_an_answer_that_says_failed_ends_the_task_without_files(door: Door) -> None:
    await door.store.log_submission(submission("t1"))

    await door.ingest.accept_answer("vidgo", *answered([], error="too dark"), NOW)

    event = await door.store.get_event("vidgo", "t1")
    assert event is not None
    assert (event.type, event.error_message) == (EventType.FAILED, "too dark")
    assert door.woken == ["sink"]


async def test_a_lost_task_fails_in_our_words(door: Door) -> None:
    await door.store.log_submission(submission("t1"))

    await door.ingest.mark_lost("vidgo", "t1", "asked 7 times", NOW)

    event = await door.store.get_event("vidgo", "t1")
    assert event is not None
    assert (event.type, event.via) == (EventType.FAILED, Via.POLL)
    assert (event.error_code, event.error_message) == ("lost", "asked 7 times")
    assert door.woken == ["sink"]


# --- what means the same --------------------------------------------------------------------------------


def test_a_newly_signed_link_to_the_same_file_means_the_same() -> None:
    def signed(signature: str) -> str:
        file = RemoteFile(url=f"{LINK}?signature={signature}", kind="image")
        return fingerprint(msgspec.structs.replace(completed(), files=(file,)))

    assert signed("one") == signed("two")


def test_the_same_files_in_another_order_mean_the_same() -> None:
    report = completed(files=3)

    assert fingerprint(report) == fingerprint(msgspec.structs.replace(report, files=report.files[::-1]))


def test_another_end_or_another_file_means_something_else() -> None:
    marks = {fingerprint(completed(files=1)), fingerprint(completed(files=2)), fingerprint(failed())}

    assert len(marks) == 3


def test_two_wordings_of_a_failure_mean_the_same() -> None:
    assert fingerprint(failed()) == fingerprint(msgspec.structs.replace(failed(), error_message="other"))
