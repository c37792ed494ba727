"""What doctor tries by a real round trip: keys, the running service, the record and every part."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from receiver import plugins
from receiver.challenge import make_challenge
from receiver.cli.client import admin_token, asks_for_proof, check_way
from receiver.cli.migrate import open_and_close
from receiver.cli.output import count
from receiver.cli.peer import (
    MAX_PROOF_BYTES,
    WHERE,
    NobodyListens,
    Reply,
    doubt_about,
    exchange,
    open_client,
)
from receiver.cli.views import Outlook, ServiceSettings
from receiver.clock import Clock
from receiver.config.fields import key_variable, variable_of
from receiver.config.settings import Settings
from receiver.errors import Misconfigured, ReceiverError, Unavailable, tls_words
from receiver.fetching.client import GuardedClient, open_plain_client
from receiver.fetching.key_sets import KeySet
from receiver.health.checks import SAME_USER, Check, State, check_unasked, fail, ok, size, warn
from receiver.health.key_probe import KeyState, judge_key, key_remedy, probe_keys
from receiver.health.keys import bottleneck
from receiver.health.lines import Severity, rule_of
from receiver.health.remedies import remedy
from receiver.health.rules import LONG_LOG_BYTES
from receiver.lanes import NOWHERE
from receiver.models import Outcome, Replica
from receiver.polling.answers import Answer
from receiver.ports import BlobStore, FileRecord, Provider, ServerRecord, Sink, Store
from receiver.runtime import make_alert_sink, make_blobs, make_sink
from receiver.urls import callback_url

SinkAnswers = Mapping[str, Outcome | None]  # of each sink the last one, where there was any

READY_TIMEOUT_SECONDS = 10.0
RECORD_SECONDS = 30.0
# Litestream takes a change within a second, and keeps it for five minutes after it is in the bucket.
BEHIND_SECONDS = 60.0
UNSENT_SECONDS = 1200.0

_SEE = "what it says of it is below"
_ELSEWHERE = (
    "use the release that wrote it, or set RECEIVER_DATABASE_URL or RECEIVER_DATA_DIR to another place, or to"
    " a backup (see `receiver docs operating`, Backups)"
)
_NOT_NOW = f"look again in a minute; if it stays so, end what else has the file open, and {SAME_USER}"
_AS_IT_SAYS = "do as it says, then look again"
_BACKUP = "set RECEIVER_DATA_DIR to the newest copy that `receiver backup` made, and start on it"


# --- providers, by a real question ------------------------------------------------------------------


async def check_keys(outlook: Outlook) -> list[Check]:
    """Ask every provider at once with our key; then name those that confirm slowly.

    Nobody is asked without a key, or with another key than the service's.
    """
    settings = outlook.settings
    providers = plugins.load_providers(settings.own_providers)
    asked = [
        name for name in providers if settings.providers[name].api_key and name not in outlook.other_keys
    ]
    answers = await probe_keys(providers, settings.providers, asked)
    names = [name for name in providers if name in outlook.other_keys or name in answers]
    found = [_asked(name, answers.get(name)) for name in names]
    without = {name: provider.facts for name, provider in providers.items() if name not in names}
    return [*found, *check_unasked(settings, without), *_slow(settings, providers)]


def _asked(name: str, answer: Answer | None) -> Check:
    """What a provider said of its key; None: the key is not known here."""
    if answer is None:
        return ok(f"asking {name}", f"not tried: {key_variable(name)} is the service's own; {_SEE}")
    detail = f"{answer.outcome}: {answer.detail}" if answer.detail else answer.outcome.value
    state = judge_key(answer.outcome)
    if state is KeyState.WORKS:
        return ok(f"asking {name}", f"{key_variable(name)} works ({detail})")
    judge = warn if state is KeyState.NOT_SURE else fail
    return judge(f"asking {name}", detail, key_remedy(name, answer.outcome))


async def check_key_sets(settings: Settings) -> list[Check]:
    """Fetch the public keys that callbacks must be signed with, each from its address."""
    urls = {name: each.webhook_keys_url for name, each in settings.providers.items() if each.webhook_keys_url}
    if not urls:
        return []
    variables = {name: variable_of("<PROVIDER>_WEBHOOK_KEYS_URL", name) for name in urls}
    try:
        make = plugins.load_public_key()
    except Misconfigured as exc:
        return [
            fail(f"keys {name}", str(exc), f"install it, or unset {each}") for name, each in variables.items()
        ]
    client = GuardedClient(opened=settings.allow_networks)
    sets = {name: KeySet(url, client=client, clock=Clock(), make=make) for name, url in urls.items()}
    try:
        await asyncio.gather(*(each.renew() for each in sets.values()))
    finally:
        await client.aclose()
    return [
        fail(f"keys {name}", f"{each.problem}", f"check {variables[name]}: see `receiver docs providers`")
        if each.problem
        else ok(f"keys {name}", f"{variables[name]} has keys")
        for name, each in sets.items()
    ]


def _slow(settings: Settings, providers: Mapping[str, Provider]) -> Iterator[Check]:
    for name, provider in providers.items():
        access = settings.providers[name]
        limit = bottleneck(settings.confirm, provider.facts, access.per_minute(provider.facts))
        if access.api_key is not None and limit:
            variable = variable_of("<PROVIDER>_POLLS_PER_MINUTE", name)
            yield warn(f"confirming {name}", limit, f"set {variable} to what your plan allows")


# Rules of health whose lines say what the parts of readiness, or checks of ours, say.
_TOLD_ELSEWHERE = frozenset({"store", "loop", "sink", "sinks_not_set", "provider", "disk", "wal"})

_NOTHING_TO_SEND = "no admin token is known here that could be sent to it"
_UNTOLD = {
    401: "it does not take the token that is known here",
    403: "the token that is known here is no admin's",
    404: "it is of a release before 0.4.0",
}

# --- the service ------------------------------------------------------------------------------------


class ServiceHeard(msgspec.Struct, frozen=True, kw_only=True):
    """What a running service says of itself, and how the last event to each sink went.

    ``told`` are its settings, which it tells the holder of ``token``; without them ``untold`` says why.
    """

    checks: list[Check] = []
    answers: SinkAnswers = {}
    token: str | None = None
    told: ServiceSettings | None = None
    untold: str = ""


async def check_service(settings: Settings) -> ServiceHeard:
    """What the running service says of itself; nothing where none runs."""
    try:
        async with open_client(settings.url) as client:
            # With a token the answer also says what is wrong with each part.
            token, doubts = await _token_for(client, settings)
            headers = {"authorization": f"Bearer {token}"} if token else {}
            reply = await _heard_at(client, "/readyz", headers=headers)
            answers = await _sink_answers(client, headers) if token else {}
            told, untold = await _settings_told(client, headers) if token else (None, _NOTHING_TO_SEND)
            lines = await _lines_told(client, headers) if token else []
        parts = msgspec.json.decode(reply.body, type=_Readiness).parts
    except NobodyListens:
        return ServiceHeard()
    except Unavailable as exc:
        todo = "look at its log, or set RECEIVER_URL to where it is"
        return ServiceHeard(checks=[fail("service", _words(exc), todo)], untold=_words(exc))
    except (ValueError, RecursionError):
        said = f"what answers at {settings.url} is no receiver"
        return ServiceHeard(checks=[fail("service", said, WHERE)], untold=said)
    whole = ok("service", f"running at {settings.url}")
    if reply.status != 200:
        whole = fail("service", f"not ready at {settings.url}", "mend the parts of it that fail below")
    heard = [_heard(name, state, answers) for name, state in parts.items()]
    return ServiceHeard(
        checks=[whole, *doubts, *heard, *lines], answers=answers, token=token, told=told, untold=untold
    )


async def _heard_at(client: httpx2.AsyncClient, path: str, **content: Any) -> Reply:
    """A whole answer from whatever is there. Raises Unavailable."""
    return await exchange(
        client, "GET", path, seconds=READY_TIMEOUT_SECONDS, max_bytes=MAX_PROOF_BYTES, **content
    )


async def _token_for(client: httpx2.AsyncClient, settings: Settings) -> tuple[str | None, list[Check]]:
    """A token that may be sent to the service, or None and the checks that say why not."""
    token = admin_token(settings)
    if token is None:
        return None, []
    try:
        check_way(settings)
    except Misconfigured as exc:
        return None, [warn("service token", _words(exc), _AS_IT_SAYS)]
    if not asks_for_proof(settings):
        return token, []
    challenge = make_challenge(token)
    reply = await _heard_at(client, "/healthz", params=msgspec.structs.asdict(challenge))
    doubt = doubt_about(token, challenge, reply, may_be_relayed=settings.allow_plain_http)
    if doubt:
        said = f"what answers at {settings.url} {doubt.problem}"
        return None, [warn("service token", said, doubt.todo)]
    return token, []


async def _sink_answers(client: httpx2.AsyncClient, headers: Mapping[str, str]) -> dict[str, Outcome | None]:
    """How the last event to each sink went; nothing where the service does not say."""
    try:
        told = msgspec.json.decode((await _heard_at(client, "/sinks", headers=headers)).body, type=_SinksTold)
    except (Unavailable, ValueError, RecursionError):
        return {}
    return {sink.name: sink.outcome for sink in told.sinks}


async def _lines_told(client: httpx2.AsyncClient, headers: Mapping[str, str]) -> list[Check]:
    """What it says is wrong besides its parts and what is looked at here, too; nothing where it does not."""
    try:
        reply = await _heard_at(client, "/admin/health.json", headers=headers)
        lines = msgspec.json.decode(reply.body, type=_HealthTold).lines
    except (Unavailable, ValueError, RecursionError):
        return []
    return [
        (fail if line.severity is Severity.CRITICAL else warn)(
            f"service {line.key}", line.cause, line.step + (f": {line.command}" if line.command else "")
        )
        for line in lines
        if rule_of(line.key) not in _TOLD_ELSEWHERE
    ]


async def _settings_told(
    client: httpx2.AsyncClient, headers: Mapping[str, str]
) -> tuple[ServiceSettings | None, str]:
    """The service's settings, or why it does not tell them."""
    try:
        reply = await _heard_at(client, "/settings", headers=headers)
        if reply.status == 200:
            return msgspec.json.decode(reply.body, type=ServiceSettings), ""
    except (Unavailable, ValueError, RecursionError):
        return None, "it did not answer"
    return None, _UNTOLD.get(reply.status, f"it answered {reply.status}")


async def check_way_in(settings: Settings) -> Check:
    """Whether the public URL leads to a receiver, path and all; nothing is sent that could count.

    Not every network lets a machine reach itself from outside, so it is a warning at most.
    """
    name = "public url leads here"
    provider = next(name for name, each in plugins.load_providers().items() if each.facts.pushes)
    url = callback_url(settings.public_url, provider)
    todo = (
        "let the proxy hand on every path below RECEIVER_PUBLIC_URL, with its own path or without it"
        " (if this machine cannot reach itself from outside, try the URL elsewhere: it answers 405)"
    )
    try:
        async with (
            asyncio.timeout(READY_TIMEOUT_SECONDS),
            httpx2.AsyncClient(timeout=None, trust_env=False) as client,
            client.stream("GET", url) as response,  # its head says enough
        ):
            pass
    except (httpx2.HTTPError, TimeoutError) as exc:
        return warn(
            name,
            f"{settings.public_url} does not answer from here ({tls_words(exc) or type(exc).__name__})",
            todo,
        )
    is_ours = response.status_code == 405 and response.headers.get("allow") == "POST"
    if is_ours and response.headers.get("content-type") == "application/problem+json":
        return ok(name, f"a receiver's door answers at {settings.public_url}/callbacks/")
    return warn(
        name, f"{settings.public_url}/callbacks/ answers {response.status_code}: no receiver's door", todo
    )


def _heard(part: str, state: str, answers: SinkAnswers) -> Check:
    name = f"service {part}"
    told = state.removeprefix("elsewhere: ")
    if told in {"ok", "running", "standby", "none"}:
        return ok(name, state)
    kind, _, which = part.partition(" ")
    match kind:
        case "sink":
            todo = remedy(which, answers.get(which))
        case "poll":
            todo = f"check {key_variable(which)} and your account there"
        case "upkeep":
            todo = "set the sink again, or `receiver dead move` or `drop` what waits for it"
        case "store":
            todo = "look at its disk and its log"
        case _:
            todo = "look at its log"
    if told == NOWHERE:
        todo = "start a process that does it: `receiver serve`, or `receiver work`"
    return (warn if told.startswith("running, but ") else fail)(name, state, todo)


class _Readiness(msgspec.Struct):
    parts: dict[str, str]


class _LineTold(msgspec.Struct):
    key: str
    severity: Severity
    cause: str
    step: str
    command: str | None


class _HealthTold(msgspec.Struct):
    lines: list[_LineTold]


class _SinkTold(msgspec.Struct):
    name: str
    outcome: Outcome | None


class _SinksTold(msgspec.Struct):
    sinks: list[_SinkTold]


# --- the record -------------------------------------------------------------------------------------


async def check_record(settings: Settings, *, running: bool) -> list[Check]:
    """Whether the record is sound, of today's schema and takes a commit.

    It is opened for writing only where that changes nothing: not where it would migrate (only a backup undoes
    that), not where it is damaged or missing, and not while its service runs, which has answered for it.
    """
    store_class: type[Store] = plugins.load("stores", settings.database_scheme)
    not_now, elsewhere = _NOT_NOW, _ELSEWHERE
    if not settings.embedded:  # a server's words say what to do: each failure has its own
        not_now = elsewhere = _AS_IT_SAYS
    seen = await _examined(settings)
    if seen[0].state is State.FAIL:
        return seen
    try:
        waiting = await store_class.pending_migrations(settings.database_url, settings.data_dir)
    except Unavailable as exc:
        return [*seen, fail("database", _words(exc), not_now)]
    except ReceiverError as exc:
        return [*seen, fail("database", _words(exc), elsewhere)]
    if waiting:
        said = f"{count(len(waiting), 'migration')} wait{'s' if len(waiting) == 1 else ''}"
        return [*seen, warn("database", said, "back up, then start or run `receiver migrate`")]
    if running:
        return seen
    return [*seen, await (_committed(settings) if waiting is not None else _tried_elsewhere(settings))]


async def _examined(settings: Settings) -> list[Check]:
    """Every page, whoever has it open; but not for longer than a person waits."""
    record = plugins.load("stores", settings.database_scheme)
    if isinstance(record, ServerRecord):
        return await _examined_server(record, settings)
    if isinstance(record, FileRecord):
        return [await _examined_file(record, settings), *_copied(record, settings)]
    return [ok("record", f"{settings.database_scheme} looks after itself")]


async def _examined_file(record: FileRecord, settings: Settings) -> Check:
    path = record.file_of(settings.database_url, settings.data_dir)
    try:
        if not path.exists():
            return ok("record", "none yet")
        log = record.log_bytes(path)  # before it is looked at, which makes it longer
        is_done = await asyncio.to_thread(record.examine, path, RECORD_SECONDS)
    except Misconfigured as exc:
        return fail("record", _words(exc), _BACKUP)
    except ReceiverError as exc:
        return fail("record", _words(exc), _NOT_NOW)
    except OSError as exc:
        return fail("record", f"{path}: {exc.strerror}", SAME_USER)
    return _sound(is_done, log)


def _copied(record: FileRecord, settings: Settings) -> list[Check]:
    """Whether a program that copies the record elsewhere keeps up; nothing where there is none."""
    with suppress(ReceiverError, OSError):
        replica = record.replica_of(record.file_of(settings.database_url, settings.data_dir))
        return [_kept_up(replica)] if replica else []
    return []


def _kept_up(replica: Replica) -> Check:
    name, who = "copy", replica.program
    if replica.behind_seconds > BEHIND_SECONDS:
        behind = f"{replica.behind_seconds / 60:,.0f} min"
        said = f"{who} does not run: the record's last change is {behind} younger than the last that it took"
        return warn(name, said, "start it again; a disk that is lost takes along what came since")
    if replica.unsent_seconds > UNSENT_SECONDS:
        said = f"{who} cannot put away what it took {replica.unsent_seconds / 60:,.0f} min ago"
        return warn(name, said, "see in its log what the bucket answers")
    return ok(name, f"{who} runs, and has taken the last change")


async def _examined_server(record: ServerRecord, settings: Settings) -> list[Check]:
    try:
        seen = await record.examine_server(settings.database_url, Clock())
    except ReceiverError as exc:
        return [fail("record", _words(exc), _AS_IT_SAYS)]
    lasts = f"{settings.database_scheme}: what is committed is durable; back it up with its own tools"
    whole = ok("record", lasts)
    if seen.weaknesses:
        whole = warn("record", "; ".join(seen.weaknesses), "turn it on at the server, or use another one")
    return [whole, _agreeing(seen.seconds_behind), _waking(is_pooled=seen.is_pooled)]


def _agreeing(seconds_behind: float) -> Check:
    name = "database clock"
    if not seconds_behind:
        return ok(name, "agrees with this machine's")
    side = "behind" if seconds_behind > 0 else "ahead of"
    return warn(
        name,
        f"this machine's is {abs(seconds_behind):,.1f} s {side} the database's, by which all goes",
        "set both clocks, and keep them set by NTP",
    )


def _waking(*, is_pooled: bool) -> Check:
    name = "wake-ups"
    if not is_pooled:
        return ok(name, "processes on this record can wake each other")
    return warn(
        name,
        "a pooler is between here and the database: what one process gets, others find by looking every 5 s",
        "set RECEIVER_DATABASE_URL to the server itself, if several processes share the record",
    )


def _sound(is_done: bool, log: int) -> Check:
    sound, large = "every page is sound", "too large to look at every page now; `receiver backup` does"
    said = sound if is_done else large
    if log > LONG_LOG_BYTES:
        todo = "see which other program has been reading the record for long, and end it"
        return warn("record", f"{said}; its write-ahead log is long: {size(log)}", todo)
    return ok("record", f"{said}; its write-ahead log: {size(log)}" if log else said)


async def _committed(settings: Settings) -> Check:
    todo = (
        "if a service of yours has it open, set RECEIVER_URL to where that answers; else let this user write"
        f" in {settings.data_dir}"
    )
    if not settings.embedded:
        todo = _AS_IT_SAYS
    try:
        await open_and_close(settings)
    except ReceiverError as exc:
        return fail("database", _words(exc), todo)
    return ok("database", f"{settings.database_scheme}: a commit works")


async def _tried_elsewhere(settings: Settings) -> Check:
    """Try a commit in a record that is removed afterwards: the real one is made by the first start."""
    record = plugins.load("stores", settings.database_scheme)
    if not isinstance(record, FileRecord):
        return ok("database", "made at the first start")
    path = record.file_of(settings.database_url, settings.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        url = f"{settings.database_scheme}:{path.name}"
        check = await _committed(msgspec.structs.replace(settings, database_url=url, data_dir=Path(folder)))
    if check.state is not State.OK:
        return check
    return ok("database", f"made at the first start: {path}; a commit was tried in another")


# --- parts ------------------------------------------------------------------------------------------


async def check_assets(settings: Settings) -> Check:
    """The asset store, by its own ping; nothing is stored."""
    async with open_plain_client() as http:
        todo = "check RECEIVER_ASSETS_URL, and that this user may write there"
        return await _pinged("assets", settings.assets_scheme, partial(make_blobs, settings, http), todo)


async def check_sinks(settings: Settings, answers: SinkAnswers) -> AsyncIterator[Check]:
    """Every sink, by its own ping; nothing is published.

    Where a ping leaves something open, a sink that took the service's last event counts as well.
    """
    async with open_plain_client() as http:
        for sink in settings.sinks:
            make = partial(make_sink, settings, sink, http)
            check = await _pinged(f"sink {sink.name}", sink.scheme, make, remedy(sink.name, None))
            took = answers.get(sink.name) is Outcome.DELIVERED and check.state is State.WARN
            yield ok(check.name, f"{sink.scheme}: took the last event") if took else check


async def check_alerts(settings: Settings) -> Check:
    """Whoever is told of alerts, by a question that changes nothing: most take POST and nothing else."""
    async with open_plain_client() as http:
        try:
            sink = make_alert_sink(settings, http)
            if sink is not None:
                await sink.ping()
        except Misconfigured as exc:
            return fail("alerts", _words(exc), "correct it, or unset RECEIVER_ALERT_URL")
        except ReceiverError as exc:
            return fail(
                "alerts", _words(exc), "check RECEIVER_ALERT_URL, and that it can be reached from here"
            )
    return ok("alerts", "a web server answers at RECEIVER_ALERT_URL")


async def _pinged(name: str, scheme: str, make: Callable[[], BlobStore | Sink], todo: str) -> Check:
    try:
        part = make()
    except Misconfigured as exc:  # nothing there to be tried: its words say what to install or to correct
        return fail(name, _words(exc), _AS_IT_SAYS)

    try:
        left_open = await part.ping()
    except ReceiverError as exc:
        return fail(name, _words(exc), todo)
    finally:
        await part.aclose()
    if left_open:
        command = f"receiver sinks test {name.removeprefix('sink ')}"
        return warn(name, f"{scheme}: {left_open}", f"`{command}` shows what it answers to an event")
    return ok(name, f"{scheme}: answers")


def _words(exc: ReceiverError) -> str:
    return "; ".join(str(exc).splitlines())
