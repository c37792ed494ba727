"""A webhook's event in Django, verified: 401 by itself where it is not to be believed.

    @receiver.client.django.hook
    def images(request: HttpRequest, event: Event) -> None: ...

The view is for POST alone and needs no CSRF token, as the signature says who it is. It may be ``async``.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from receiver.client.errors import VerificationError
from receiver.client.events import Event
from receiver.client.signatures import verify

View: TypeAlias = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


def hook(view: Callable[[HttpRequest, Event], object]) -> View:
    """Call ``view`` with the event, by the secrets in ``RECEIVER_WEBHOOK_SECRET``.

    It is 204 unless the view returns a response of its own.
    """
    if iscoroutinefunction(view):

        @wraps(view)
        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            event = _read(request)
            return _answer(await view(request, event)) if isinstance(event, Event) else event

        return _guarded(answer_later)

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponseBase:
        event = _read(request)
        return _answer(view(request, event)) if isinstance(event, Event) else event

    return _guarded(answer)


def _guarded(view: Callable[..., Any]) -> View:
    guarded: View = csrf_exempt(require_POST(view))
    return guarded


def _read(request: HttpRequest) -> Event | HttpResponse:
    try:
        return verify(request.body, request.headers)
    except VerificationError as exc:
        return HttpResponse(str(exc), status=401, content_type="text/plain; charset=utf-8")


def _answer(result: object) -> HttpResponseBase:
    return result if isinstance(result, HttpResponseBase) else HttpResponse(status=204)
