"""Spans to a collector by OTLP over HTTP: OpenTelemetry's SDK, which reads its ``OTEL_…`` variables itself.

Behaviour was seen with opentelemetry-sdk and -exporter-otlp-proto-http 1.45.2.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from threading import Thread

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from receiver import __version__
from receiver.errors import Misconfigured
from receiver.tracing import Kind

log = structlog.get_logger()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
}


class OtlpTracer:
    """Sends spans in batches, from a thread of the SDK's. What the collector does not take is dropped."""

    def __init__(self) -> None:
        """Read the ``OTEL_…`` variables. Raises Misconfigured."""
        # The SDK says of every batch that it could not be sent, with what the collector answered.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # below, it logs each request's path
        try:
            self._exporter = _TellingExporter(OTLPSpanExporter())
            self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        except (ValueError, OSError) as exc:
            # Without a cause: it may repeat a header, and so a token.
            raise Misconfigured(
                f"RECEIVER_TRACING=otlp: OpenTelemetry does not take one of its own OTEL_… variables"
                f" ({type(exc).__name__})"
            ) from None
        self._tracer = self._provider.get_tracer("receiver", __version__)

    def start(self, name: str, kind: Kind, parent: str | None, at: datetime) -> "_OtelSpan":
        """A span that begins ``at``; ``parent`` is a ``traceparent`` of version 00, None begins a trace."""
        context, start_time = _context(parent), _nanoseconds(at)
        return _OtelSpan(self._tracer.start_span(name, context, _KINDS[kind], start_time=start_time))

    async def aclose(self, seconds: float) -> None:
        """Send what has ended, for so many seconds at most: the SDK itself would wait for thirty."""
        closing = Thread(target=self._provider.shutdown, name="receiver-traces", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, seconds)
        if closing.is_alive():
            self._exporter.shutdown()  # so that nothing waits for another try


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        if not context.is_valid:  # OTEL_SDK_DISABLED
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def note(self, attributes: Mapping[str, str | int | None]) -> None:
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def end(self, at: datetime, error: str | None = None) -> None:
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_nanoseconds(at))


class _TellingExporter(SpanExporter):
    """Says once that spans are lost, and how many were when they are taken again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, it is about spans alone, and may repeat a header
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                log.warning("traces.lost", reason="the collector does not take them")
            self._lost += len(spans)
        elif self._lost:
            log.info("traces.recovered", lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _resource() -> Resource:
    """What the variables say that we are, else ``receiver``."""
    resource = Resource({SERVICE_VERSION: __version__}).merge(Resource.create())
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "receiver"}))
    return resource


def _context(traceparent: str | None) -> Context:
    """The SDK's context for a parent; one without a span begins a trace, whatever runs around us."""
    if traceparent is None:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
