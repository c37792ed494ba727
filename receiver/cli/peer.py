"""Who answers at a URL: bounded exchanges, and whether it is a receiver that knows the token.

Another program may have the port, or stand behind the URL. Whatever it answers, and however much, we say it
in one line of ours and believe nothing of it.
"""

import asyncio
from typing import Any, TypeVar

import httpx2
import msgspec

from receiver import __version__
from receiver.challenge import Challenge, is_proven, make_challenge, place_of
from receiver.cli.exit_codes import Refused
from receiver.errors import Unavailable, tls_words, wire_outcome
from receiver.models import CLI_AGENT, Outcome
from receiver.problem_types import ProblemType

CONNECT_SECONDS = 10.0
PROOF_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * 2**20  # a page of the largest submissions there can be has a quarter of it
MAX_PROOF_BYTES = 2**20

WHERE = "set RECEIVER_URL, or PORT, to where your receiver is"
UNPROVEN = "does not prove that it knows the token, which was therefore not sent"
UNPROVEN_REMEDY = (
    f"{WHERE}; set RECEIVER_TOKEN or RECEIVER_DATA_DIR if its tokens are others; restart it if it is of a"
    " release before 0.4.0"
)
RELAYED = "knows the token and was reached at another place ({place}), so the token was not sent"
RELAYED_REMEDY = (
    "something hands on what is sent there: set RECEIVER_URL to the service's own address, or an https URL;"
    " RECEIVER_ALLOW_PLAIN_HTTP=true where it is a tunnel or a published port of yours"
)

# What a proxy says while the service behind it is down.
_PROXIED = frozenset({502, 503, 504})


Shape = TypeVar("Shape", bound=msgspec.Struct)


class NobodyListens(Unavailable):
    """There is no connection at all."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer; if it is a good one, its document is JSON."""

    status: int
    body: bytes
    peer: str = ""  # where the other end of the connection is

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)


def open_client(url: str) -> httpx2.AsyncClient:
    """A client for ``url``, which is mostly on this machine, so no proxy is used."""
    timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS)  # each exchange has a time of its own
    headers = {"user-agent": f"{CLI_AGENT}/{__version__}"}  # the audit tells by which door somebody came
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=timeout, trust_env=False)


async def exchange(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    *,
    seconds: float,
    max_bytes: int = MAX_ANSWER_BYTES,
    **content: Any,
) -> Reply:
    """One request and its whole answer, within ``seconds`` and ``max_bytes``.

    Raises Unavailable where none comes: NobodyListens, or in words of what answered instead.
    """
    try:
        async with asyncio.timeout(seconds), client.stream(method, path, **content) as response:
            stream = response.extensions.get("network_stream")
            peer = place_of(stream and stream.get_extra_info("server_addr"))
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > max_bytes:
                    raise no_receiver(client, f"its answer has more than {max_bytes >> 20} MiB")
            return Reply(status=response.status_code, body=bytes(received), peer=peer)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
        words = tls_words(exc) or type(exc).__name__
        said = f"no answer from {client.base_url} ({words}): start `receiver serve`, or set RECEIVER_URL"
        raise (Unavailable if wire_outcome(exc) is Outcome.TLS_FAILED else NobodyListens)(said) from exc
    except TimeoutError as exc:
        why = f"no whole answer came in {seconds:g} seconds"
        raise no_receiver(client, why, ", or one that hangs") from exc
    except httpx2.HTTPError as exc:
        why = f"what came is no whole answer in HTTP: {type(exc).__name__}"
        raise no_receiver(client, why, ", or one that was stopped") from exc


async def check_peer(
    client: httpx2.AsyncClient, token: str, *, must_prove: bool, may_be_relayed: bool
) -> None:
    """Check that a receiver answers and, with ``must_prove``, that it knows the token. Raises Unavailable.

    A challenge proves both at once. A peer that cannot prove it may be a receiver of another release or with
    other tokens; it then has to describe the API.
    """
    challenge = make_challenge(token)
    asked = {"params": msgspec.structs.asdict(challenge)}
    reply = await exchange(
        client, "GET", "/healthz", seconds=PROOF_SECONDS, max_bytes=MAX_PROOF_BYTES, **asked
    )
    doubt = doubt_about(token, challenge, reply, may_be_relayed=may_be_relayed or not must_prove)
    if doubt is None:
        return
    if doubt.is_known:
        raise Unavailable(f"the receiver at {client.base_url} {doubt}")
    if reply.status >= 500 and (refused := refusal(reply)) and refused.kind:
        raise refused
    # Every release describes our API to anybody.
    asked_api = await exchange(
        client, "GET", "/openapi.json", seconds=PROOF_SECONDS, max_bytes=MAX_PROOF_BYTES
    )
    described = _read(asked_api.body, _Described)
    if described is None or described.info.title != "receiver":
        raise _strange(client, reply)
    if must_prove:
        raise Unavailable(f"the receiver at {client.base_url} {doubt}")


def refusal(reply: Reply) -> Refused | None:
    """The problem that an answer tells, in its words; None where it tells none."""
    problem = _read(reply.body, _Problem)
    if problem is None:
        return None
    kind = next((kind for kind in ProblemType if kind.uri == problem.type), None)
    detail = problem.detail
    if reply.status == 401:
        detail += " The command line takes it from RECEIVER_TOKEN, or from the data folder."
    elif kind in {ProblemType.UNKNOWN_PATH, ProblemType.METHOD_NOT_ALLOWED}:
        detail += " The service is of another release than this command line."
    return Refused(reply.status, problem.title, detail, kind)


def no_receiver(client: httpx2.AsyncClient, why: str, or_else: str = "") -> Unavailable:
    """The error for an answer that no receiver would give."""
    return Unavailable(f"what answers at {client.base_url} is no receiver{or_else} ({why}): {WHERE}")


def check_good(client: httpx2.AsyncClient, reply: Reply) -> Reply:
    """Return ``reply``. Raises Refused for a problem, and Unavailable for what no receiver answers."""
    if reply.status >= 400 and (refused := refusal(reply)):
        raise refused
    if not 200 <= reply.status < 300:
        raise _strange(client, reply)
    try:
        _ = reply.document if reply.body else None  # 204
    except (ValueError, RecursionError) as exc:
        raise no_receiver(client, "its answer is no JSON") from exc
    return reply


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Why a peer must not have the token."""

    problem: str
    todo: str
    is_known: bool = False  # it proved to know the token

    def __str__(self) -> str:
        return f"{self.problem}: {self.todo}"


def doubt_about(token: str, challenge: Challenge, reply: Reply, *, may_be_relayed: bool) -> Doubt | None:
    """What is wrong with an answer to a challenge: no proof, or one that was given at another place."""
    proven = _read(reply.body, _Proven)
    if proven is None or not is_proven(token, challenge, proven.proof, proven.place):
        return Doubt(problem=UNPROVEN, todo=UNPROVEN_REMEDY)
    if may_be_relayed or proven.place == reply.peer:
        return None
    return Doubt(problem=RELAYED.format(place=proven.place), todo=RELAYED_REMEDY, is_known=True)


def _read(body: bytes, shape: type[Shape]) -> Shape | None:
    """JSON read as ``shape``; None for everything else, however deep."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (ValueError, RecursionError):
        return None


def _strange(client: httpx2.AsyncClient, reply: Reply) -> Unavailable:
    or_else = ", or a proxy with none behind it" if reply.status in _PROXIED else ""
    return no_receiver(client, f"it answered HTTP {reply.status}", or_else)


class _Proven(msgspec.Struct):
    proof: str | None = None
    place: str = ""


class _Problem(msgspec.Struct):
    title: str
    detail: str
    type: str = "about:blank"


class _Info(msgspec.Struct):
    title: str


class _Described(msgspec.Struct):
    info: _Info
