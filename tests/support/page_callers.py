"""People at the admin pages: a browser as far as its headers and cookies go, without the browser."""

import re
from collections.abc import Mapping

import httpx2
from starlette.types import ASGIApp

VIEWER_TOKEN = "a-viewer-of-the-tests"
OURS = {"sec-fetch-site": "same-origin"}


def browser(app: ASGIApp, base_url: str = "https://receiver.test") -> httpx2.AsyncClient:
    """A browser that has never been here."""
    headers = {"sec-fetch-site": "none", "accept": "text/html", "accept-encoding": "gzip"}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=base_url, headers=headers)


async def log_in(person: httpx2.AsyncClient, token: str, **fields: str) -> httpx2.Response:
    """Send the log-in form."""
    return await person.post("/admin/login", data={"token": token, "name": "on call", **fields}, headers=OURS)


def mark_in(page: str) -> str:
    """The mark that the forms of a page hold."""
    found = re.search(r'name="mark" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def submit(
    person: httpx2.AsyncClient, path: str, fields: Mapping[str, str], page: str = "/admin/"
) -> httpx2.Response:
    """Send a form as a page of this session has it."""
    mark = mark_in((await person.get(page, headers=OURS)).text)
    return await person.post(path, data={"mark": mark, **fields}, headers=OURS)


def kept_cookie(person: httpx2.AsyncClient) -> dict[str, str]:
    """Headers of a request with the cookies that a browser has now, wherever it comes from."""
    cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    return {"cookie": cookies, **OURS}
