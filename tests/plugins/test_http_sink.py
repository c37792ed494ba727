"""The HTTP sink: the contract, its signatures, and what each answer of a consumer means."""

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from receiver.errors import Gone, Misconfigured, Permanent, Unavailable
from receiver.fetching.client import open_plain_client
from receiver.models import EventType, MessageFormat, Notification, Outcome
from receiver.options import PluginOptions
from receiver.sinks.http import HttpSink
from receiver.testing import TurnableClock
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerSinkContract, failure
from tests.support.messages import TRACEPARENT
from tests.support.sink_hosts import HttpServer

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"one secret of 24 bytes..").decode()
OTHER = "whsec_" + base64.b64encode(b"the next secret, longer than 24 bytes").decode()


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        yield client


class TestHttpSink(ServerSinkContract):
    sink_class = HttpSink

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[HttpServer]:
        server = HttpServer(tmp_path)
        yield server
        server.stop()

    @pytest.fixture
    def host(self, server: HttpServer) -> HttpServer:
        server.start()
        return server

    # --- signatures ---

    async def test_an_oracle_accepts_the_signature(self, open_sink: OpenSink, host: HttpServer) -> None:
        await open_sink(host.url, secret=SECRET).publish(notification())
        (request,) = host.requests()
        Webhook(SECRET).verify(request["body"].decode(), request["headers"])
        assert request["headers"]["webhook-id"] == "evt_1"
        assert request["headers"]["content-type"] == "application/cloudevents+json"

    async def test_an_oracle_refuses_another_body_or_secret(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        await open_sink(host.url, secret=SECRET).publish(notification())
        (request,) = host.requests()
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(request["body"].decode() + " ", request["headers"])
        with pytest.raises(WebhookVerificationError):
            Webhook(OTHER).verify(request["body"].decode(), request["headers"])

    @pytest.mark.parametrize("separator", [" ", ",", ", "])
    async def test_while_a_secret_is_changed_both_the_old_and_the_new_one_verify(
        self, open_sink: OpenSink, host: HttpServer, separator: str
    ) -> None:
        await open_sink(host.url, secret=OTHER + separator + SECRET).publish(notification())
        (request,) = host.requests()
        for secret in (SECRET, OTHER):
            Webhook(secret).verify(request["body"].decode(), request["headers"])

    @pytest.mark.parametrize("secret", [None, SECRET])
    async def test_a_consumer_can_go_by_the_headers_whether_or_not_there_is_a_secret(
        self, open_sink: OpenSink, host: HttpServer, secret: str | None
    ) -> None:
        await open_sink(host.url, secret=secret).publish(notification(revision=2))
        (request,) = host.requests()
        assert request["headers"]["webhook-id"] == json.loads(request["body"])["id"] == "evt_1.2"
        assert abs(int(request["headers"]["webhook-timestamp"]) - time.time()) < 60
        assert ("webhook-signature" in request["headers"]) == (secret is not None)

    async def test_the_known_answer_of_standard_webhooks_is_met(
        self, client: httpx2.AsyncClient, host: HttpServer, tmp_path: Path
    ) -> None:
        clock = TurnableClock(datetime.fromtimestamp(1614265330, UTC))
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client, secret=secret)
        message = Notification(
            event_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            dedupe_key="k",
            type=EventType.COMPLETED,
            subject="s",
            body=b'{"test": 2432232314}',
        )
        await HttpSink.from_url(host.url, options, clock=clock).publish(message)
        headers = host.requests()[0]["headers"]
        assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        assert headers["webhook-timestamp"] == "1614265330"

    # --- formats ---

    @pytest.mark.parametrize("secret", [None, SECRET])
    async def test_an_event_can_be_had_as_plain_json(
        self, open_sink: OpenSink, host: HttpServer, secret: str | None
    ) -> None:
        await open_sink(host.url, secret=secret, format=MessageFormat.JSON).publish(notification())
        (request,) = host.requests()
        assert request["headers"]["content-type"] == "application/json"
        assert request["body"] == notification().body
        if secret:
            Webhook(secret).verify(request["body"].decode(), request["headers"])

    @pytest.mark.parametrize("secret", [None, SECRET])
    async def test_an_event_can_be_had_in_the_binary_mode_of_cloudevents(
        self, open_sink: OpenSink, host: HttpServer, secret: str | None
    ) -> None:
        message = notification(revision=2, metadata={"text": "ünï\u2028 🦊"})
        await open_sink(host.url, secret=secret, format=MessageFormat.BINARY).publish(message)
        (request,) = host.requests()
        whole = json.loads(message.body)
        assert request["headers"]["content-type"] == "application/json"
        assert request["body"] in message.body
        assert json.loads(request["body"]) == whole.pop("data")
        told = from_binary_event(HTTPMessage(headers=request["headers"], body=request["body"]), JSONFormat())
        assert told.get_data() == json.loads(request["body"])
        assert told.get_datacontenttype() == whole.pop("datacontenttype")
        attributes = told.get_attributes() | {"time": request["headers"]["ce-time"], "revision": 2}
        attributes.pop("datacontenttype")
        assert {**attributes} == whole
        assert request["headers"]["ce-revision"] == "2"
        assert request["headers"]["webhook-id"] == request["headers"]["ce-id"] == "evt_1.2"
        if secret:
            Webhook(secret).verify(request["body"].decode(), request["headers"])

    async def test_a_trace_goes_on_by_the_header_of_trace_context_and_in_binary_mode_by_the_events_too(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        plain, traced = notification("evt_1"), notification("evt_2", traceparent=TRACEPARENT)
        here = msgspec.structs.replace(traced, traceparent=TRACEPARENT.replace("b7-", "b8-"))
        for message in (plain, here):
            await open_sink(host.url).publish(message)
        await open_sink(host.url, format=MessageFormat.BINARY).publish(here)
        headers = [request["headers"] for request in host.requests()]
        assert [each.get("traceparent") for each in headers] == [None, here.traceparent, here.traceparent]
        assert headers[2]["ce-traceparent"] == TRACEPARENT

    async def test_what_no_header_may_hold_is_escaped_as_the_binding_says(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        event = json.loads(notification().body) | {
            "subject": 'vidgo/a "ä"%\r\nx: y€😀~!',
            "replayid": "rpl_1",
        }
        message = msgspec.structs.replace(notification(), body=json.dumps(event).encode())
        await open_sink(host.url, format=MessageFormat.BINARY).publish(message)
        (request,) = host.requests()
        escaped = "vidgo/a%20%22%C3%A4%22%25%0D%0Ax:%20y%E2%82%AC%F0%9F%98%80~!"
        assert request["headers"]["ce-subject"] == escaped
        assert request["headers"]["ce-replayid"] == "rpl_1"
        assert "x" not in request["headers"]

    # --- answers ---

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_any_2xx_means_that_it_was_taken(
        self, open_sink: OpenSink, host: HttpServer, status: int
    ) -> None:
        await open_sink(f"{host.root}/status/{status}").publish(notification())

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (301, Outcome.BAD_REDIRECT),
            (302, Outcome.BAD_REDIRECT),
            (308, Outcome.BAD_REDIRECT),
            (400, Outcome.HTTP_ERROR),
            (401, Outcome.REFUSED),
            (403, Outcome.REFUSED),
            (407, Outcome.REFUSED),
            (404, Outcome.HTTP_ERROR),
            (408, Outcome.HTTP_ERROR),
            (409, Outcome.HTTP_ERROR),
            (429, Outcome.RATE_LIMITED),
            (500, Outcome.HTTP_ERROR),
            (502, Outcome.HTTP_ERROR),
            (503, Outcome.UNAVAILABLE),
        ],
    )
    async def test_what_may_be_different_later_is_tried_again(
        self, open_sink: OpenSink, host: HttpServer, status: int, outcome: Outcome
    ) -> None:
        assert await failure(open_sink(f"{host.root}/status/{status}")) is outcome

    @pytest.mark.parametrize("status", [413, 415, 422])
    async def test_a_message_that_will_never_be_taken_is_permanent(
        self, open_sink: OpenSink, host: HttpServer, status: int
    ) -> None:
        with pytest.raises(Permanent, match=str(status)) as caught:
            await open_sink(f"{host.root}/status/{status}").publish(notification())
        assert caught.value.outcome is Outcome.REFUSED
        assert not isinstance(caught.value, Gone)

    async def test_410_asks_to_stop(self, open_sink: OpenSink, host: HttpServer) -> None:
        sink = open_sink(f"{host.root}/status/410")
        with pytest.raises(Gone):
            await sink.publish(notification())
        with pytest.raises(Gone):
            await sink.ping()

    async def test_a_redirect_is_not_followed(self, open_sink: OpenSink, host: HttpServer) -> None:
        sink = open_sink(f"{host.root}/status/307/location:%20{host.url.replace('/', '%2F')}")
        assert await failure(sink) is Outcome.BAD_REDIRECT
        assert len(host.requests()) == 1

    @pytest.mark.parametrize("status", [429, 503, 500])
    @pytest.mark.parametrize(
        ("wish", "seconds"),
        [
            ("7", 7.0),
            ("0", 0.0),
            ("Sat, 21 Nov 2026 10:02:00 GMT", 120.0),
            ("Sat, 21 Nov 2026 10:02:00 -0000", 120.0),
            ("-5", None),
            ("soon", None),
            ("9" * 400, 86_400.0),
        ],
    )
    async def test_retry_after_is_handed_on(
        self,
        client: httpx2.AsyncClient,
        host: HttpServer,
        tmp_path: Path,
        status: int,
        wish: str,
        seconds: float | None,
    ) -> None:
        url = f"{host.root}/status/{status}/retry-after:%20{wish.replace(' ', '%20')}"
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Unavailable) as caught:
            await HttpSink.from_url(url, options, clock=TurnableClock(NOW)).publish(notification())
        assert caught.value.retry_after_seconds == seconds

    @pytest.mark.parametrize("path", ["endless", "stalled"])
    async def test_an_answer_without_an_end_is_not_read_to_the_end(
        self, open_sink: OpenSink, host: HttpServer, path: str
    ) -> None:
        started = time.monotonic()
        await open_sink(f"{host.root}/{path}").publish(notification())
        assert time.monotonic() - started < 10  # a time-out

    async def test_an_answer_in_crumbs_holds_nobody_up(self, open_sink: OpenSink, host: HttpServer) -> None:
        """The driver takes each of its chunks by itself, and awaits nothing between those that are here."""
        longest = 0.0  # of the processor's time: on a busy machine others have theirs, too

        async def watch() -> None:
            nonlocal longest
            while True:
                began = time.thread_time()
                await asyncio.sleep(0.001)
                longest = max(longest, time.thread_time() - began)

        watching = asyncio.create_task(watch())
        await open_sink(f"{host.root}/crumbs").publish(notification())
        watching.cancel()
        assert longest < 0.4  # it was more than a second

    @pytest.mark.parametrize("path", ["silent", "dripping"])
    async def test_an_answer_that_does_not_come_in_time_is_a_timeout(
        self, open_sink: OpenSink, host: HttpServer, path: str
    ) -> None:
        started = time.monotonic()
        assert await failure(open_sink(f"{host.root}/{path}", 0.5)) is Outcome.TIMEOUT
        assert time.monotonic() - started < 10

    async def test_a_malformed_line_in_the_answer_is_passed_over(
        self, host: HttpServer, tmp_path: Path
    ) -> None:
        async with open_plain_client() as client:
            options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
            sink = HttpSink.from_url(f"{host.root}/status/200/X-Frame-Options%20:%20DENY", options)
            await sink.publish(notification("evt_1"))
            await sink.publish(notification("evt_2"))
        assert host.received() == [notification("evt_1").body, notification("evt_2").body]

    @pytest.mark.parametrize("path", ["hangup", "junk"])
    async def test_what_is_no_answer_counts_as_interrupted(
        self, open_sink: OpenSink, host: HttpServer, path: str
    ) -> None:
        assert await failure(open_sink(f"{host.root}/{path}")) is Outcome.INTERRUPTED

    async def test_https_to_a_server_that_speaks_http_is_a_tls_failure(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        sink = open_sink(host.url.replace("http:", "https:"))
        with pytest.raises(
            Unavailable, match=r"\(tls_failed\): (wrong version number|record layer failure)"
        ) as caught:
            await sink.publish(notification())
        assert caught.value.outcome is Outcome.TLS_FAILED

    async def test_an_unknown_host_is_a_dns_failure(self, tmp_path: Path) -> None:
        def unknown(request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ConnectError("no") from socket.gaierror(-2, "Name or service not known")

        async with httpx2.AsyncClient(transport=httpx2.MockTransport(unknown)) as client:
            options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
            sink = HttpSink.from_url("http://nowhere.invalid/s3cr3t", options)
            with pytest.raises(Unavailable) as caught:
                await sink.publish(notification())
        assert caught.value.outcome is Outcome.DNS_FAILED
        assert "s3cr3t" not in str(caught.value)

    async def test_ping_takes_any_answer_but_a_broken_server(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        left_open = {}
        for status in (200, 302, 401, 404, 405, 501):
            left_open[status] = await open_sink(f"{host.root}/status/{status}").ping()
        assert {status for status, said in left_open.items() if said} == {302, 401, 404}
        assert (left_open[401] or "").startswith("the consumer answered 401 to OPTIONS")
        with pytest.raises(Unavailable):
            await open_sink(f"{host.root}/status/500").ping()
        assert host.received() == []

    # --- URLs ---

    async def test_user_and_password_become_basic_authentication(
        self, open_sink: OpenSink, host: HttpServer
    ) -> None:
        url = host.url.replace("http://", "http://app:p%40ss@") + "?tenant=7"
        await open_sink(url).publish(notification())
        (request,) = host.requests()
        assert request["headers"]["authorization"] == "Basic " + base64.b64encode(b"app:p@ss").decode()
        assert request["path"] == "/hook?tenant=7"

    @pytest.mark.parametrize(
        "url",
        [
            "https://",
            "https:///path",
            "ftp://h0st/",
            "https://h0st:port/",
            "https://h0st:99999/",
            "https://h0st:0/",
            "https://h0st/#x",
            "https://[::1/",
            f"https://h0st.{'a' * 64}/",
            "https://user:s3cr3t@h0st:x/",
            "https://h0st/\r\nx",
        ],
    )
    async def test_a_url_that_is_none_is_refused_without_repeating_it(
        self, client: httpx2.AsyncClient, tmp_path: Path, url: str
    ) -> None:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: its URL") as caught:
            HttpSink.from_url(url, options)
        assert "h0st" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "   ",
            "not-a-whsec-secret-at-all",
            "whsec_",
            "whsec_%%%%",
            "whsec_c2hvcnQ=",
            f"{SECRET} whsec_c2hvcnQ=",
            "whsec_" + "é" * 40,
        ],
    )
    async def test_a_bad_secret_is_refused_without_repeating_it(
        self, client: httpx2.AsyncClient, tmp_path: Path, secret: str
    ) -> None:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client, secret=secret)
        with pytest.raises(Misconfigured, match="sink mine: its SECRET must be") as caught:
            HttpSink.from_url("https://h0st/", options)
        assert "c2hvcnQ" not in str(caught.value)

    async def test_a_secret_without_padding_is_as_good(self, open_sink: OpenSink, host: HttpServer) -> None:
        await open_sink(host.url, secret=OTHER.rstrip("=")).publish(notification())
        (request,) = host.requests()
        Webhook(OTHER).verify(request["body"].decode(), request["headers"])
