"""The manual's pages: safe for a browser, and linked the same below any path."""

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from receiver import manual
from receiver.config.settings import Settings
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.app import build_app
from tests.support.manual import CHAPTERS, LINK, README
from tests.support.web_callers import caller

HARMLESS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "a", "ul", "ol", "li"),
    *("strong", "em", "code", "pre", "img", "table", "thead", "tbody", "tr", "th", "td"),
}
MOST_BYTES = 300_000  # of all pictures: they are in the package
ALL = ("/docs", *(f"/docs/{name}" for name in CHAPTERS))


class Read(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: defaultdict[str, list[str]] = defaultdict(list)
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes[name].append(value or "")


@pytest.mark.parametrize("path", ALL)
async def test_a_page_is_html_that_can_do_nothing(path: str, stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Read(answer.text)
    assert page.tags <= HARMLESS
    assert len(set(page.attributes["id"])) == len(page.attributes["id"])
    assert page.attributes.keys() <= {
        "lang",
        "charset",
        "name",
        "content",
        "href",
        "id",
        "class",
        "start",
    } | {
        "src",
        "alt",
    }
    assert all(re.match(r"#|https://|[\w./-]+(#|$)", link) for link in page.attributes["href"])


@pytest.mark.parametrize("path", ALL[:2])
async def test_a_page_may_use_its_own_style_and_nothing_else(path: str, stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get(path)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    allowed = dict(
        each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";")
    )
    assert allowed.pop("style-src") == f"'sha256-{digest}'"
    assert allowed.pop("img-src") == "'self'"
    assert allowed.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert set(allowed.values()) == {"'none'"}


def test_html_in_a_chapter_would_be_text() -> None:
    shown = manual.markdown().render("<script>x</script>\n\n[a](javascript:x) <b onclick=x>\n\n<!-- y -->")
    assert Read(shown).tags == {"p"}


def behind_a_path(runtime: Runtime) -> ASGIApp:
    named = msgspec.structs.replace(runtime.settings, public_url="https://receiver.test/a/b")
    return build_app(msgspec.structs.replace(runtime, settings=named))


def mounted(runtime: Runtime) -> ASGIApp:
    outer = Starlette()
    outer.mount("/a/b", build_app(runtime))
    return outer


@pytest.mark.parametrize("make", [build_app, behind_a_path, mounted])
async def test_every_link_leads_to_a_page_and_a_place_in_it(
    make: Callable[[Runtime], ASGIApp], runtime: Runtime
) -> None:
    prefix = "" if make is build_app else "/a/b"
    pages: dict[str, Read] = {}
    async with caller(make(runtime)) as client:
        waiting = {f"{prefix}/docs"}
        while waiting:
            path = waiting.pop()
            answer = await client.get(path)
            assert answer.status_code == 200, path
            pages[path] = Read(answer.text)
            targets = {urlsplit(urljoin(path, link)) for link in pages[path].attributes["href"]}
            waiting |= {target.path for target in targets if not target.scheme} - pages.keys()
    assert pages.keys() == {prefix + path for path in ALL}
    for path, page in pages.items():
        for link in page.attributes["href"]:
            target = urlsplit(urljoin(path, link))
            assert not target.fragment or target.fragment in pages[target.path].attributes["id"], link


@pytest.mark.parametrize("name", CHAPTERS)
async def test_a_page_has_every_link_to_another_chapter(name: str, stranger: httpx2.AsyncClient) -> None:
    page = Read((await stranger.get(f"/docs/{name}")).text)
    within = [link for link in LINK.findall(CHAPTERS[name]) if not link.startswith(("../", "pictures/"))]
    assert page.attributes["href"] == ["../docs", *(link.replace(".md", "") for link in within)]


@pytest.mark.parametrize("make", [build_app, behind_a_path, mounted])
async def test_every_picture_of_a_page_is_there_and_every_picture_is_on_a_page(
    make: Callable[[Runtime], ASGIApp], runtime: Runtime
) -> None:
    prefix = "" if make is build_app else "/a/b"
    shown = set()
    async with caller(make(runtime)) as client:
        for path in (prefix + each for each in ALL):
            page = Read((await client.get(path)).text)
            assert len(page.attributes["alt"]) == len(page.attributes["src"])
            assert all(page.attributes["alt"])
            for place in page.attributes["src"]:
                answer = await client.get(urljoin(path, place))
                assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
                assert answer.headers["x-content-type-options"] == "nosniff"
                tag = {"if-none-match": answer.headers["etag"]}
                assert (await client.get(urljoin(path, place), headers=tag)).status_code == 304
                shown.add(place.removeprefix("pictures/"))
        assert (await client.get(f"{prefix}/docs/pictures/none.webp")).status_code == 404
    front_page = set(re.findall(r"receiver/docs/pictures/([a-z-]+\.webp)", README))
    assert shown | front_page == manual.pictures().keys()
    assert sum(map(len, manual.pictures().values())) <= MOST_BYTES


def test_a_picture_from_elsewhere_would_not_be_shown() -> None:
    assert manual.PICTURES.fullmatch("pictures/overview.webp")
    for place in ("https://example.test/x.webp", "../pictures/x.webp", "pictures/../x.webp", "data:x"):
        assert manual.PICTURES.fullmatch(place) is None


@pytest.mark.parametrize("path", ALL[:2])
async def test_a_page_is_sent_again_only_when_it_has_changed(path: str, stranger: httpx2.AsyncClient) -> None:
    whole = await stranger.get(path)
    head = await stranger.head(path)
    assert (head.status_code, head.headers) == (200, whole.headers)
    again = await stranger.get(path, headers={"if-none-match": f'"x", W/{whole.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == whole.headers["etag"]
    assert (await stranger.get(path, headers={"if-none-match": '"x"'})).content == whole.content


@pytest.mark.parametrize("name", ["none", "README", "walks.md", "..", "%2e%2e%2fmanual", "Walks"])
async def test_what_is_no_chapter_is_not_there(name: str, stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get(f"/docs/{name}")
    assert answer.status_code == 404
    assert answer.json()["type"] in {ProblemType.UNKNOWN_CHAPTER.uri, ProblemType.UNKNOWN_PATH.uri}


async def test_pages_hold_nothing_of_the_operators(
    stranger: httpx2.AsyncClient, web_settings: Settings
) -> None:
    secrets = (*web_settings.secrets, *web_settings.api_tokens, *web_settings.admin_tokens)
    own = (*secrets, str(web_settings.data_dir), web_settings.public_url)
    for path in ALL:
        text = (await stranger.get(path)).text
        assert [value for value in own if value in text] == []
