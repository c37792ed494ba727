"""The plan step: what would be done is shown first, pinned to what was seen, then done once or not at all.

A plan is no row: it is text that is signed for one log-in and a quarter of an hour. Its times are absolute,
and it is only about what was so when it was made; "all" is all that the filter matched then.
"""

import asyncio
import base64
import hashlib
import re
import shlex
from datetime import datetime, timedelta

import msgspec
import structlog
from starlette.responses import Response

from receiver.errors import Unavailable
from receiver.models import Replay, Stage, TaskKey, TaskState, WorkFilter, new_replay
from receiver.replay import check_can_match
from receiver.times import to_text
from receiver.web.dead_letters import requeue_dead
from receiver.web.pages.filters import Fields
from receiver.web.pages.forms import Form
from receiver.web.pages.refusals import Refusal, not_allowed
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.replays import begin

log = structlog.get_logger()

LIFE = timedelta(minutes=15)
COUNT_SECONDS = 1.5
EXAMPLES = 5
MOST_PICKED = 50  # as many as a page shows
MOST_CHARACTERS = 6_000
FEW = 100  # above it the number and a reason are typed
FRESH = timedelta(minutes=10)  # above that number, the token again if the log-in is older
GROWN = 1.1

WHAT = {
    Stage.NOTIFY: "Send the events of tasks again",
    Stage.FETCH: "Fetch the files that tasks lack",
    Stage.POLL: "Ask the providers about tasks without an end",
    None: "Send dead letters after all",
}
# What the times of a filter compare with, by what is done.
WHEN = {
    Stage.NOTIFY: "that ended",
    Stage.FETCH: "whose result came",
    Stage.POLL: "that were logged",
    None: "whose tasks ended",
}
_STAGES = {"notify": Stage.NOTIFY, "fetch": Stage.FETCH, "poll": Stage.POLL, "requeue": None}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done. ``stage`` is None for dead letters; ``count`` None where it took too long."""

    id: str
    stage: Stage | None
    filter: WorkFilter
    sinks: tuple[str, ...]
    asked_at: datetime
    count: int | None
    was: int | None = None  # the count of the plan that this one takes the place of

    @property
    def is_large(self) -> bool:
        return self.count is None or self.count > FEW


async def make(visit: Visit) -> Response:
    """Plan what a form asks for, and show that; nothing is done."""
    return visit.redirect(await _place(visit, await _counted(visit, _asked(visit))))


async def show(visit: Visit) -> Response:
    """A plan, and the button that does it."""
    text = visit.request.path_params["plan"]
    plan = _opened(visit, text)
    examples: list[TaskKey] | None = []
    if plan.stage is not None:
        reading = visit.runtime.store.pages.list_examples(plan.stage, plan.filter, plan.asked_at, EXAMPLES)
        examples = await visit.known(reading)
    return visit.page(
        "plan.html",
        plan=plan,
        sealed=text,
        what=WHAT[plan.stage],
        when=WHEN[plan.stage],
        examples=examples,
        command=_command(plan),
        sinks=plan.sinks or tuple(visit.runtime.sinks),
        wants_token=plan.is_large and not _is_fresh(visit),
        until=plan.asked_at + LIFE,
        failing=[name for name in plan.sinks or visit.runtime.sinks if visit.runtime.relay.is_down(name)],
    )


async def do(visit: Visit) -> Response:
    """Do what a plan says, once."""
    plan = _opened(visit, visit.form.get("plan"))
    _check_consent(visit, plan)
    runtime, reason = visit.runtime, " ".join(visit.form.get("reason").split())[:200]
    again = await _counted(visit, plan)
    if plan.count is not None and again.count is not None and again.count > max(plan.count, 10) * GROWN:
        return visit.redirect(
            await _place(visit, msgspec.structs.replace(again, was=plan.count, asked_at=visit.now))
        )
    if await runtime.store.use_code(_mark(plan), visit.now) is None:
        if plan.stage is not None and await runtime.store.pages.get_replay(plan.id) is not None:
            return visit.redirect(f"/admin/replays/{plan.id}")
        raise Refusal(409, "Done already", "This plan was carried out once, and is not carried out twice.")
    log.info(
        "plan.done",
        who=visit.caller,
        said_name=visit.visitor.session.said_name if visit.visitor else None,
        plan=plan.id,
        act=plan.stage or "requeue",
        planned=plan.count,
        reason=reason or None,
    )
    if plan.stage is None:
        matched = again.count if again.count is not None else await _count(visit, plan)
        await requeue_dead(runtime, visit.caller, plan.filter, plan.sinks or tuple(runtime.sinks), matched)
        return visit.redirect("/admin/sinks")
    said = visit.visitor.session.said_name if visit.visitor else ""
    await begin(runtime, _replay(plan, f"{visit.caller} ({said})" if said else visit.caller))
    return visit.redirect(f"/admin/replays/{plan.id}")


def _asked(visit: Visit) -> Plan:
    """The plan that a form asks for, not counted yet. Raises Refusal."""
    form, fields = visit.form, Fields(visit.form, visit.now)
    act = form.get("act")
    if act not in _STAGES:
        raise Refusal(400, "Nothing to plan", "Choose what is to be done.")
    stage = _STAGES[act]
    if form.get("scope") == "picked":
        wanted = _picked(form)
    else:
        wanted = WorkFilter(
            state=fields.word("state", TaskState),
            provider=fields.known("provider", visit.runtime.providers),
            owner=fields.text("owner"),
            since=fields.moment("since"),
            until=fields.moment("until"),
        )
    sink = fields.known("sink", visit.runtime.sinks)
    if fields.problems:
        name, words = next(iter(fields.problems.items()))
        raise Refusal(400, "This cannot be planned", f"{name} must be {words}.")
    if stage is not None:
        try:
            check_can_match(stage, wanted.state, None)
        except ValueError as exc:
            raise Refusal(400, "This cannot be planned", f"{exc}.") from exc
    return Plan(
        id=visit.runtime.clock.new_id("rpl"),
        stage=stage,
        filter=wanted,
        sinks=(sink,) if sink else (),
        asked_at=visit.now,
        count=None,
    )


def _picked(form: Form) -> WorkFilter:
    """The tasks that were picked, which are of one provider: another one may have the same ids."""
    picked = [each.partition("/") for each in form.get_all("pick")]
    providers = {provider for provider, _, _ in picked}
    if not picked or len(picked) > MOST_PICKED:
        raise Refusal(400, "Nothing is picked", f"Pick some tasks of the list, {MOST_PICKED} at most.")
    if len(providers) > 1:
        raise Refusal(400, "Of several providers", "Pick tasks of one provider at a time.")
    return WorkFilter(provider=providers.pop(), task_ids=tuple(task_id for _, _, task_id in picked))


async def _counted(visit: Visit, plan: Plan) -> Plan:
    """The plan with how many it is about now; without, where that takes longer than a person waits."""
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            return msgspec.structs.replace(plan, count=await _count(visit, plan))
    except (TimeoutError, Unavailable):
        return msgspec.structs.replace(plan, count=None)


async def _count(visit: Visit, plan: Plan) -> int:
    store = visit.runtime.store
    if plan.stage is None:
        return await store.count_dead(_until(plan), plan.sinks or tuple(visit.runtime.sinks))
    return await store.count_matches(plan.stage, plan.filter, plan.asked_at)


def _until(plan: Plan) -> WorkFilter:
    """What of dead letters a plan is about: of tasks that had ended when it was made."""
    return msgspec.structs.replace(plan.filter, until=plan.filter.until or plan.asked_at)


async def _place(visit: Visit, plan: Plan) -> str:
    """Where a new plan is shown. That it was not done yet is on record."""
    if plan.stage is None:
        plan = msgspec.structs.replace(plan, filter=_until(plan))
    plan = msgspec.structs.replace(plan, id=visit.runtime.clock.new_id("rpl"))
    payload = base64.urlsafe_b64encode(msgspec.json.encode(plan)).decode().rstrip("=")
    if len(payload) > MOST_CHARACTERS:  # of an address
        raise Refusal(400, "Too much to plan", "The ids that were picked are long: pick fewer.")
    await visit.runtime.store.keep_code(_mark(plan), "plan", plan.asked_at + LIFE, visit.now)
    expires = int((plan.asked_at + LIFE).timestamp())
    return f"/admin/plans/{payload}.{expires}.{_signature(visit, payload, expires)}"


def _opened(visit: Visit, text: str) -> Plan:
    """The plan in a text of ours, for this log-in. Raises Refusal."""
    payload, _, rest = text.partition(".")
    expires, _, signature = rest.partition(".")
    is_number = re.fullmatch(r"[0-9]{1,12}", expires) is not None
    secret = visit.visitor.secret if visit.visitor else ""
    tokens = visit.runtime.tokens
    if not is_number or not tokens.check_ticket("plan", f"{secret}.{payload}", int(expires), signature):
        raise not_allowed("This plan is of another log-in. Plan it anew.")
    if visit.now.timestamp() >= int(expires):
        raise Refusal(409, "This plan is over", "A plan is good for 15 minutes. Plan it anew.")
    return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Plan)


def _signature(visit: Visit, payload: str, expires: int) -> str:
    secret = visit.visitor.secret if visit.visitor else ""
    return visit.runtime.tokens.sign_ticket("plan", f"{secret}.{payload}", expires)


def _mark(plan: Plan) -> str:
    return hashlib.sha256(f"plan {plan.id}".encode()).hexdigest()


def _check_consent(visit: Visit, plan: Plan) -> None:
    """What a large plan wants typed. Raises Refusal."""
    if not plan.is_large:
        return
    wanted = "all" if plan.count is None else str(plan.count)
    if visit.form.get("number").replace(",", "").lower() != wanted:
        raise Refusal(400, "Not done", f"Go back and type {wanted}, so that it is meant.")
    if not visit.form.get("reason"):
        raise Refusal(400, "Not done", "Go back and say why: the reason is written to the log.")
    if _is_fresh(visit):
        return
    if wait_seconds := visit.log_ins.wrong.wait_seconds(visit.peer):
        raise Refusal(429, "Too many wrong tokens", "Wait a little.", retry_after_seconds=wait_seconds)
    person = visit.log_ins.recognise(visit.form.get("token"))
    if person is None or person.role is not visit.role:
        visit.log_ins.wrong.note(visit.peer)
        raise not_allowed("Your log-in is older than 10 minutes: go back and give your token once more.")


def _is_fresh(visit: Visit) -> bool:
    return visit.visitor is not None and visit.now - visit.visitor.session.created_at < FRESH


def _replay(plan: Plan, requested_by: str) -> Replay:
    """As it is before its first step; its beginning counts what it matches."""
    assert plan.stage is not None  # noqa: S101 - for mypy
    return new_replay(
        id=plan.id,
        stage=plan.stage,
        filter=plan.filter,
        sinks=plan.sinks,
        rate=None,
        requested_by=requested_by,
        created_at=plan.asked_at,  # so that it leaves alone whatever came since
    )


def _command(plan: Plan) -> str:
    """The same at a terminal, without picked tasks, of which there may be many."""
    words = ["receiver dead requeue"] if plan.stage is None else [f"receiver replay --stage {plan.stage}"]
    wanted = plan.filter
    named = {"provider": wanted.provider, "owner": wanted.owner, "state": wanted.state}
    words += [f"--{name} {shlex.quote(value)}" for name, value in named.items() if value]
    words += [f"--since {to_text(wanted.since)}"] if wanted.since else []
    words += [f"--until {to_text(wanted.until)}"] if wanted.until else []
    words += [f"--sink {sink}" for sink in plan.sinks]
    return " ".join(words)


PAGES = (
    Page(path="/admin/plans", answer=make, access=Access.ADMIN, method="POST"),
    Page(path="/admin/plans/do", answer=do, access=Access.ADMIN, method="POST"),
    Page(path="/admin/plans/{plan}", answer=show, access=Access.ADMIN),
)
