"""One provider: whether it can be asked, which of its tasks wait longest, and whether its key is good."""

from datetime import datetime, timedelta

import msgspec
from starlette.responses import Response

from receiver.config.disclosure import disclose
from receiver.config.fields import PROVIDER_FIELDS, variable_of
from receiver.health.key_probe import KeyState, judge_key, key_remedy, probe_keys
from receiver.health.keys import bottleneck, consequence
from receiver.models import Act, Outcome, ProviderFacts, audit_entry
from receiver.polling.answers import Answer
from receiver.problem_types import ProblemType
from receiver.web.pages.charts import read_charts
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.problems import UnknownInPath

ROWS = 10
PROBE_PAUSE_SECONDS = 30.0
PLOTS = ("callbacks", "questions", "files", "unended_tasks")


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider answered to a question about no task."""

    outcome: Outcome
    detail: str | None
    state: KeyState
    todo: str


async def show(visit: Visit) -> Response:
    """How it is now."""
    return await _show(visit)


async def probe(visit: Visit) -> Response:
    """Ask it about a task that does not exist, and show what that says of the key and the host."""
    runtime, name = visit.runtime, _name(visit)
    if not runtime.status_client.can_ask(name):
        raise Refusal(409, "No key", f"Without {variable_of('<PROVIDER>_API_KEY', name)} nobody can ask it.")
    visit.pauses.begin(f"probe {name}", PROBE_PAUSE_SECONDS)
    entry = audit_entry(Act.PROVIDER_PROBED, visit.actor, visit.now, target=f"provider {name}")
    await runtime.store.note_act(entry)
    answers = await probe_keys(runtime.providers, runtime.settings.providers, [name])
    visit.note("provider.probed", provider=name, outcome=answers[name].outcome.value)
    return await _show(visit, answers[name])


def _without_key(visit: Visit, facts: ProviderFacts) -> str:
    return consequence(visit.runtime.settings.confirm, facts.title, pushes=facts.pushes)


async def _show(visit: Visit, answer: Answer | None = None) -> Response:
    runtime, name = visit.runtime, _name(visit)
    stats = await visit.known(runtime.stats.get())
    seen, client = runtime.health.provider(name), runtime.status_client
    facts, access = runtime.providers[name].facts, runtime.settings.providers[name]
    return visit.page(
        "provider.html",
        name=name,
        charts=await read_charts(visit, *PLOTS, has_tables=True, provider=name),
        facts=facts,
        seen=seen,
        again_at=_later(client.free_at(name), visit.now) if seen.outcome else None,
        accepted_at=client.accepted_at(name),
        todo=key_remedy(name, seen.outcome) if seen.outcome else None,
        without_key=None
        if seen.has_key
        else consequence(runtime.settings.confirm, facts.title, pushes=facts.pushes),
        slow=bottleneck(runtime.settings.confirm, facts, access.per_minute(facts)),
        polls_per_minute=access.per_minute(facts),
        unended=dict(stats.polls.get(name, {})) if stats else None,
        tasks=await visit.known(runtime.store.pages.list_open_tasks(name, ROWS)),
        late_before=visit.now - timedelta(seconds=runtime.settings.lost_after_seconds),
        settings=_settings(visit, name),
        probed=_probed(name, answer) if answer else None,
    )


def _name(visit: Visit) -> str:
    name: str = visit.request.path_params["name"]
    if name not in visit.runtime.providers:
        known = ", ".join(sorted(visit.runtime.providers))
        raise UnknownInPath(ProblemType.UNKNOWN_PROVIDER, f"A provider must be one of: {known}.")
    return name


def _later(moment: datetime, now: datetime) -> datetime | None:
    return moment if moment > now else None


def _probed(name: str, answer: Answer) -> Probed:
    return Probed(
        outcome=answer.outcome,
        detail=answer.detail,
        state=judge_key(answer.outcome),
        todo=key_remedy(name, answer.outcome),
    )


def _settings(visit: Visit, name: str) -> list[tuple[str, str, str]]:
    """What is set for it, without secrets: each variable, its text and what it means."""
    shown = disclose(visit.runtime.settings, None)
    rows = [(variable_of(field.variable, name), field.help) for field in PROVIDER_FIELDS]
    return [(variable, shown.get(variable, ""), meaning) for variable, meaning in rows]


PAGES = (
    Page(path="/admin/providers/{name}", answer=show, access=Access.VIEWER),
    Page(path="/admin/providers/{name}/probe", answer=probe, access=Access.ADMIN, method="POST"),
)
