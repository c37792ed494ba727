"""One trace leads from the backend's request over everything that a service does to the consumer."""

import json
from pathlib import Path

from tests.e2e.service import API_TOKEN, bearer, consumer, receiver
from tests.support.collector import collector
from tests.support.media_host import media_host, picture, says
from tests.support.messages import TRACEPARENT
from tests.support.status_host import status_path, tells
from tests.support.waiting import until

SERVER, CLIENT, PRODUCER = 2, 3, 4
PROMPT, QUERY, KEY = "CANARY prompt", "X-Sig=CANARYsignature", "CANARY-key-of-vidgo"


async def test_one_trace_leads_from_the_backend_over_callback_poll_and_download_to_the_consumer(
    tmp_path: Path,
) -> None:
    _, trace_id, backend, _ = TRACEPARENT.split("-")
    with collector() as collected:
        async with consumer() as hook, media_host() as host:
            await hook.start()
            png = picture()
            link = host.put(f"/a.png?{QUERY}", says(200, png, "content-type: image/png"))
            done = {"status": "finished", "files": [{"file_url": link, "file_type": "image"}]}
            answer = tells({"code": 200, "data": {"task_id": "t1", **done}})
            host.put(f"/vidgo{status_path('vidgo', 't1')}", answer)
            settings = {
                "RECEIVER_TRACING": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collected.url,
                "OTEL_BSP_SCHEDULE_DELAY": "60000",  # so that only the end sends them
                "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
                "RECEIVER_SINK_HOOK": hook.url,
                "VIDGO_API_KEY": KEY,
                "VIDGO_BASE_URL": host.url("/vidgo"),
            }
            async with receiver(tmp_path, settings) as service:
                new = {"provider": "vidgo", "owner": "user-17", "model": "gpt-image-2", "task_id": "t1"}
                row = await service.http.post(
                    "/submissions",
                    json={**new, "request": {"prompt": PROMPT}},
                    headers=bearer(API_TOKEN) | {"traceparent": TRACEPARENT},
                )
                # By a token of every task's: so the provider is asked.
                assert await service.call_back("t1", link) == "accepted"
                await until(lambda: hook.bodies)
                assert collected.spans == []
                await service.stop()
                logged = service.output()
    spans = {span.name: span for span in collected.spans}
    assert sorted(spans) == ["callback", "fetch", "poll", "publish", "submission"]
    assert len(collected.spans) == len(spans)
    assert {span.trace_id for span in collected.spans} == {trace_id}
    submission, publish = spans["submission"], spans["publish"]
    assert submission.parent == backend
    assert {spans[name].parent for name in spans if name != "submission"} == {submission.span_id}
    assert {name: span.kind for name, span in spans.items()} == {
        "submission": SERVER,
        "callback": SERVER,
        "poll": CLIENT,
        "fetch": CLIENT,
        "publish": PRODUCER,
    }
    # The event says the same at every retry; the header leads to the very attempt.
    assert row.json()["traceparent"] == f"00-{trace_id}-{submission.span_id}-01"
    assert json.loads(hook.bodies[0])["traceparent"] == row.json()["traceparent"]
    assert f"\r\ntraceparent: 00-{trace_id}-{publish.span_id}-01\r\n" in hook.heads[0]

    told = {name: dict(span.attributes) for name, span in spans.items()}
    assert {(each.pop("receiver.provider"), each.pop("receiver.task_id")) for each in told.values()} == {
        ("vidgo", "t1")
    }
    outcomes = {name: each.pop("receiver.outcome") for name, each in told.items()}
    assert outcomes == {
        "submission": "logged",
        "callback": "accepted",
        "poll": "answered",
        "fetch": "stored",
        "publish": "delivered",
    }
    assert int(told["callback"].pop("receiver.bytes")) > 50
    event_id = json.loads(hook.bodies[0])["id"]
    assert told == {
        "submission": {},
        "callback": {},
        "poll": {"receiver.attempt": 1},
        "fetch": {"receiver.asset": 0, "receiver.attempt": 1, "receiver.bytes": len(png)},
        "publish": {
            "receiver.sink": "hook",
            "receiver.attempt": 1,
            "messaging.operation.type": "send",
            "messaging.operation.name": "publish",
            "messaging.destination.name": "hook",
            "messaging.message.id": event_id,
            "messaging.message.body.size": len(hook.bodies[0]),
        },
    }
    begun = [spans[name].seconds[0] for name in ("submission", "callback", "poll", "fetch", "publish")]
    assert begun == sorted(begun)
    assert all(first <= last for first, last in (span.seconds for span in collected.spans))
    assert not any(span.is_error for span in collected.spans)
    everything = "".join(span.text for span in collected.spans) + str(collected.resources)
    assert "CANARY" not in everything
    assert "127.0.0.1" not in everything
    assert {resource["service.name"] for resource in collected.resources} == {"receiver"}
    assert "traces." not in logged
