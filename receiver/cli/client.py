"""The running service as the command line uses it: through its HTTP API alone."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from receiver.cli.peer import Reply, check_good, check_peer, exchange, open_client
from receiver.config.bearer import parse_bearer
from receiver.config.credentials import read_credentials
from receiver.config.parsers import is_here
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from receiver.urls import path_part

__all__ = ["Reply", "Service", "admin_token", "asks_for_proof", "check_way", "connect", "segment"]

TIMEOUT_SECONDS = 30.0
MOST_ROWS = 200  # of a page


def segment(typed: str) -> str:
    """What was typed as one segment of a path. Raises UnicodeEncodeError where it is no text in UTF-8."""
    typed.encode()
    return path_part(typed)


class Service:
    """One running service. Its token is sent only to a peer that proves to know it."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        runner: asyncio.Runner,
        token: str,
        *,
        asks_for_proof: bool,
        may_be_relayed: bool = False,
    ) -> None:
        self._client = client
        self._runner = runner
        self._token = token
        self._asks_for_proof = asks_for_proof
        self._may_be_relayed = may_be_relayed
        self._is_known = False

    def get(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Reply:
        """GET with the values of the query that are set; a tuple is sent as one parameter for each item.

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

        The service looks through a bounded number of rows for a page, so one may be empty and not the last.
        """
        answer = self.get(path, query)
        while not (page := answer.document)[rows] and page.get("next_cursor"):
            answer = self.get(path, {**query, "cursor": page["next_cursor"]})
        return answer

    def get_all(
        self, path: str, rows: str, wanted: Mapping[str, object] | None = None
    ) -> Iterator[dict[str, Any]]:
        """All ``rows`` of every page of what is ``wanted``. Raises as ``get`` does."""
        query: dict[str, object] = {**(wanted or {}), "limit": MOST_ROWS}
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
        return self._ask("POST", path, timeout_seconds, json=dict(document))

    def patch(self, path: str, document: Mapping[str, object]) -> Reply:
        """PATCH a JSON document. Raises Refused, or Unavailable when nobody answers."""
        return self._ask("PATCH", path, json=dict(document))

    def put(self, path: str, document: Mapping[str, object]) -> Reply:
        """PUT a JSON document. Raises Refused, or Unavailable when nobody answers."""
        return self._ask("PUT", path, json=dict(document))

    def delete(self, path: str) -> Reply:
        """DELETE. Raises Refused, or Unavailable when nobody answers."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, seconds: float = TIMEOUT_SECONDS, **content: Any) -> Reply:
        reply = self._runner.run(self._exchange(method, path, seconds, content))
        return check_good(self._client, reply)

    async def _exchange(self, method: str, path: str, seconds: float, content: Mapping[str, Any]) -> Reply:
        # By http before each request: another program may have taken the port since the last one.
        if self._asks_for_proof or not self._is_known:
            await check_peer(
                self._client,
                self._token,
                must_prove=self._asks_for_proof,
                may_be_relayed=self._may_be_relayed,
            )
            self._is_known = True
        bearer = {"authorization": f"Bearer {self._token}"}
        return await exchange(self._client, method, path, seconds=seconds, headers=bearer, **content)


@contextmanager
def connect() -> Iterator[Service]:
    """The service at RECEIVER_URL, with the token from the environment or the data folder."""
    settings = load_settings()
    token = _token(settings)
    check_way(settings)
    with asyncio.Runner() as runner:
        client = open_client(settings.url)
        try:
            yield Service(
                client,
                runner,
                token,
                asks_for_proof=asks_for_proof(settings),
                may_be_relayed=settings.allow_plain_http,
            )
        finally:
            runner.run(client.aclose())


def check_way(settings: Settings) -> None:
    """Raises Misconfigured where everybody on the way to another machine could read the token."""
    place = urlsplit(settings.url)
    is_ours = is_here(place.hostname or "") or place.hostname == settings.host
    if place.scheme == "http" and not is_ours and not settings.allow_plain_http:
        raise Misconfigured(
            "RECEIVER_URL leads to another machine by http, so everybody on the way could read the token: set"
            " its https URL, or RECEIVER_ALLOW_PLAIN_HTTP=true"
        )


def asks_for_proof(settings: Settings) -> bool:
    """Whether the peer has to prove who it is: with https its certificate does that."""
    return not settings.url.startswith("https:")


def admin_token(settings: Settings) -> str | None:
    """A token for a running service, or None where none is known here."""
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
