"""The running service as the command line sees it: its HTTP API, so that it can do no more than that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from receiver.accepts import is_here
from receiver.bearer import parse_bearer
from receiver.challenge import is_proven, make_challenge
from receiver.cli.exits import Refused
from receiver.credentials import read_credentials
from receiver.errors import Misconfigured, Unavailable, tls_words
from receiver.problem_types import ProblemType
from receiver.settings import Settings, load_settings

TIMEOUT_SECONDS = 30.0
UNPROVEN = "does not prove that it knows the token, which was therefore not sent"
UNPROVEN_REMEDY = (
    "set RECEIVER_URL, or PORT, to where your receiver is; set RECEIVER_TOKEN or RECEIVER_DATA_DIR if its"
    " tokens are others; restart it if it is of a release before 0.4.0"
)
MOST_ROWS = 200  # of a page


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A good answer; its document is JSON."""

    status: int
    body: bytes

    @property
    def document(self) -> Any:
        return msgspec.json.decode(self.body)


class Service:
    """One running service, spoken to with one token, which is sent to nobody who does not know it."""

    def __init__(self, client: httpx2.Client, token: str, *, asks_for_proof: bool) -> None:
        self._client = client
        self._token = token
        self._asks_for_proof = asks_for_proof

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Reply:
        """GET with the query's set values; the items of a tuple go one by one, under the same name.

        Raises Refused, or Unavailable when nobody answers.
        """
        wanted = {
            name: [str(each) for each in value] if isinstance(value, tuple) else str(value)
            for name, value in (query or {}).items()
            if value is not None
        }
        return self._ask("GET", path, params=wanted, timeout=timeout_seconds)

    def get_page(self, path: str, rows: str, query: Mapping[str, object]) -> Reply:
        """The first page that has any ``rows``, or the last one. Raises as ``get`` does.

        How much the service looks through for one page is bounded, so it may be empty and not the last.
        """
        answer = self.get(path, query)
        while not (page := answer.document)[rows] and page.get("next_cursor"):
            answer = self.get(path, {**query, "cursor": page["next_cursor"]})
        return answer

    def get_all(self, path: str, rows: str) -> Iterator[dict[str, Any]]:
        """All ``rows`` of every page. Raises as ``get`` does."""
        query: dict[str, object] = {"limit": MOST_ROWS}
        while True:
            page = self.get(path, query).document
            yield from page[rows]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def post(
        self, path: str, document: Mapping[str, object], timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Reply:
        """POST a JSON document. Raises Refused, or Unavailable when nobody answers."""
        return self._ask("POST", path, json=dict(document), timeout=timeout_seconds)

    def delete(self, path: str) -> Reply:
        """DELETE. Raises Refused, or Unavailable when nobody answers."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, **content: Any) -> Reply:
        try:
            if self._asks_for_proof:
                self._check_peer()
            bearer = {"authorization": f"Bearer {self._token}"}
            response = self._client.request(method, path, headers=bearer, **content)
        except httpx2.HTTPError as exc:
            raise Unavailable(
                f"no answer from {self._client.base_url} ({tls_words(exc) or type(exc).__name__}):"
                " start `receiver serve`, or set RECEIVER_URL"
            ) from exc
        if response.status_code >= 400:
            raise _problem(response)
        reply = Reply(status=response.status_code, body=response.content)
        try:
            _ = reply.document if reply.body else None  # 204
        except ValueError as exc:
            raise Unavailable(
                f"{self._client.base_url} answers with what is no JSON: set RECEIVER_URL to the service's URL"
            ) from exc
        return reply

    def _check_peer(self) -> None:
        """Before each request: another program may have taken the port since the last one."""
        challenge = make_challenge(self._token)
        response = self._client.get("/healthz", params=msgspec.structs.asdict(challenge))
        if response.status_code >= 500:
            raise _problem(response)
        if not is_proven(self._token, challenge, proof_in(response)):
            raise Unavailable(f"what answers at {self._client.base_url} {UNPROVEN}: {UNPROVEN_REMEDY}")


@contextmanager
def connect() -> Iterator[Service]:
    """The service at RECEIVER_URL, with the token from the environment or the data folder."""
    settings = load_settings()
    token = _token(settings)
    check_way(settings)
    with httpx2.Client(
        base_url=settings.url,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,  # the service is mostly on this machine: no proxy between us
    ) as client:
        yield Service(client, token, asks_for_proof=asks_for_proof(settings))


def check_way(settings: Settings) -> None:
    """Raises Misconfigured where a token would go to another machine for everybody on the way to read."""
    place = urlsplit(settings.url)
    is_ours = is_here(place.hostname or "") or place.hostname == settings.host
    if place.scheme == "http" and not is_ours and not settings.allow_plain_http:
        raise Misconfigured(
            "RECEIVER_URL leads to another machine by http, so everybody on the way could read the token: set"
            " its https URL, or RECEIVER_ALLOW_PLAIN_HTTP=true"
        )


def asks_for_proof(settings: Settings) -> bool:
    """Whether the peer has to prove who it is by itself: by https its certificate does that."""
    return settings.url.startswith("http:")


def proof_in(response: httpx2.Response) -> object:
    """What the peer gives as its proof, if anything."""
    try:
        return msgspec.json.decode(response.content, type=dict[str, object]).get("proof")
    except ValueError:
        return None


def admin_token(settings: Settings) -> str | None:
    """A token for a running service, where one is to be had here."""
    try:
        return _token(settings)
    except Misconfigured:
        return None


def _token(settings: Settings) -> str:
    if settings.token:
        return settings.token
    if settings.admin_tokens:
        return parse_bearer(settings.admin_tokens[0]).token
    if kept := read_credentials(settings.data_dir):
        return kept.admin_token
    raise Misconfigured(
        "no token: start `receiver serve` here once, or set RECEIVER_TOKEN, or RECEIVER_DATA_DIR to the"
        " running service's data folder"
    )


def _problem(response: httpx2.Response) -> Refused:
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, object])
    except ValueError:
        problem = {}  # not our service, or something in front of it
    title = str(problem.get("title", f"HTTP {response.status_code}"))
    detail = str(problem.get("detail", f"{response.url.host} gave no reason"))
    if response.status_code == 401:
        detail += " The command line takes it from RECEIVER_TOKEN, or from the data folder."
    kind = next((kind for kind in ProblemType if kind.uri == problem.get("type")), None)
    if kind in {ProblemType.UNKNOWN_PATH, ProblemType.METHOD_NOT_ALLOWED}:
        detail += " The service is of another release than this command line."
    return Refused(response.status_code, title, detail, kind)
