"""Webhooks in Starlette, FastAPI and Django: the event for the handler, and 401 for what proves nothing."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import django
import httpx2
import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient as DjangoAsyncClient
from django.test import Client as DjangoClient
from django.test import RequestFactory
from django.urls import path
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

import receiver.client.django
import receiver.client.starlette
from receiver.client import Event
from receiver.testing.fixtures import MakeEvent
from tests.support.manual import CHAPTERS, python_examples

pytest_plugins = ["receiver.testing.fixtures"]

told: list[Event] = []


@pytest.fixture(autouse=True)
def _untold() -> None:
    told.clear()


def wrongs(make: MakeEvent) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Each message that is not to be believed."""
    body, headers = make()
    yield body, {}
    yield body + b" ", headers
    yield body, headers | {"webhook-signature": "v1,"}
    yield body, headers | {"webhook-id": "evt_another"}
    yield make(timestamp=1)


# --- Starlette and FastAPI ------------------------------------------------------------------------


def in_starlette() -> ASGIApp:
    async def images(request: Request) -> Response:
        told.append(await receiver.client.starlette.event(request))
        return Response(status_code=204)

    return Starlette(routes=[Route("/hook", images, methods=["POST"])])


def in_fastapi() -> ASGIApp:
    app = FastAPI()

    @app.post("/hook", status_code=204)
    async def images(event: Annotated[Event, Depends(receiver.client.starlette.event)]) -> None:
        told.append(event)

    return app


@pytest.mark.parametrize("made", [in_starlette, in_fastapi])
async def test_an_app_is_handed_the_event_and_nothing_that_is_not_to_be_believed(
    image_event: MakeEvent, made: Callable[[], ASGIApp]
) -> None:
    transport = httpx2.ASGITransport(made())
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test") as client:
        for body, headers in wrongs(image_event):
            assert (await client.post("/hook", content=body, headers=headers)).status_code == 401
        large = b"x" * (receiver.client.starlette.MAX_BODY_BYTES + 1)
        assert (await client.post("/hook", content=large)).status_code == 413
        assert told == []
        body, headers = image_event(type="task.partial", owner="user-17", files=2)
        assert (await client.post("/hook", content=body, headers=headers)).status_code == 204
    (event,) = told
    assert (event.type, event.owner, [asset.state for asset in event.assets]) == (
        "task.partial",
        "user-17",
        ["stored", "failed"],
    )


# --- Django ---------------------------------------------------------------------------------------


@receiver.client.django.hook
def images(request: HttpRequest, event: Event) -> None:
    told.append(event)


@receiver.client.django.hook
async def images_later(request: HttpRequest, event: Event) -> None:
    told.append(event)


@receiver.client.django.hook
def images_with_an_answer(request: HttpRequest, event: Event) -> HttpResponse:
    return HttpResponse("taken", status=202)


@receiver.client.django.hook
def images_with_a_value(request: HttpRequest, event: Event) -> tuple[str, bool]:
    return event.id, True  # as update_or_create has it


VIEWS = (images, images_later, images_with_an_answer, images_with_a_value)


@pytest.fixture(scope="module", autouse=True)
def _configured() -> None:
    if not settings.configured:
        urls = tuple(path(view.__name__, view) for view in VIEWS)
        settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="of-the-tests", USE_TZ=True)
        django.setup()


def example(words: str) -> dict[str, Any]:
    """What an example of the manual defines."""
    (code,) = (each for each in python_examples(CHAPTERS["client"]) if words in each)
    defined: dict[str, Any] = {"__name__": "example"}
    exec(code, defined)
    return defined


async def test_the_manuals_apps_take_the_event(
    image_event: MakeEvent, capsys: pytest.CaptureFixture[str]
) -> None:
    body, headers = image_event(task_id="t1")
    transport = httpx2.ASGITransport(example("FastAPI()")["app"])
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test") as client:
        assert (await client.post("/hooks/images", content=body, headers=headers)).status_code == 204
    request = RequestFactory().post("/", data=body, content_type="application/json", headers=headers)
    assert example("client.django import")["images"](request).status_code == 204
    assert example("verify(body, headers)")["answer"](body, headers) == 204
    told = capsys.readouterr().out.splitlines()
    assert ["vidgo/t1" in line for line in told] == [True] * 3


def post(client: Any, name: str, body: bytes, headers: dict[str, str]) -> Any:
    return client.post(f"/{name}", data=body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("name", ["images", "images_with_a_value", "images_with_an_answer"])
def test_a_view_is_handed_the_event_and_nothing_that_is_not_to_be_believed(
    image_event: MakeEvent, name: str
) -> None:
    client = DjangoClient(enforce_csrf_checks=True)
    for body, headers in wrongs(image_event):
        assert post(client, name, body, headers).status_code == 401
    assert client.get(f"/{name}").status_code == 405
    assert told == []
    body, headers = image_event(owner="user-18")
    answer = post(client, name, body, headers)
    assert answer.status_code == (202 if name == "images_with_an_answer" else 204)
    assert [event.owner for event in told] == (["user-18"] if name == "images" else [])


async def test_a_view_may_be_async(image_event: MakeEvent) -> None:
    client = DjangoAsyncClient(enforce_csrf_checks=True)
    body, headers = image_event()
    assert (await post(client, "images_later", body + b" ", headers)).status_code == 401
    assert (await client.get("/images_later")).status_code == 405
    assert (await post(client, "images_later", body, headers)).status_code == 204
    assert len(told) == 1
