"""The plan step: what would be done is shown first, pinned to what was seen, then done once or not at all.

A plan is no row: it is text that is signed for one log-in and a quarter of an hour. Its times are absolute,
and it is only about what was so when it was made; "all" is all that the filter matched then. Its id is that
of the replay or the requeue, which the record does once.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import structlog
from starlette.responses import Response

from receiver.models import Replay, TaskState, WorkFilter, new_replay
from receiver.replay import check_can_match
from receiver.web import plans as planning
from receiver.web.dead_letters import Requeuing, requeue_dead
from receiver.web.pages.filters import Fields
from receiver.web.pages.forms import Form
from receiver.web.pages.plan_seal import check_consent, is_fresh, seal, unseal
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.plans import LIFE, PlanAct
from receiver.web.replays import begin

log = structlog.get_logger()

MOST_PICKED = 50  # as many as a page shows
FEW = 100  # above it the number and a reason are typed
GROWN = 1.1
LEAST_RATE, MOST_RATE = 0.001, 100_000

WHAT = {
    PlanAct.NOTIFY: "Send the events of tasks again",
    PlanAct.FETCH: "Fetch the files that tasks lack",
    PlanAct.REPROCESS: "Read kept callbacks with today's adapters",
    PlanAct.POLL: "Ask the providers about tasks without an end",
    PlanAct.REQUEUE: "Send dead letters after all",
}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done. Of ``count`` there are so many at least where it is not ``is_exact``."""

    id: str
    act: PlanAct
    filter: WorkFilter
    sinks: tuple[str, ...]
    rate: float | None
    asked_at: datetime
    count: int = 0
    is_exact: bool = False
    by: Mapping[str, Mapping[str, int | None]] = {}
    expected_seconds: float | None = None
    was: int | None = None  # the count of the plan that this one takes the place of

    @property
    def is_large(self) -> bool:
        return not self.is_exact or self.count > FEW

    @property
    def number(self) -> str:
        """What is typed so that a large one is meant."""
        return str(self.count) if self.is_exact else "all"


async def make(visit: Visit) -> Response:
    """Plan what a form asks for, and show that; nothing is done."""
    return visit.redirect(_place(visit, await _counted(visit, _asked(visit))))


async def show(visit: Visit) -> Response:
    """A plan, and the button that does it."""
    text = visit.request.path_params["plan"]
    plan, runtime = unseal(visit, text, Plan), visit.runtime
    about = (plan.act, plan.filter, plan.sinks)
    sinks = planning.addressed(runtime, plan.act, plan.sinks)
    step = planning.step(plan.act, plan.id, plan.filter, plan.sinks, plan.rate, plan.asked_at)
    return visit.page(
        "plan.html",
        plan=plan,
        sealed=text,
        what=WHAT[plan.act],
        examples=await visit.known(planning.examples(runtime, *about, plan.asked_at)),
        command=planning.command(*about, plan.rate),
        step=step,
        body=msgspec.json.format(msgspec.json.encode(step.body)).decode(),
        sinks=sinks,
        wants_token=plan.is_large and not is_fresh(visit),
        until=plan.asked_at + LIFE,
        failing=[name for name in sinks if runtime.relay.is_down(name)],
    )


async def do(visit: Visit) -> Response:
    """Do what a plan says, once."""
    plan = unseal(visit, visit.form.get("plan"), Plan)
    if plan.is_large:
        check_consent(visit, plan.number)
    reason = " ".join(visit.form.get("reason").split())[:200]
    place = f"/admin/audit?target={plan.id}" if plan.act.stage is None else f"/admin/replays/{plan.id}"
    begun = await visit.runtime.store.get_act(plan.id)
    if begun is None:
        again = await _counted(visit, msgspec.structs.replace(plan, asked_at=visit.now))
        if again.count > max(plan.count, 10) * GROWN and plan.is_exact:
            return visit.redirect(_place(visit, msgspec.structs.replace(again, was=plan.count)))
    await _carry_out(visit, plan, reason)
    if begun is None:
        _tell(visit, plan, reason)
    return visit.redirect(place)


def _tell(visit: Visit, plan: Plan, reason: str) -> None:
    log.info(
        "plan.done",
        who=visit.caller,
        said_name=visit.actor.said_name or None,
        plan=plan.id,
        act=plan.act.value,
        planned=plan.count,
        reason=reason or None,
    )


async def _carry_out(visit: Visit, plan: Plan, reason: str) -> None:
    runtime, actor = visit.runtime, visit.actor
    if plan.act.stage is not None:
        who = f"{actor.who} ({actor.said_name})" if actor.said_name else actor.who
        await begin(runtime, _replay(plan, who), actor, reason)
        return
    task = Requeuing(
        id=plan.id,
        filter=plan.filter,
        sinks=planning.addressed(runtime, plan.act, plan.sinks),
        up_to=plan.asked_at,
    )
    await requeue_dead(runtime, actor, task, plan.count, reason=reason)


def _asked(visit: Visit) -> Plan:
    """The plan that a form asks for, not counted yet. Raises Refusal."""
    form, fields = visit.form, Fields(visit.form, visit.now)
    act = fields.word("act", PlanAct)
    if act is None:
        raise Refusal(400, "Nothing to plan", "Choose what is to be done.")
    sink = fields.known("sink", visit.runtime.sinks)
    if form.get("scope") == "picked" and act is PlanAct.REQUEUE:
        sink, wanted = _picked_letters(form, visit.runtime.sinks)
    elif form.get("scope") == "picked":
        wanted = _picked_tasks(form.get_all("pick"))
    else:
        wanted = WorkFilter(
            state=fields.word("state", TaskState),
            provider=fields.known("provider", visit.runtime.providers),
            owner=fields.text("owner"),
            logged_since=fields.moment("logged_since"),
            logged_until=fields.moment("logged_until"),
        )
    rate = None if act is PlanAct.REQUEUE else fields.number("rate", LEAST_RATE, MOST_RATE)
    if fields.problems:
        name, words = next(iter(fields.problems.items()))
        raise Refusal(400, "This cannot be planned", f"{name} must be {words}.")
    if stage := act.stage:
        try:
            check_can_match(stage, wanted.state, None)
        except ValueError as exc:
            raise Refusal(400, "This cannot be planned", f"{exc}.") from exc
    return Plan(
        id="",
        act=act,
        filter=wanted,
        sinks=(sink,) if sink else (),
        rate=rate,
        asked_at=visit.now,
    )


def _picked_letters(form: Form, known: Iterable[str]) -> tuple[str, WorkFilter]:
    """The sink of the dead letters that were picked, and their tasks; these may have others elsewhere."""
    picked = [each.partition("/") for each in form.get_all("pick")]
    sinks = {sink for sink, _, _ in picked}
    if len(sinks) > 1:
        raise Refusal(400, "Of several sinks", "Pick dead letters of one sink at a time.")
    wanted = _picked_tasks([task for _, _, task in picked])
    if not sinks <= set(known):
        raise Refusal(
            400, "Not set any more", "Nothing is sent to that sink; its page says what can be done."
        )
    return sinks.pop(), wanted


def _picked_tasks(names: Sequence[str]) -> WorkFilter:
    """The tasks that were picked, which are of one provider: another one may have the same ids."""
    picked = [each.partition("/") for each in names]
    providers = {provider for provider, _, _ in picked}
    if not picked or len(picked) > MOST_PICKED:
        raise Refusal(400, "Nothing is picked", f"Pick some tasks of the list, {MOST_PICKED} at most.")
    if len(providers) > 1:
        raise Refusal(400, "Of several providers", "Pick tasks of one provider at a time.")
    return WorkFilter(provider=providers.pop(), task_ids=tuple(task_id for _, _, task_id in picked))


async def _counted(visit: Visit, plan: Plan) -> Plan:
    """The plan with how many it is about, as far as could be counted while a person waits."""
    runtime = visit.runtime
    tally = await planning.count(runtime, plan.act, plan.filter, plan.sinks, plan.asked_at)
    return msgspec.structs.replace(
        plan,
        count=tally.count,
        is_exact=tally.is_whole,
        by=planning.parts(runtime, plan.act, tally, plan.filter, plan.sinks),
        expected_seconds=planning.expected_seconds(runtime, plan.act, tally, plan.rate),
    )


def _place(visit: Visit, plan: Plan) -> str:
    """Where a new plan is shown."""
    plan = msgspec.structs.replace(plan, id=visit.runtime.clock.new_id(plan.act.prefix))
    return f"/admin/plans/{seal(visit, plan, plan.asked_at + LIFE)}"


def _replay(plan: Plan, requested_by: str) -> Replay:
    """As it is before its first step; its beginning counts what it matches."""
    stage = plan.act.stage
    assert stage is not None  # noqa: S101 - for mypy
    return new_replay(
        id=plan.id,
        stage=stage,
        filter=plan.filter,
        sinks=plan.sinks,
        rate=plan.rate,
        requested_by=requested_by,
        created_at=plan.asked_at,  # so that it leaves alone whatever came since
    )


PAGES = (
    Page(path="/admin/plans", answer=make, access=Access.ADMIN, method="POST"),
    Page(path="/admin/plans/do", answer=do, access=Access.ADMIN, method="POST"),
    Page(path="/admin/plans/{plan}", answer=show, access=Access.ADMIN),
)
