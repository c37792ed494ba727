"""The demo's judgement on made-up evidence: what is true passes, and each single lie breaks its promise."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.cli.demo.backend import Handed
from receiver.cli.demo.evidence import (
    Copy,
    Evidence,
    Fate,
    Forgery,
    SeenAsset,
    SeenCost,
    SeenDelivery,
    SeenTask,
    Told,
    ToldError,
    ToldImage,
    ToldTask,
    TrueCall,
    TrueImage,
    TrueTask,
)
from receiver.cli.demo.expectations import Expectation, check
from receiver.cli.demo.folder import RunFolder, make_run_folder
from receiver.cli.demo.plan import FAILURE, SIGNED, Job, make_plan
from receiver.cli.demo.service import service_environment
from receiver.cli.demo.summary import make_report, print_report
from receiver.cli.exit_codes import Exit
from receiver.config.settings import load_settings

ENDS = "Every task ended as its provider ended it"
ANSWERS = "Every true callback was answered with 200"
EVENTS = "Each task is told in one event, of the right type and to the right owner"
DESCRIPTIONS = "Every image is described as the provider made it"
LINKS = "Every signed link leads to these very bytes"
FILES = "The images folder holds these files and no others"
REPEATS = "A repeated callback raised a counter and changed nothing else"
EARLY = "A callback before its submission, or its order's answer, was matched"
SILENT = "A task without a callback was asked about and ended all the same"
LIE = "A lie told with a leaked token was seen through: nothing of it was fetched"
SIGNATURE = "A callback with a wrong signature was refused, and its provider asked"
FORGERY = "A forged callback was refused and left no trace"
COSTS = "What a provider billed is what is booked here, order by order"

SHA = "a" * 64
KEY = "vidgo/t-1/0.png"


def job(provider: str, number: int, **changes: Any) -> Job:
    plain = Job(
        number=number,
        provider=provider,
        model="m",
        images=1,
        owner="user-1",
        early=False,
        forged=False,
        lost=False,
        repeats=1,
        fails=False,
    )
    return replace(plain, **changes)


def call(verdict: str, status: int = 200) -> TrueCall:
    return TrueCall(status=status, answer={"status": verdict})


def seen(provider: str, task_id: str, state: str, *deliveries: SeenDelivery) -> SeenTask:
    return SeenTask(
        provider=provider,
        task_id=task_id,
        state=state,
        submitted_at="2026-11-21T10:00:01.000Z",
        event_id=f"evt_{task_id}",
        assets=(SeenAsset(state="stored", bytes=9),) if state == "completed" else (),
        deliveries=deliveries,
    )


def told(
    provider: str, task_id: str, number: int, *, images: tuple[ToldImage, ...], error: str | None
) -> Told:
    return Told(
        specversion="1.0",
        id=f"evt_{task_id}",
        source="http://127.0.0.1:1",
        type="task.failed" if error else "task.completed",
        subject=f"{provider}/{task_id}",
        data=ToldTask(
            provider=provider,
            task_id=task_id,
            submission_id=f"sub_{task_id}",
            owner="user-1",
            metadata={"number": number},
            assets=images,
            error=ToldError(message=error) if error else None,
        ),
    )


IMAGE = TrueImage(index=0, media_type="image/png", bytes=9, width=4, height=3, sha256=SHA)
TOLD_IMAGE = ToldImage(
    index=0, state="stored", key=KEY, url="http://127.0.0.1:1/assets/x", media_type="image/png",
    bytes=9, width=4, height=3, sha256=SHA,
)  # fmt: skip
AFTER = SeenDelivery(
    via="callback", verdict="accepted", proof="submission", seen=3, received_at="2026-11-21T10:00:02.000Z"
)
BEFORE = SeenDelivery(
    via="callback", verdict="accepted", proof="signature", seen=1, received_at="2026-11-21T10:00:00.000Z"
)
LIED = replace(BEFORE, verdict="conflict")
ASKED = SeenDelivery(
    via="poll", verdict="accepted", proof="poll", seen=1, received_at="2026-11-21T10:00:09.000Z"
)

# One ordered through the gateway, whose callback came before the answer and again; one that failed before it
# was logged, and was lied about; one without a callback.
DONE = TrueTask(
    provider="vidgo",
    task_id="t-1",
    state="completed",
    simulate=Fate(duplicate=3),
    files=(IMAGE,),
    callbacks=(call("accepted"), call("duplicate"), call("duplicate")),
    billed_micros=10_000,
)
LOST = TrueTask(
    provider="wavespeed",
    task_id="t-2",
    state="failed",
    simulate=Fate(error=FAILURE),
    files=(),
    callbacks=(call("early"),),
    forgeries=(call("unconfirmed"),),
)
MUTE = TrueTask(
    provider="reapi", task_id="t-3", state="failed", simulate=Fate(error=FAILURE), files=(), callbacks=()
)
WRONG = TrueTask(
    provider="replicate",
    task_id="t-4",
    state="failed",
    simulate=Fate(error=FAILURE, bad_signature=True),
    files=(),
    callbacks=(call("", 401), call("", 401)),
)
TOLD_DONE = told("vidgo", "t-1", 1, images=(TOLD_IMAGE,), error=None)
TOLD_LOST = told("wavespeed", "t-2", 2, images=(), error=FAILURE)
COST = SeenCost(usd="0.01", state="charged")
SEEN_DONE = replace(seen("vidgo", "t-1", "completed", AFTER), cost=COST)
TOLD_MUTE = told("reapi", "t-3", 3, images=(), error=FAILURE)
SEEN_LOST = seen("wavespeed", "t-2", "failed", BEFORE, LIED)
SEEN_MUTE = seen("reapi", "t-3", "failed", ASKED)
TOLD_WRONG = told("replicate", "t-4", 4, images=(), error=FAILURE)
SEEN_WRONG = seen("replicate", "t-4", "failed", ASKED)
TRUE = Evidence(
    handed=(
        Handed(job=job("vidgo", 1, early=True, repeats=3), task_id="t-1", submission_id="sub_t-1"),
        Handed(
            job=job("wavespeed", 2, early=True, forged=True, fails=True),
            task_id="t-2",
            submission_id="sub_t-2",
        ),
        Handed(job=job("reapi", 3, lost=True, fails=True), task_id="t-3", submission_id="sub_t-3"),
        Handed(
            job=job("replicate", 4, fails=True, bad_signature=True), task_id="t-4", submission_id="sub_t-4"
        ),
    ),
    truth=(DONE, LOST, MUTE, WRONG),
    seen=(SEEN_DONE, SEEN_LOST, SEEN_MUTE, SEEN_WRONG),
    told=(TOLD_DONE, TOLD_LOST, TOLD_MUTE, TOLD_WRONG),
    linked={("vidgo/t-1", 0): Copy(bytes=9, sha256=SHA, media_type="image/png")},
    files={KEY: Copy(bytes=9, sha256=SHA)},
    forgery=Forgery(victim="vidgo/t-1", answer=401, deliveries=5),
)


def broken(evidence: Evidence) -> set[str]:
    return {expectation.promise for expectation in check(evidence) if not expectation.held}


def with_truth(**changes: Any) -> Evidence:
    return replace(TRUE, truth=(replace(DONE, **changes), LOST, MUTE, WRONG))


def with_image(**changes: Any) -> Evidence:
    return with_truth(files=(replace(IMAGE, **changes),))


def with_told(**changes: Any) -> Evidence:
    return replace(TRUE, told=(replace(TOLD_DONE, **changes), TOLD_LOST, TOLD_MUTE, TOLD_WRONG))


def with_seen(delivery: SeenDelivery) -> Evidence:
    return replace(TRUE, seen=(replace(SEEN_DONE, deliveries=(delivery,)), SEEN_LOST, SEEN_MUTE, SEEN_WRONG))


def with_early(*deliveries: SeenDelivery) -> Evidence:
    return replace(TRUE, seen=(SEEN_DONE, replace(SEEN_LOST, deliveries=deliveries), SEEN_MUTE, SEEN_WRONG))


def with_mute(*deliveries: SeenDelivery) -> Evidence:
    return replace(TRUE, seen=(SEEN_DONE, SEEN_LOST, replace(SEEN_MUTE, deliveries=deliveries), SEEN_WRONG))


def with_cost(**changes: str) -> Evidence:
    changed = replace(SEEN_DONE, cost=replace(COST, **changes))
    return replace(TRUE, seen=(changed, SEEN_LOST, SEEN_MUTE, SEEN_WRONG))


def test_true_evidence_breaks_no_promise() -> None:
    assert broken(TRUE) == set()


# What is false -> the promises that it breaks.
LIES: dict[str, tuple[Evidence, set[str]]] = {
    "other bytes": (with_image(sha256="b" * 64), {DESCRIPTIONS, LINKS, FILES}),
    "other length": (with_image(bytes=8), {DESCRIPTIONS, LINKS, FILES}),
    "other width": (with_image(width=5), {DESCRIPTIONS}),
    "other height": (with_image(height=5), {DESCRIPTIONS}),
    "other type": (with_image(media_type="image/webp"), {DESCRIPTIONS, LINKS}),
    "image invented": (with_truth(files=()), {DESCRIPTIONS}),
    "image lost": (with_truth(files=(IMAGE, replace(IMAGE, index=1))), {DESCRIPTIONS, LINKS, FILES}),
    "no link": (replace(TRUE, linked={}), {LINKS}),
    "no file": (replace(TRUE, files={}), {FILES}),
    "file left over": (replace(TRUE, files={**TRUE.files, "x": Copy(bytes=1, sha256=SHA)}), {FILES}),
    "failed at the provider": (with_truth(state="failed"), {ENDS, EVENTS}),
    "unknown at the provider": (
        replace(TRUE, truth=(LOST, MUTE, WRONG)),
        {ENDS, DESCRIPTIONS, REPEATS, COSTS},
    ),
    "unknown here": (replace(TRUE, seen=(SEEN_LOST, SEEN_MUTE, SEEN_WRONG)), {ENDS, EVENTS, EARLY, FORGERY}),
    "not told": (replace(TRUE, told=(TOLD_LOST, TOLD_MUTE, TOLD_WRONG)), {EVENTS, DESCRIPTIONS, FILES}),
    "told twice": (replace(TRUE, told=(TOLD_DONE, TOLD_DONE, TOLD_LOST, TOLD_MUTE, TOLD_WRONG)), {EVENTS}),
    "a stranger told": (replace(TRUE, handed=TRUE.handed[:3]), {EVENTS}),
    "wrong event type": (with_told(type="task.partial"), {EVENTS}),
    "wrong owner": (with_told(data=replace(TOLD_DONE.data, owner="user-2")), {EVENTS}),
    "too few callbacks": (with_truth(callbacks=(call("accepted"),)), {ANSWERS, REPEATS}),
    "a callback not acknowledged": (with_truth(callbacks=(*DONE.callbacks, call("", 503))), {ANSWERS}),
    "a callback without an answer": (
        with_truth(callbacks=(*DONE.callbacks, TrueCall(status=None, answer=None))),
        {ANSWERS},
    ),
    "a callback without an answer, and yet on record": (
        replace(
            with_truth(callbacks=(*DONE.callbacks, TrueCall(status=None, answer=None))),
            seen=with_seen(replace(AFTER, seen=AFTER.seen + 1)).seen,
        ),
        {ANSWERS},
    ),
    "accepted twice": (
        with_truth(callbacks=(call("accepted"), call("accepted"), call("duplicate"))),
        {REPEATS},
    ),
    "repeats not counted": (with_seen(replace(AFTER, seen=1)), {REPEATS}),
    "early and never matched": (with_early(replace(BEFORE, verdict="early"), LIED), {EARLY}),
    "before its order's answer, and not by its own URL": (
        with_seen(replace(AFTER, proof="provider")),
        {EARLY},
    ),
    "not early at all": (
        replace(TRUE, truth=(DONE, replace(LOST, callbacks=(call("accepted"),)), MUTE, WRONG)),
        {EARLY},
    ),
    "ended by nobody": (with_mute(replace(ASKED, verdict="progress")), {SILENT}),
    "a silent one called": (with_mute(replace(ASKED, via="callback")), {SILENT, REPEATS}),
    "a lie fetched": (replace(TRUE, truth=(DONE, replace(LOST, forged_fetches=1), MUTE, WRONG)), {LIE}),
    "a lie without a trace": (with_early(BEFORE, replace(LIED, via="poll", verdict="duplicate")), {LIE}),
    "a wrong signature believed": (
        replace(TRUE, truth=(DONE, LOST, MUTE, replace(WRONG, callbacks=(call("", 401), call("", 503))))),
        {SIGNATURE},
    ),
    "billed, and released": (with_cost(state="released"), {COSTS}),
    "booked with more than was billed": (with_cost(usd="0.02"), {COSTS}),
    "billed otherwise than booked": (with_truth(billed_micros=0), {COSTS}),
    "a lie believed": (replace(TRUE, forgery=replace(TRUE.forgery, answer=200)), {FORGERY}),
    "a lie recorded": (replace(TRUE, forgery=replace(TRUE.forgery, deliveries=6)), {FORGERY}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_breaks_exactly_the_promises_that_it_touches(lie: str) -> None:
    evidence, promises = LIES[lie]
    assert broken(evidence) == promises


@pytest.mark.parametrize(
    ("outage", "status", "holds"),
    [(True, None, True), (True, 503, True), (True, 200, False), (False, None, False)],
)
def test_only_a_lie_that_an_outage_kept_away_may_leave_no_trace(
    *, outage: bool, status: int | None, holds: bool
) -> None:
    lost = replace(LOST, forgeries=(TrueCall(status=status, answer=None),))
    evidence = replace(with_early(BEFORE), outage=outage, truth=(DONE, lost, MUTE, WRONG))
    assert (LIE not in broken(evidence)) == holds
    (found,) = (each for each in check(evidence) if each.promise == LIE)
    assert found.checked == (not holds)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_promise_is_printed_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, *, as_json: bool
) -> None:
    evidence = with_image(width=5)
    report = make_report(evidence, check(evidence), RunFolder(path=tmp_path), 1.5)
    print_report(report, as_json=as_json)
    assert report.exit_code is Exit.FAILED
    printed = capsys.readouterr().out
    assert DESCRIPTIONS in printed
    assert "4x3" in printed
    assert "5x3" in printed
    if not as_json:
        assert f"FAILED  {DESCRIPTIONS} (1)" in printed
        assert f"1 of 13 promises did not hold: {DESCRIPTIONS}." in printed


def test_only_the_first_problems_of_many_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    many = Expectation(promise=ENDS, held=False, checked=7, problems=tuple(f"problem {n}" for n in range(7)))
    print_report(make_report(TRUE, [many], RunFolder(path=tmp_path), 1.0), as_json=False)
    printed = capsys.readouterr().out
    assert "problem 4\n" in printed
    assert "problem 5" not in printed
    assert "and 2 more" in printed


def test_the_first_four_jobs_show_every_kind() -> None:
    plan = make_plan(4)
    assert any(job.early for job in plan)
    assert any(job.fails for job in plan)
    assert any(job.repeats > 1 for job in plan)
    assert any(job.images > 1 for job in plan)
    assert any(job.lost and "drop_callback" in job.simulate for job in plan)
    assert any(job.forged for job in plan)
    assert {job.provider for job in plan} == {"vidgo", "apidot", "apixo", "reapi"}


def test_two_dozen_jobs_show_every_kind_of_signed_ones() -> None:
    signed = [job for job in make_plan(24) if job.provider in SIGNED]
    assert {job.provider for job in signed} == set(SIGNED)
    for provider in SIGNED:
        jobs = [job for job in signed if job.provider == provider]
        kinds = [(job.early, job.lost, job.repeats > 1, job.bad_signature) for job in jobs]
        assert sorted(map(sum, kinds)) == [1] * 4
        assert len(set(kinds)) == 4
    assert not any(job.forged for job in signed)  # whoever lies has no secret, and is refused


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "run-7").mkdir()
    (tmp_path / "run-of-mine").write_text("not the demo's")
    assert make_run_folder(tmp_path).path == tmp_path / "run-8"
    assert make_run_folder(tmp_path).path == tmp_path / "run-9"
    assert (tmp_path / "run-of-mine").read_text() == "not the demo's"


def test_settings_of_the_callers_shell_do_not_reach_the_service(tmp_path: Path) -> None:
    shell = {
        "PATH": "/bin",
        "RECEIVER_SECRET": "x",
        "RECEIVER_TYPO": "1",
        "DATABASE_URL": "postgres://db",
        "DYNO": "web.1",
        "VIDGO_API_KEY": "k",
    }
    environment = service_environment(shell, tmp_path, 4711)
    assert environment.keys() & shell.keys() == {"PATH"}
    settings = load_settings(environment)
    assert settings.url == settings.public_url == "http://127.0.0.1:4711"
    assert settings.data_dir == tmp_path
