"""Plans that take something away for good: withdraw reservations, move or drop what a sink did not get.

Whatever the number is, it is typed, and so is a reason.
"""

import asyncio
import hashlib
import shlex
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Submission, WorkFilter
from receiver.web.dead_letters import DeadOf, count_undelivered, drop_dead, drop_unset, move_dead, move_unset
from receiver.web.filters import check_sinks
from receiver.web.pages.plan_seal import check_consent, is_fresh, seal, unseal
from receiver.web.pages.plans import MOST_PICKED
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.plans import LIFE
from receiver.web.submissions import withdraw_one

COUNT_SECONDS = 10.0
MOST_SINK = 200  # characters of a name that is not set any more


class Deed(StrEnum):
    """What is planned."""

    WITHDRAW = "withdraw"
    MOVE = "move"
    DROP = "drop"


class Clearing(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done. Of a sink that is set it is about dead letters, of one that is not about all."""

    id: str
    deed: Deed
    asked_at: datetime
    count: int = 0
    submissions: tuple[str, ...] = ()  # to withdraw
    sink: str = ""
    to: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; ``left`` says in words what was left alone, and why."""

    done: int
    left: tuple[str, ...] = ()


async def make(visit: Visit) -> Response:
    """Plan what a form asks for, and show that; nothing is done. Raises Refusal where it takes too long."""
    plan = _asked(visit)
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            plan = msgspec.structs.replace(plan, count=await _count(visit, plan))
    except TimeoutError as exc:
        detail = "They cannot be counted in time, and what is not counted is not taken away from here."
        raise Refusal(503, "Too many to count", detail) from exc
    until = plan.asked_at + LIFE
    place = f"/admin/clearings/{seal(visit, plan, until)}"
    await visit.runtime.store.keep_code(_mark(plan), "plan", until, visit.now)
    return visit.redirect(place)


async def show(visit: Visit) -> Response:
    """A plan, and what it wants typed before it is done."""
    text = visit.request.path_params["plan"]
    plan = unseal(visit, text, Clearing)
    return visit.page(
        "clearing.html",
        plan=plan,
        sealed=text,
        is_set=plan.sink in visit.runtime.sinks,
        reservations=await _reservations(visit, plan.submissions),
        command=_command(plan),
        wants_token=not is_fresh(visit),
        until=plan.asked_at + LIFE,
        done=None,
    )


async def do(visit: Visit) -> Response:
    """Do what a plan says, once, and say what came of it."""
    plan = unseal(visit, visit.form.get("plan"), Clearing)
    check_consent(visit, str(plan.count))
    if await visit.runtime.store.use_code(_mark(plan), visit.now) is None:
        raise Refusal(409, "Done already", "This plan was carried out once, and is not carried out twice.")
    reason = visit.form.get("reason")
    visit.note("plan.done", plan=plan.id, act=plan.deed, planned=plan.count)
    return visit.page("clearing.html", plan=plan, done=await _do(visit, plan, reason))


def _mark(plan: Clearing) -> str:
    """By which the record knows that a plan was not done yet."""
    return hashlib.sha256(f"plan {plan.id}".encode()).hexdigest()


def _asked(visit: Visit) -> Clearing:
    """What a form asks for, not counted yet. Raises Refusal, and Rejected for a sink that is not known."""
    form = visit.form
    try:
        deed = Deed(form.get("deed"))
    except ValueError as exc:
        raise Refusal(400, "Nothing to plan", "Choose what is to be done.") from exc
    plan = Clearing(id=visit.runtime.clock.new_id("act"), deed=deed, asked_at=visit.now)
    if deed is Deed.WITHDRAW:
        picked = tuple(dict.fromkeys(form.get_all("pick")))
        if not picked or len(picked) > MOST_PICKED:
            raise Refusal(400, "Nothing is picked", f"Pick some reservations, {MOST_PICKED} at most.")
        return msgspec.structs.replace(plan, submissions=picked)
    sink, to = form.get("sink"), form.get("to")
    if not sink or len(sink) > MOST_SINK:
        raise Refusal(400, "Nothing to plan", "Choose the sink whose events it is about.")
    if deed is Deed.MOVE:
        check_sinks(visit.runtime, [to])
        if to == sink:
            raise Refusal(400, "Nothing to plan", "They are at that sink already: choose another one.")
    return msgspec.structs.replace(plan, sink=sink, to=to if deed is Deed.MOVE else "")


async def _count(visit: Visit, plan: Clearing) -> int:
    """How many it is about now."""
    if plan.deed is Deed.WITHDRAW:
        return len(plan.submissions)
    if plan.sink in visit.runtime.sinks:
        return await visit.runtime.store.count_dead(WorkFilter(), [plan.sink], plan.asked_at)
    return sum(await count_undelivered(visit.runtime, plan.sink))


async def _reservations(visit: Visit, ids: Sequence[str]) -> list[Submission]:
    """Those that are there still; what is none of ours is left out."""
    found = [await visit.known(visit.runtime.store.pages.get_submission(each)) for each in ids]
    return [each for each in found if each is not None]


async def _do(visit: Visit, plan: Clearing, reason: str) -> Done:
    if plan.deed is Deed.WITHDRAW:
        return await _withdraw(visit, plan, reason)
    runtime, actor, count = visit.runtime, visit.actor, plan.count
    dead = None
    if plan.sink in runtime.sinks:
        dead = DeadOf(sink=plan.sink, filter=WorkFilter(), up_to=plan.asked_at)
    if plan.deed is Deed.MOVE:
        if dead is not None:
            moved = await move_dead(runtime, actor, dead, plan.to, count, reason=reason)
        else:
            moved = await move_unset(runtime, actor, plan.sink, plan.to, count, reason)
        had = (f"{moved.had:,} that {plan.to} had already are dropped",) if moved.had else ()
        return Done(done=moved.moved or 0, left=had)
    if dead is not None:
        return Done(done=await drop_dead(runtime, actor, dead, count, reason=reason))
    return Done(done=await drop_unset(runtime, actor, plan.sink, count, reason))


async def _withdraw(visit: Visit, plan: Clearing, reason: str) -> Done:
    """Each by itself: one that was bound meanwhile stays, and keeps back no other."""
    done, left = 0, []
    for each in plan.submissions:
        try:
            await withdraw_one(visit.runtime, each, visit.actor, visit.caller, reason)
            done += 1
        except Rejected as error:
            left.append(f"{each}: {error.title}")
    return Done(done=done, left=tuple(left))


def _command(plan: Clearing) -> str:
    """The same at a terminal; empty where there is no such command."""
    if plan.deed is Deed.WITHDRAW:
        return f"receiver submissions withdraw {plan.submissions[0]}" if len(plan.submissions) == 1 else ""
    to = f" --to {shlex.quote(plan.to)}" if plan.to else ""
    return f"receiver dead {plan.deed} --sink {shlex.quote(plan.sink)}{to}"


PAGES = (
    Page(path="/admin/clearings", answer=make, access=Access.ADMIN, method="POST"),
    Page(path="/admin/clearings/do", answer=do, access=Access.ADMIN, method="POST"),
    Page(path="/admin/clearings/{plan}", answer=show, access=Access.ADMIN),
)
