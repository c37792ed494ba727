"""Spans cost nothing where nobody wants any, and a collector that is away costs spans and one line."""

import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver import plugins
from receiver.config.settings import load_settings
from receiver.errors import Misconfigured, Rejected
from receiver.models import Outcome
from receiver.problem_types import ProblemType
from receiver.runtime import check_drivers
from receiver.testing import TurnableClock
from receiver.tracing import Traces
from receiver.tracing.otel import OtlpTracer
from tests.support.collector import Collector, collector
from tests.support.factories import asset_work, settlement
from tests.support.messages import TRACEPARENT, event, outbox_work, rendered
from tests.support.sink_hosts import free_port
from tests.support.waiting import until

AT = datetime(2026, 11, 21, 10, 0, 0, 123_456, UTC)
_, TRACE, PARENT, _ = TRACEPARENT.split("-")


class Record:
    """As much of a record as spans ask for."""

    async def get_traceparent(self, provider: str, task_id: str) -> str | None:
        return TRACEPARENT if (provider, task_id) == ("vidgo", "t1") else None


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as taking:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taking.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield taking


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in ("opentelemetry", "urllib3")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@asynccontextmanager
async def tracing(seconds: float = 5.0) -> AsyncIterator[Traces]:
    record: Any = Record()
    traces = Traces(OtlpTracer(), record, TurnableClock(AT))
    yield traces
    await traces.aclose(seconds)


async def test_each_attempt_says_how_it_ended_and_when_by_our_clock(collected: Collector) -> None:
    ended = msgspec.structs.replace(settlement(Outcome.TIMEOUT, at=AT), started_at=AT.replace(second=1))
    async with tracing() as traces:
        await traces.fetch(asset_work("https://cdn.test/a.png", task_id="t1", attempt=3), ended)
    (span,) = collected.spans
    assert (span.name, span.trace_id, span.parent) == ("fetch", TRACE, PARENT)
    assert span.seconds == pytest.approx((AT.timestamp() + 1, AT.timestamp()), abs=2e-6)
    assert span.is_error
    assert span.attributes["error.type"] == span.attributes["receiver.outcome"] == "timeout"
    assert span.attributes["receiver.attempt"] == 3
    assert "cdn.test" not in span.text


async def test_a_task_without_a_trace_begins_one(collected: Collector) -> None:
    async with tracing() as traces:
        await traces.fetch(asset_work("https://cdn.test/a.png", task_id="t2"), settlement(Outcome.GONE))
        with traces.submission("vidgo", None) as told:
            pass
    assert sorted(span.parent for span in collected.spans) == ["", ""]
    (submission,) = collected.named("submission")
    assert submission.trace_id != TRACE
    assert told.traceparent is not None
    assert told.traceparent.split("-")[1:3] == [submission.trace_id, submission.span_id]


async def test_a_refusal_is_the_backends_error_and_a_crash_is_ours(collected: Collector) -> None:
    async with tracing() as traces:
        with pytest.raises(Rejected), traces.submission("vidgo", TRACEPARENT):
            raise Rejected(ProblemType.TASK_LOGGED, "no")
        with pytest.raises(ZeroDivisionError), traces.submission("vidgo", TRACEPARENT):
            raise ZeroDivisionError
    refused, crashed = collected.spans
    assert (refused.is_error, refused.attributes["receiver.outcome"]) == (False, "refused")
    assert (crashed.is_error, crashed.attributes["error.type"]) == (True, "ZeroDivisionError")


async def test_each_event_of_a_batch_goes_on_in_its_own_trace(collected: Collector) -> None:
    other = TRACEPARENT.replace("4bf9", "5bf9")
    works = [outbox_work(event(of)) for of in ("evt_1", "evt_2")]
    works = [
        msgspec.structs.replace(
            work,
            event=msgspec.structs.replace(work.event, traceparent=parent),
        )
        for work, parent in zip(works, (TRACEPARENT, other), strict=True)
    ]
    async with tracing() as traces:
        spans = traces.start_publishing(works, AT)
        sent = [traces.send_on(span, rendered(work)) for span, work in zip(spans, works, strict=True)]
        traces.end_publishing(spans, works, [settlement(Outcome.DELIVERED), settlement(Outcome.REFUSED)])
    assert [message.body for message in sent] == [rendered(work).body for work in works]
    assert [message.traceparent for message in sent] == [
        f"00-{span.trace_id}-{span.span_id}-01" for span in collected.spans
    ]
    assert [span.trace_id for span in collected.spans] == [TRACE, other.split("-")[1]]
    assert [span.is_error for span in collected.spans] == [False, True]


async def test_what_the_backend_does_not_sample_is_not_sent_and_goes_on_unsampled(
    collected: Collector,
) -> None:
    async with tracing() as traces:
        with traces.submission("vidgo", TRACEPARENT[:-2] + "00") as told:
            pass
    assert collected.spans == []
    assert told.traceparent is not None
    assert told.traceparent.startswith(f"00-{TRACE}-")
    assert told.traceparent.endswith("-00")


async def test_an_sdk_that_is_switched_off_hands_on_what_the_backend_sent(
    collected: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with tracing() as traces:
        with traces.submission("vidgo", TRACEPARENT) as told:
            pass
        with traces.submission("vidgo", None) as untold:
            pass
    assert (told.traceparent, untold.traceparent) == (TRACEPARENT, None)
    assert collected.spans == []


async def test_a_collector_that_refuses_costs_its_spans_and_one_line_that_repeats_nothing_of_it(
    collected: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer CANARY-of-the-collector")
    collected.status, collected.answer = 400, b"CANARY-of-the-collector is not welcome"
    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        async with tracing() as traces:
            lost: list[int] = []
            while len(lost) < 3:
                lost.append(1)
                await traces.fetch(asset_work("https://cdn.test/a"), settlement(Outcome.GONE))
                await until(lambda: collected.requests == len(lost))
            await until(lambda: lines)
            collected.status = 200
            await traces.fetch(asset_work("https://cdn.test/a"), settlement(Outcome.GONE))
            await until(lambda: collected.spans)
    assert lines == [
        {"event": "traces.lost", "log_level": "warning", "reason": "the collector does not take them"},
        {"event": "traces.recovered", "log_level": "info", "lost": 3},
    ]
    assert "CANARY" not in caplog.text


async def test_a_collector_that_is_away_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with capture_logs() as lines:
        async with tracing(0.2) as traces:
            await traces.fetch(asset_work("https://cdn.test/a"), settlement(Outcome.GONE))
            began = time.monotonic()
        assert time.monotonic() - began < 1.5
        await until(lambda: lines)
    assert [line["event"] for line in lines] == ["traces.lost"]


def test_a_variable_that_opentelemetry_refuses_is_told_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=CANARY")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-17")
    with pytest.raises(Misconfigured, match="does not take one of its own OTEL_… variables") as caught:
        OtlpTracer()
    assert caught.value.__suppress_context__
    assert "CANARY" not in str(caught.value)


def test_without_the_extra_the_start_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "receiver.tracing.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_TRACING": "otlp"}
    with pytest.raises(Misconfigured) as caught:
        check_drivers(load_settings(settings))
    assert caught.value.problems == (
        "RECEIVER_TRACING=otlp needs the otel extra: pip install 'callback-receiver[otel]'",
    )
    check_drivers(load_settings({"RECEIVER_DATA_DIR": str(tmp_path)}))
    with pytest.raises(Misconfigured, match="RECEIVER_TRACING must be one of off, otlp"):
        load_settings(settings | {"RECEIVER_TRACING": "jaeger"})


def test_where_nobody_wants_spans_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, receiver.web.app; print([name for name in sys.modules if 'telemetry' in name])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    assert plugins.load_tracer() is OtlpTracer
