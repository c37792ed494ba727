"""Admins see by which settings the service runs, without any secret."""

import asyncio
import sqlite3

import msgspec
from starlette.requests import Request
from starlette.responses import Response

import receiver
from receiver.config.credentials import were_exposed
from receiver.config.disclosure import disclose
from receiver.config.settings import guessable_secrets
from receiver.runtime import Runtime
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.shapes import reply


class SettingsShown(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in use, each variable with its text, empty where it is unset.

    A secret is ``set``, perhaps with a fingerprint under the token of who asks; URLs are without what may be
    secret in them. ``guessable`` are variables whose secrets could be found by trying; ``were_open`` says
    that others could once read the credentials file.
    """

    version: str
    sqlite: str
    settings: dict[str, str]
    guessable: list[str]
    were_open: bool


async def show_settings(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Every setting that may be shown."""
    settings = runtime.settings
    token = request.headers["authorization"].partition(" ")[2].strip()
    document = SettingsShown(
        version=receiver.__version__,
        sqlite=sqlite3.sqlite_version,
        settings=disclose(settings, token),
        guessable=guessable_secrets(settings),
        were_open=await asyncio.to_thread(were_exposed, settings),
    )
    return reply(document)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/settings",
        summary="Show the settings in use, without secrets",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: SettingsShown},
        refuses=(401, 403),
        answer=show_settings,
    ),
)
