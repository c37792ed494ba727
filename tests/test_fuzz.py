"""Whatever is read from strangers, as generators think of it: no parser raises anything but its own refusal.

What a run finds is kept in ``tests/hostile/found`` or as an ``@example``.
"""

import json
import string
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from receiver import ingest, payload
from receiver.config.parsers import parse_route
from receiver.errors import Misconfigured, Rejected
from receiver.models import Callback, Proof, Report, ReportState, SigningKeys
from receiver.plugins import load_providers
from receiver.testing import sample_callback
from receiver.tokens import Tokens
from receiver.web.auth import Guard, Role
from receiver.web.submissions import NewSubmission
from tests.support.own_providers import OWN, SAMPLES
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN

pytestmark = pytest.mark.slow  # thousands of cases

PROVIDERS = load_providers(OWN)
SIGNING_KEYS = SigningKeys(secrets=("whsec_bm9ib2R5IGhhcyB0aGlzIG9uZQ==", "nobody has this one"))
TOKENS = Tokens(["a secret of the fuzzing tests"])
TEXT = st.text(st.characters(exclude_categories=()))  # surrogates, controls and all

# Words that mean something to some provider, so that the generator finds its way inside.
KEYS = (
    "code",
    "data",
    "task_id",
    "taskId",
    "id",
    "status",
    "state",
    "files",
    "file_url",
    "file_type",
    "output",
    "error",
    "error_message",
    "message",
    "resultJson",
    "resultUrls",
    "failCode",
    "failMsg",
    "image_urls",
    "video_urls",
    "tracks",
    "url",
    "audio_url",
    "image_url",
    "stem_split",
    "separate_vocals",
    "generate_cover",
    "last_frame_url",
    "__proto__",
)
WORDS = (
    "t1",
    "finished",
    "failed",
    "success",
    "completed",
    "running",
    "pending",
    "https://m.test/0.png",
    '{"resultUrls":["https://m.test/1"]}',
    "[[[",
    "\ud800",
    "\x00",
    "",
    " ",
    "17",
    "https://",
    '["https://m.test/2"]',
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | TEXT
    | st.integers(min_value=10**300, max_value=10**310)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | TEXT, inner, max_size=6)
    ),
    max_leaves=25,
)


def mutated(provider: str) -> st.SearchStrategy[Any]:
    """A provider's own document with one or two values replaced."""
    whole = st.sampled_from(
        list(SAMPLES[provider].values())
        if provider in SAMPLES
        else [json.loads(sample_callback(provider, "t1", error=error)) for error in (None, "no")]
    )
    return st.builds(_replace, whole, st.lists(st.tuples(st.integers(0, 50), JSON), min_size=1, max_size=2))


def _replace(document: Any, changes: list[tuple[int, Any]]) -> Any:
    for number, value in changes:
        places = list(_places(document))
        if not places:
            return value
        container, key = places[number % len(places)]
        document = _copied(document, container, key, value)
    return document


def _places(node: Any) -> Any:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield node, key
        yield from _places(value)


def _copied(node: Any, container: Any, key: Any, value: Any) -> Any:
    if isinstance(node, dict):
        same = {name: _copied(each, container, key, value) for name, each in node.items()}
        return same | {key: value} if node is container else same
    if isinstance(node, list):
        found = [_copied(each, container, key, value) for each in node]
        return [*found[:key], value, *found[key + 1 :]] if node is container else found
    return node


def check(report: Report) -> None:
    """What must be true of whatever an adapter makes of anything: it can be stored, and says what it is."""
    texts = [report.task_id, report.provider_state, report.error_code, report.error_message, report.note]
    texts += [text for file in report.files for text in (file.url, file.kind)]
    assert not any("\x00" in text for text in texts if text)
    msgspec.json.encode(report)  # no lone surrogate either
    assert report.task_id is None or 0 < len(report.task_id) <= payload.MAX_TASK_ID_CHARS
    assert report.task_id or report.state is ReportState.UNCLEAR
    assert not report.files or report.state is ReportState.COMPLETED
    assert len(report.error_message or "") <= payload.MAX_TEXT_CHARS
    assert ingest.fingerprint(report)


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_provider_makes_a_sound_report_of_any_document(name: str, data: st.DataObject) -> None:
    document = data.draw(mutated(name) | JSON)
    check(PROVIDERS[name].parse(document))
    again = json.dumps(document).encode()
    with suppress(Rejected):  # NaN
        check(ingest.read_report(PROVIDERS[name], again))


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=150, deadline=None)
@given(body=st.binary() | TEXT.map(lambda text: text.encode(errors="surrogatepass")))
@example(b"[" * 100_000)
@example(b"1" * 5000)
@example(b'{"data": {"task_id": "\\ud800"}}')
@example(b'{"data": 1e999}')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_report_or_a_400(name: str, body: bytes) -> None:
    with suppress(Rejected):
        check(ingest.read_report(PROVIDERS[name], body))


@settings(max_examples=150, deadline=None)
@given(text=st.text('{}[]":,0123456789.eE-+ntrufalsd\\ \n') | JSON.map(json.dumps))
@example('{"a": "\\ud800", "a": 1e999}')
@example("-0")
def test_what_json_says_is_json_is_never_refused(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return
    payload.decode(text.encode())


def _refuse(_: str) -> None:
    raise ValueError


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=100, deadline=None)
@given(task_id=TEXT.filter(bool), model=st.none() | TEXT)
@example("..", "..")
@example("a/b?c#d", "\ud800")
def test_no_id_leads_a_question_to_another_path(name: str, task_id: str, model: str | None) -> None:
    asked = PROVIDERS[name].status_request(task_id, model)
    if asked is None:
        return
    url = httpx2.URL("https://api.test").join(asked.path)
    assert url.host == "api.test"
    assert url.raw_path.decode() == asked.path  # nothing climbed, nothing began a query
    assert not set(asked.path) & set(" ?#\\\r\n\x00")


@settings(max_examples=100, deadline=None)
@given(
    provider=TEXT,
    token=TEXT | st.from_regex(r"[sp]\.([\w.]{0,40}\.)?[A-Za-z0-9_-]{32}", fullmatch=True),
    index=st.integers(),
)
@example("vidgo", "s." + "." * 600, -1)
@example("\udcff", "p." + "\u0663" * 32, 10**400)
def test_no_token_or_signature_raises_and_none_is_right_by_luck(
    provider: str, token: str, index: int
) -> None:
    assert TOKENS.check(provider, token) is None
    with suppress(ValueError):  # a number too long to be written; the door takes six digits
        assert not TOKENS.check_link(provider, token, index, 0, token)


@settings(max_examples=100, deadline=None)
@given(token=TEXT, change=st.integers(0, 200), other=st.characters(exclude_categories=()))
def test_one_character_more_less_or_different_makes_a_right_token_wrong(
    token: str, change: int, other: str
) -> None:
    right = TOKENS.for_submission("vidgo", "sub_1")
    at = change % len(right)
    assume(other != right[at])
    for wrong in (
        right[:at] + right[at + 1 :],
        right[:at] + other + right[at:],
        right[:at] + other + right[at + 1 :],
    ):
        claim = TOKENS.check("vidgo", wrong)
        assert claim is None or (wrong == right and claim.proof is Proof.SUBMISSION)


@settings(max_examples=100, deadline=None)
@given(header=st.none() | TEXT)
@example("Bearer")
@example("bearer  " + API_TOKEN + "x")
@example("Basic " + API_TOKEN)
@example("Bearer " + API_TOKEN[:-1] + "\u017f")
def test_no_authorization_header_raises_or_opens(header: str | None) -> None:
    assert Guard([API_TOKEN], [ADMIN_TOKEN]).identify(header).role is Role.STRANGER


@settings(max_examples=150, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["webhook-id", "webhook-timestamp", "webhook-signature", "x-signature", "authorization"]
        ),
        TEXT | st.sampled_from(["v1,AAAA", "nan", "-1", "9" * 400, "1e999", "v1,", "v1a,\u00e9"]),
    ),
    body=st.binary(),
)
def test_no_signature_raises_and_none_is_right_by_luck(headers: Mapping[str, str], body: bytes) -> None:
    for name, provider in PROVIDERS.items():
        callback = Callback(
            provider=name, token=None, body=body, headers=headers, received_at=datetime.now(UTC)
        )
        assert provider.verify(callback, SIGNING_KEYS) is False


FILTERS = st.lists(
    TEXT
    | st.builds(
        "{}={}".format, st.sampled_from(["provider", "type", "owner", "x"]) | TEXT, TEXT | st.just("vidgo")
    ),
    max_size=4,
).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(text=FILTERS)
@example("provider=vidgo,apixo type=task.completed")
@example("owner==,=")
@example("provider=vidgo provider=apixo")
def test_a_sinks_filter_is_understood_or_its_mistakes_are_named(text: str) -> None:
    try:
        made = parse_route("hook", text, providers=set(PROVIDERS))
    except Misconfigured as refusal:
        unnamed = [problem for problem in refusal.problems if "HOOK" not in problem]
        assert unnamed == []
    else:
        assert made.sink == "hook"
        assert made.wants("vidgo", "task.completed", "user-17") in {True, False}


@settings(max_examples=100, deadline=None)
@given(
    document=st.dictionaries(
        st.sampled_from(["provider", "owner", "task_id", "model", "request", "metadata", "x"]), JSON
    )
)
def test_a_submission_is_sound_or_refused(document: dict[str, Any]) -> None:
    try:
        made = msgspec.convert(document, NewSubmission)
    except (msgspec.ValidationError, ValueError):
        return
    assert made.provider
    assert payload.task_id(made.task_id) == made.task_id


# --- at the door ------------------------------------------------------------------------------------

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
QUERY = st.dictionaries(
    st.sampled_from(
        ["cursor", "limit", "since", "until", "state", "owner", "provider", "x", "expires", "signature"]
    ),
    st.text(string.printable)
    | TEXT.map(lambda text: text.encode(errors="replace").decode())
    | st.sampled_from(
        [
            "0",
            "-1",
            "1e9",
            "9" * 30,
            "2026-01-01",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "null",
            "[]",
        ]
    ),
    max_size=4,
)


@FUZZ
@given(
    query=QUERY,
    path=st.sampled_from(
        ["/tasks", "/submissions", "/replays", "/dead-letters", "/stats", "/assets/vidgo/x/0"]
    ),
)
@example({"cursor": "9" * 30}, "/tasks")
@example({"cursor": "\u00e9"}, "/tasks")
@example({"limit": "\u0663"}, "/tasks")
async def test_any_query_is_answered_or_refused(
    admin: httpx2.AsyncClient, query: dict[str, str], path: str
) -> None:
    answer = await admin.get(path, params=query)
    assert answer.status_code in {200, 400, 404}, answer.text


@FUZZ
@given(
    document=st.dictionaries(
        st.sampled_from(["provider", "owner", "task_id", "model", "request", "metadata"]), JSON
    )
)
@example({"provider": "vidgo", "owner": "\ud800"})
@example({"provider": "vidgo", "owner": "u", "request": {"\ud800": 1}})
@example({"provider": "vidgo", "owner": "u", "metadata": {"a": 10**30, "b": 1e308}})
@example({"provider": "vidgo", "owner": "u", "request": 2**64})
@example({"provider": "vidgo", "owner": "u", "request": "null"})
async def test_any_submission_is_logged_as_it_is_or_refused(
    backend: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    answer = await backend.post(
        "/submissions", content=json.dumps({"provider": "vidgo", "owner": "u"} | document).encode()
    )
    assert answer.status_code in {200, 201, 400, 409}, answer.text
    if answer.status_code == 201:
        again = await backend.get(f"/submissions/{answer.json()['id']}")
        assert again.json() == answer.json()


@FUZZ
@given(
    path=TEXT.map(lambda text: text.encode(errors="replace").decode()),
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
)
@example("tasks/vidgo/%00", "GET")
@example("tasks/vidgo/%ff%fe", "GET")
@example("assets/vidgo/x/99999999999999999999", "GET")
@example("callbacks/vidgo/%00", "POST")
async def test_any_path_is_found_or_not(admin: httpx2.AsyncClient, path: str, method: str) -> None:
    with suppress(httpx2.InvalidURL, ValueError):  # the client's own refusal
        answer = await admin.request(method, httpx2.URL("http://receiver.test/" + path))
        assert answer.status_code < 500, answer.text
