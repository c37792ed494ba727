"""kie.ai: 4o images, Flux Kontext, Runway and its market; each has a shape, and a path, of its own.

Documented at https://docs.kie.ai ; the page behind each fact is named beside it.
"""

from collections.abc import Iterable, Iterator, Mapping

from receiver import forms, payload
from receiver.errors import Rejected
from receiver.models import (
    Callback,
    ProviderFacts,
    RemoteFile,
    Report,
    ReportState,
    Signing,
    SigningKeys,
    StatusRequest,
)
from receiver.signing import base64_bytes, header_values, hmac_fits, is_fresh, text_keys

_STATES = {
    # market/common/get-task-detail; Runway's and 4o's details spell some in their own way
    "waiting": ReportState.PROGRESS,
    "wait": ReportState.PROGRESS,
    "queuing": ReportState.PROGRESS,
    "queueing": ReportState.PROGRESS,
    "generating": ReportState.PROGRESS,
    "success": ReportState.COMPLETED,
    "fail": ReportState.FAILED,
    # ``successFlag`` of flux-kontext-api/get-image-details and 4o-image-api/get-4-o-image-details
    "flag 0": ReportState.PROGRESS,
    "flag 1": ReportState.COMPLETED,
    "flag 2": ReportState.FAILED,
    "flag 3": ReportState.FAILED,
    # The outer ``code`` of callbacks that name no state (the pages of callbacks of the same models)
    "code 200": ReportState.COMPLETED,
    "code 400": ReportState.FAILED,
    "code 451": ReportState.FAILED,
    "code 500": ReportState.FAILED,
    "code 501": ReportState.FAILED,
}
# Where the files are, in callbacks and in details; without one of them a 200 says only that it was heard.
_PLACES = ("info", "response", "videoInfo", "video_url", "resultJson")
_PATHS = {  # by how the model's name begins
    "gpt4o-image": "/api/v1/gpt4o-image/record-info",
    "4o": "/api/v1/gpt4o-image/record-info",
    "flux-kontext": "/api/v1/flux/kontext/record-info",
    "runway": "/api/v1/runway/record-detail",  # assumption: its page was not seen whole
}
_MARKET = "/api/v1/jobs/recordInfo"


class Kie:
    """Reads kie.ai's callbacks and status answers."""

    facts = ProviderFacts(
        name="kie",
        title="kie.ai",
        base_url="https://api.kie.ai",
        pushes=True,
        callback_rules="HTTPS, 200 within 15 s; how it retries is not documented.",  # the pages of callbacks
        # Of what it made. Links of others that it passes on live 10 minutes and are not fetched.
        link_life_seconds=14 * 24 * 3600,
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
        signing=Signing.TEXT,
        signs_body=False,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """Its HMAC is of ``task id.time`` alone (common-api/webhook-verification), in base64."""
        claim = base64_bytes(callback.headers.get("x-webhook-signature", ""))
        if claim is None or not is_fresh(callback, "x-webhook-timestamp"):
            return False
        values = header_values(callback, ("x-webhook-timestamp",))
        task_id = _task_id_in(callback.body)
        if values is None or task_id is None:
            return False
        return hmac_fits(text_keys(keys), b".".join((task_id.encode(), *values)), [claim])

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        data = payload.mapping(outer.get("data"))
        places = [*map(data.get, _PLACES)]
        return payload.build_report(
            task_id=_task_id(outer),
            word=_word(outer, data, places),
            states=_STATES,
            files=_files(data),
            named=places,
            error=lambda: _error(outer, data),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        path = next((path for start, path in _PATHS.items() if (model or "").startswith(start)), _MARKET)
        return StatusRequest(path=path, query={"taskId": task_id})


def _task_id(outer: Mapping[str, object]) -> str | None:
    """Its documentation and its samples differ in where it is."""
    data = payload.mapping(outer.get("data"))
    for place in (data, outer):
        for name in ("taskId", "task_id"):
            if (found := payload.task_id(place.get(name))) is not None:
                return found
    return None


def _task_id_in(body: bytes) -> str | None:
    try:
        return _task_id(payload.mapping(forms.peek(body)))
    except Rejected:
        return None


def _word(outer: Mapping[str, object], data: Mapping[str, object], places: Iterable[object]) -> str | None:
    if "state" in data and (state := payload.text(data["state"], 100)):
        return state
    if "successFlag" in data and (flag := payload.code(data["successFlag"])) is not None:
        return f"flag {flag}"
    code = payload.code(outer.get("code"))
    if code is None or (code == "200" and all(map(payload.is_empty, places))):
        return None
    return f"code {code}"


def _files(data: Mapping[str, object]) -> Iterator[RemoteFile | None]:
    for place in (data.get("info"), data.get("response")):
        if isinstance(place, dict):  # ``originImageUrl`` in it is what was edited
            for name in ("result_urls", "resultUrls"):
                yield from map(payload.file_of, payload.items(place.get(name)))
            yield payload.remote_file(place.get("resultImageUrl"), "image")
    market = payload.embedded(data.get("resultJson"))
    if isinstance(market, dict):
        yield from map(payload.file_of, payload.items(market.get("resultUrls")))
    film = payload.mapping(data.get("videoInfo"))  # Runway's: the same names with other letters
    yield payload.remote_file(data.get("video_url") or film.get("videoUrl"), "video")
    yield payload.remote_file(data.get("image_url") or film.get("imageUrl"), "image")


def _error(outer: Mapping[str, object], data: Mapping[str, object]) -> payload.ErrorWords:
    # Beside a state the outer ``code`` and ``msg`` say success, of a failure, too.
    said = {} if "state" in data or "successFlag" in data else outer
    return payload.error_of(
        data.get("error"),
        number=data.get("failCode") or data.get("errorCode") or said.get("code"),
        message=data.get("failMsg") or data.get("errorMessage") or said.get("msg"),
    )
