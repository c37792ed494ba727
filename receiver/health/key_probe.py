"""Whether a provider's key and host are good: by a question about a task that does not exist."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from receiver.clock import Clock
from receiver.config.fields import key_variable, variable_of
from receiver.fetching.client import open_plain_client
from receiver.models import Access, Outcome
from receiver.polling.answers import Answer
from receiver.polling.status_client import StatusClient
from receiver.ports import Provider

ASK_TIMEOUT_SECONDS = 10.0

# What every provider is asked about: no task has this id; some want to know the model, too.
NO_TASK_ID = "receiver-doctor"
NO_TASKS_MODEL = "gpt-image-2"

_WORKS = frozenset({Outcome.UNKNOWN_TASK, Outcome.IN_PROGRESS, Outcome.ANSWERED})
# It is there, and that is all that can be said: an odd id, a busy hour or a wrong base URL all look so.
_NOT_SURE = frozenset(
    {
        Outcome.REFUSED,
        Outcome.UNREADABLE,
        Outcome.RATE_LIMITED,
        Outcome.HTTP_ERROR,
        Outcome.NO_MODEL,
    }
)


class KeyState(StrEnum):
    """What is known of a key after the question."""

    WORKS = "works"
    NOT_SURE = "not sure"
    FAILS = "fails"


_BY_HARM = (KeyState.WORKS, KeyState.NOT_SURE, KeyState.FAILS)


async def probe_keys(
    providers: Mapping[str, Provider], accesses: Mapping[str, Access], names: Iterable[str]
) -> dict[str, Answer]:
    """Ask these providers at once, each with all its keys; of several, what the worst of them came to.

    Circuits and pace of a service know nothing of it.
    """
    asked = list(names)
    async with open_plain_client() as http:

        async def probe(name: str) -> Answer:
            access = accesses[name]
            alone = [msgspec.structs.replace(access, api_keys=(key,)) for key in access.api_keys] or [access]
            clients = [
                StatusClient(
                    providers=providers,
                    accesses={name: each},
                    http=http,
                    clock=Clock(),
                    timeout_seconds=ASK_TIMEOUT_SECONDS,
                )
                for each in alone
            ]
            return _worst([await client.ask(name, NO_TASK_ID, NO_TASKS_MODEL) for client in clients])

        answers = await asyncio.gather(*map(probe, asked))
    return dict(zip(asked, answers, strict=True))


def _worst(answers: Sequence[Answer]) -> Answer:
    """The answer to the key that works least, with its place among several."""
    states = [judge_key(answer.outcome) for answer in answers]
    place = max(range(len(answers)), key=lambda place: _BY_HARM.index(states[place]))
    worst = answers[place]
    if len(answers) == 1:
        return worst
    said = f"{worst.detail}; " if worst.detail else ""
    of = "each" if states[place] is KeyState.WORKS else f"number {place + 1}"
    return msgspec.structs.replace(worst, detail=f"{said}{of} of {len(answers)} keys")


def judge_key(outcome: Outcome) -> KeyState:
    """What such an answer says of the key."""
    if outcome in _WORKS:
        return KeyState.WORKS
    return KeyState.NOT_SURE if outcome in _NOT_SURE else KeyState.FAILS


def key_remedy(provider: str, outcome: Outcome) -> str:
    """What to do where the key does not work, or nobody can say."""
    key, address = key_variable(provider), variable_of("<PROVIDER>_BASE_URL", provider)
    match outcome:
        case Outcome.KEY_REFUSED:
            return f"set {key} to a key that is good at {address}"
        case Outcome.OUT_OF_CREDIT:
            return f"pay the provider, or set {key} to a key of an account with credit"
        case Outcome.RATE_LIMITED:
            return "look again in a minute; something else may be asking with the same key"
        case _:
            return f"check {address} and this machine's way there, or look again later"
