"""What `receiver doctor` checks, as the running process sees it, for admins."""

import platform
import sqlite3
from collections.abc import Iterable, Iterator

import msgspec
from starlette.responses import Response

import receiver
from receiver.config.credentials import credentials_path, were_exposed
from receiver.config.settings import Settings, guessable_secrets
from receiver.health import checks
from receiver.health.checks import Check, State, fail, ok, warn
from receiver.health.examination import LIMIT_SECONDS, Look, beside
from receiver.health.facts import ProviderSeen, SinkSeen
from receiver.health.key_probe import key_remedy
from receiver.health.lines import Line, Severity, rule_of
from receiver.health.remedies import remedy
from receiver.models import SinkState
from receiver.runtime import Runtime
from receiver.web.pages.redaction import redact_text
from receiver.web.pages.visits import Access, Page, Visit

# Rules of health whose lines say what checks of this page say.
_TOLD_BY_CHECKS = frozenset({"store", "disk", "sink", "provider", "no_key"})


async def show(visit: Visit) -> Response:
    """Every check at once; the page is there within a check's limit, whatever hangs."""
    parts = await visit.runtime.examination.examine(_looks(visit.runtime))
    found = [_redacted(check) for part in parts for check in part.checks or ()]
    bad = [check for check in found if check.state is not State.OK]
    return visit.page(
        "doctor.html",
        bad=sorted(bad, key=lambda check: check.state is not State.FAIL),
        good=[check for check in found if check.state is State.OK],
        unknown=[part.name for part in parts if part.checks is None],
        limit=LIMIT_SECONDS,
    )


def _looks(runtime: Runtime) -> dict[str, Look]:
    """What is looked at, by its name."""
    settings, now = runtime.settings, runtime.clock.now()

    async def record() -> Iterable[Check]:
        return [_record(await runtime.commit_probe.check(), settings.database_scheme)]

    async def rest() -> Iterable[Check]:
        report = await runtime.health.look()
        return [_of_line(line) for line in report.lines if rule_of(line.key) not in _TOLD_BY_CHECKS]

    async def providers() -> Iterable[Check]:
        return _providers(runtime)

    async def sinks() -> Iterable[Check]:
        return [_sink(name, runtime.health.sink(name)) for name in runtime.sinks]

    return {
        "versions": beside(lambda: _versions(settings)),
        "record": record,
        "disk": beside(lambda: [checks.check_disk(settings.data_dir)]),
        "data folder": beside(
            lambda: [*checks.check_rights(settings.data_dir), *checks.check_owner(settings.data_dir)]
        ),
        "clock": beside(lambda: [checks.check_clock(settings.data_dir, now)]),
        "secrets": beside(lambda: _secrets(settings)),
        "public url": beside(lambda: [checks.check_public_url(settings)]),
        "thumbnails": beside(lambda: [checks.check_thumbnails()]),
        "catalogs": beside(lambda: [*checks.check_catalogs(settings, now)]),
        "providers": providers,
        "sinks": sinks,
        "health": rest,
    }


def _versions(settings: Settings) -> Iterator[Check]:
    yield ok("versions", f"receiver {receiver.__version__}, Python {platform.python_version()}")
    if settings.embedded:
        yield checks.check_sqlite(sqlite3.sqlite_version_info)


def _record(found: str, scheme: str) -> Check:
    if found == "ok":
        return ok("database", f"{scheme}: a commit works")
    return fail("database", f"{scheme}: {found}", "look at its disk or its server, and at the log")


def _secrets(settings: Settings) -> Iterator[Check]:
    exposed = [*checks.check_exposed(settings.data_dir)]
    path, were_open = credentials_path(settings.data_dir), were_exposed(settings)
    yield from exposed or [checks.check_kept("all are set", path, were_open=were_open)]
    yield from checks.check_guessable(guessable_secrets(settings))


def _providers(runtime: Runtime) -> Iterator[Check]:
    seen = {name: runtime.health.provider(name) for name in runtime.providers}
    yield from (_provider(name, each) for name, each in seen.items() if each.has_key)
    without = {name: runtime.providers[name].facts for name, each in seen.items() if not each.has_key}
    yield from checks.check_unasked(runtime.settings, without)


def _provider(name: str, seen: ProviderSeen) -> Check:
    check, variable = f"asking {name}", seen.key_variable
    if seen.outcome is None:
        return ok(check, f"{variable} is set, and no answer since the start said that it cannot be asked")
    return (fail if seen.is_ours else warn)(check, seen.outcome.value, key_remedy(name, seen.outcome))


def _sink(name: str, seen: SinkSeen) -> Check:
    check = f"sink {name}"
    if seen.state is SinkState.OK:
        return ok(check, "took the last event" if seen.outcome else "no event was refused since the start")
    said = f"{seen.state}: {seen.outcome}" if seen.outcome else seen.state.value
    return (warn if seen.state is SinkState.FAILING else fail)(check, said, remedy(name, seen.outcome))


def _of_line(line: Line) -> Check:
    judge = fail if line.severity is Severity.CRITICAL else warn
    return judge(f"service {line.key}", line.cause, line.step + (f": {line.command}" if line.command else ""))


def _redacted(check: Check) -> Check:
    """Without links, whatever a path, a driver or a setting has in it; our own is no secret."""
    if check.name == checks.PUBLIC_URL:
        return check
    todo = redact_text(check.todo) if check.todo else None
    return msgspec.structs.replace(check, detail=redact_text(check.detail), todo=todo)


PAGES = (Page(path="/admin/doctor", answer=show, access=Access.ADMIN, menu="Doctor"),)
