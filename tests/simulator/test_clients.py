"""The simulator as the providers' own clients meet it: their paths, their errors, and all that they sell."""

import asyncio
import base64
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import httpx2
import msgspec
import pytest

from receiver import payload
from receiver.fetching.media import AUDIO, IMAGE, VIDEO, inspect
from receiver.models import ReportState
from receiver.simulator import Addresses, Faults, SimulatorOptions, serve_providers
from receiver.simulator.app import DIALECTS
from tests.support.media_host import picture
from tests.support.playing import MODELS, PROVIDERS, QUICK, Backend, id_in, playing, submission
from tests.support.waiting import until

BALANCES = {
    "vidgo": "/api/user/balance",
    "apidot": "/api/user/balance",
    "apixo": "/api/v1/apikeys/current-balance",
    "reapi": "/api/v1/balance",
}
PNG = picture("PNG", (64, 48))
FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}


@asynccontextmanager
async def at_the_roots(
    options: SimulatorOptions = QUICK,
) -> AsyncIterator[tuple[Addresses, httpx2.AsyncClient]]:
    async with (
        serve_providers(options=options) as addresses,
        httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as http,
    ):
        yield addresses, http


def quick(**more: Any) -> SimulatorOptions:
    return msgspec.structs.replace(QUICK, **more)


async def order(backend: Backend, provider: str, **fields: object) -> httpx2.Response:
    """A submission with further fields: at the top for reAPI, in ``input`` for the others."""
    model = str(fields.pop("model", MODELS[provider]))
    path, body = submission(provider, model, 1, None)
    if provider == "reapi":
        return await backend.http.post(path, json=body | fields)
    return await backend.http.post(path, json=body | {"input": body["input"] | fields})


async def finished(backend: Backend, path: str) -> dict[str, Any]:
    """The ``data`` of a status answer of Vidgo's or APIDot's, once the task has ended."""

    async def end() -> dict[str, Any] | None:
        answer = await backend.http.get(path)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data if data["status"] in {"finished", "failed"} else None

    return await until(end)


def message_of(provider: str, refusal: httpx2.Response) -> str:
    """Where each provider has its words for a refusal; the rest of its form is asserted by the way."""
    body = refusal.json()
    match provider:
        case "apidot":
            assert set(body) == {"code", "error"}
            assert set(body["error"]) == {"message", "type"}
        case "apixo":
            assert set(body) == {"code", "message", "data"}
            return str(body["data"]["error"])
        case "reapi":
            assert set(body) == {"error"}
            assert set(body["error"]) == {"code", "message", "request_id"}
    return str(body["error"]["message"])


# --- a port of its own --------------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_clients_that_join_their_paths_to_a_base_url_reach_each_provider(
    provider: str, slash: str
) -> None:
    async with at_the_roots() as (addresses, http):
        base = addresses.roots[provider] + slash
        path, body = submission(provider, MODELS[provider], 1, None)
        task_id = id_in(
            provider, await http.post(urljoin(base, path.removeprefix(f"/{provider}")), json=body)
        )
        request = PROVIDERS[provider].status_request(task_id, MODELS[provider])
        assert request is not None

        async def end() -> list[str]:
            answer = await http.get(urljoin(base, request.path), params=dict(request.query))
            return [file.url for file in PROVIDERS[provider].parse(answer.json()).files]

        [link] = await until(end)
        assert link.startswith(f"{addresses.roots[provider]}/media/{provider}/")
        assert (await http.get(link)).headers["content-type"].startswith("image/")
        assert (await http.get(urljoin(base, BALANCES[provider]))).status_code == 200
        # The same task, seen from the port where all providers are.
        shared = f"{addresses.combined}/{provider}{request.path}"
        assert (await http.get(shared, params=dict(request.query))).status_code == 200
        assert [task["task_id"] for task in (await http.get(f"{addresses.combined}/truth")).json()] == [
            task_id
        ]


async def test_every_port_is_on_loopback_and_of_one_provider_alone() -> None:
    async with at_the_roots() as (addresses, http):
        urls = [addresses.combined, *addresses.roots.values()]
        assert len(set(urls)) == 1 + len(DIALECTS)
        assert {httpx2.URL(url).host for url in urls} == {"127.0.0.1"}
        assert list(addresses.roots) == [dialect.name for dialect in DIALECTS]
        answer = await http.get(f"{addresses.roots['vidgo']}/api/v1/tasks/any")
        assert (answer.status_code, answer.json()["code"]) == (404, 404)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_unknown_path_or_method_is_answered_in_the_providers_form(provider: str) -> None:
    async with at_the_roots() as (addresses, http):
        path, _ = submission(provider, MODELS[provider], 1, None)
        submit = path.removeprefix(f"/{provider}")
        for base in (addresses.roots[provider], f"{addresses.combined}/{provider}"):
            for wrong in ("/", "/api", "/api/v2/anything", BALANCES[provider] + "/"):
                answer = await http.get(base + wrong)
                assert answer.status_code == 404
                assert message_of(provider, answer) == "Not Found."
            answer = await http.get(base + submit)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert message_of(provider, answer) == "Method Not Allowed."


async def test_the_root_lists_every_path_of_all_and_each_is_there() -> None:
    async with at_the_roots() as (addresses, http):
        listed = (await http.get(addresses.combined)).json()
        assert list(listed["providers"]) == [dialect.name for dialect in DIALECTS]
        for name, one in listed["providers"].items():
            assert (one["url"], one["own_url"]) == (f"{addresses.combined}/{name}", addresses.roots[name])
            for base, path in itertools.product((one["url"], one["own_url"]), one["paths"]):
                asked = base + re.sub(r"{\w+}", "any", path["path"])
                answer = await http.request(path["method"], asked)
                assert "Not Found." not in answer.text
                assert answer.status_code != 405
                assert path["about"]
        paths = {name: {path["path"] for path in one["paths"]} for name, one in listed["providers"].items()}
        assert "/api/common/upload/base64" in paths["vidgo"] - paths["apidot"]
        assert "/api/v1/statusTask/{model}?taskId={task_id}" in paths["apixo"]
        assert "/api/v1/audio/generations" in paths["reapi"]
        assert "/truth" in {path["path"] for path in listed["beside"]["paths"]}


async def test_the_root_lists_them_as_text_that_fits_a_terminal() -> None:
    async with at_the_roots() as (addresses, http):
        answer = await http.get(addresses.combined, headers={"accept": "text/plain"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert "POST /api/v1/generateTask/{model}" in answer.text
    assert max(map(len, answer.text.splitlines())) <= 80


# --- refusals -----------------------------------------------------------------------------------------


async def test_apidots_errors_are_as_its_site_documents_them() -> None:
    async with playing(quick(keys={"apidot": "right"}), headers={"Authorization": "Bearer right"}) as backend:
        answer = await order(backend, "apidot", model="gpt-image-2-edit")
        assert (answer.status_code, answer.json()) == (
            400,
            {
                "code": 400,
                "error": {
                    "message": "image_urls is required for gpt-image-2-edit",
                    "type": "invalid_request_error",
                },
            },
        )
        backend.http.headers["authorization"] = "Bearer wrong"
        answer = await order(backend, "apidot")
        assert answer.status_code == answer.json()["code"] == 401
        assert answer.json()["error"]["type"] == "authentication_error"


async def test_retry_after_is_written_as_clients_look_for_it() -> None:
    async with serve_providers(options=quick(submit_rate_limit=1)) as addresses:
        path, body = submission("reapi", MODELS["reapi"], 1, None)
        heads = [await head_of_answer(addresses.combined, path, json.dumps(body).encode()) for _ in "12"]
    assert b" 200 OK\r\n" in heads[0]
    assert b" 429 Too Many Requests\r\n" in heads[1]
    assert b"\r\nRetry-After: " in heads[1]


async def head_of_answer(url: str, path: str, body: bytes) -> bytes:
    """The head of an answer as it goes over the wire: clients' libraries change the case of names."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx2.URL(url).port)
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_submissions_beyond_the_rate_are_refused_and_make_no_task(provider: str) -> None:
    async with playing(quick(submit_rate_limit=10)) as backend:
        answers = [await backend.submit(provider) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 429, 429, 429]
        assert int(answers[3].headers["retry-after"]) >= 1
        message_of(provider, answers[3])
        assert len((await backend.http.get("/truth")).json()) == 1


@pytest.mark.parametrize(
    ("provider", "price", "code"),
    [
        ("vidgo", 2.0, 402),
        ("apidot", 1.5, "insufficient_credits"),
        ("apixo", 0.02, "Insufficient credits"),
        ("reapi", 186.0, 30001),
    ],
)
async def test_an_account_without_enough_credit_gets_402_and_a_failed_task_costs_nothing(
    provider: str, price: float, code: object
) -> None:
    async with playing(quick(credits=price * 2)) as backend:
        failed = await backend.submit(provider, outcome="failed")
        await backend.ended(provider, id_in(provider, failed))
        assert (await backend.truth())["credits"] == 0
        assert await balance(backend, provider) == price * 2
        answers = [await backend.submit(provider) for _ in "12"]
        assert [answer.status_code for answer in answers] == [200, 200]
        for answer in answers:  # APIDot deducts at the end
            await backend.ended(provider, id_in(provider, answer))
        assert await balance(backend, provider) == 0
        refused = await backend.submit(provider)
        assert refused.status_code == 402
        message_of(provider, refused)
        said = refused.json()
        assert code in [*said.values(), *said.get("error", {}).values()]
        assert [task["credits"] for task in (await backend.http.get("/truth")).json()] == [0, price, price]


async def balance(backend: Backend, provider: str) -> float:
    """What is left, where each provider has it."""
    body = (await backend.http.get(f"/{provider}{BALANCES[provider]}")).json()
    match provider:
        case "apixo":
            return float(body["data"])
        case "reapi":
            return float(body["balance"])
        case _:
            return float(body["data"]["credits_amount"])


async def test_balances_are_in_the_documented_shapes() -> None:
    async with playing(quick(credits=17_276)) as backend:
        said = {name: (await backend.http.get(f"/{name}{path}")).json() for name, path in BALANCES.items()}
    email = {"email": "somebody@example.com"}
    assert said == {
        "vidgo": {"code": 200, "data": email | {"credits_amount": 17276}},
        "apidot": {"code": 200, "data": email | {"credits_amount": 17276}},
        "apixo": {"code": 200, "message": "success", "data": 17276.0},
        "reapi": {"balance": 17276.0},
    }


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [400, 402, 429, 500, 503])
async def test_a_submission_can_be_refused_on_demand_also_with_http_200(provider: str, status: int) -> None:
    async with playing() as backend:
        plain = await backend.submit(provider, refuse=status)
        hidden = await backend.submit(provider, refuse=status, error_in_200=True)
        assert (plain.status_code, hidden.status_code) == (status, 200)
        assert hidden.json() == plain.json()
        assert ("retry-after" in plain.headers) is (status == 429)
        if provider != "reapi":
            assert hidden.json()["code"] == status
        assert (await backend.http.get("/truth")).json() == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_status_answer_can_be_an_error_with_http_200_once(provider: str) -> None:
    async with playing(quick(faults=Faults(error_in_200=1.0))) as backend:
        task_id = id_in(provider, await backend.submit(provider))
        answer = await backend.ask(provider, task_id)
        assert answer.status_code == 200
        assert PROVIDERS[provider].parse(answer.json()).state is ReportState.UNCLEAR
        assert message_of(provider, answer) == "Something went wrong: try again."
        assert (await backend.ended(provider, task_id)).state is ReportState.COMPLETED


# --- what can be ordered ------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_output_format_is_obeyed(provider: str, wanted: str) -> None:
    async with playing() as backend:
        task_id = id_in(provider, await order(backend, provider, output_format=wanted))
        [file] = (await backend.ended(provider, task_id)).files
        assert (await backend.http.get(file.url)).headers["content-type"] == FORMATS[wanted]
        assert (await backend.truth())["files"][0]["media_type"] == FORMATS[wanted]
        assert (await order(backend, provider, output_format="bmp")).status_code == 400


@pytest.mark.parametrize(
    ("provider", "model", "more", "status"),
    [
        ("vidgo", "gpt-image-2", {"image_urls": ["https://a.example/1.png"]}, 400),
        ("vidgo", "gpt-image-2", {"image_urls": None}, 200),
        ("vidgo", "gpt-image-2-edit", {}, 400),
        ("vidgo", "gpt-image-2-edit", {"image_urls": []}, 400),
        ("vidgo", "gpt-image-2-edit", {"image_urls": ["https://a.example/1.png"]}, 200),
        ("vidgo", "gpt-image-2-edit", {"image_urls": ["https://a.example/1.png"], "n": 1}, 400),
        ("apidot", "gpt-image-2", {"image_urls": ["https://a.example/1.png"]}, 400),
        ("apidot", "gpt-image-2-edit", {}, 400),
        ("apidot", "gpt-image-2-edit", {"image_urls": ["https://a.example/1.png"]}, 200),
        ("apixo", "gpt-image-2", {"mode": "image-to-image"}, 400),
        ("apixo", "gpt-image-2", {"mode": "image-to-image", "image_urls": ["https://a.example/1.png"]}, 200),
        ("apixo", "gpt-image-2", {"mode": "text-to-image"}, 200),
        ("reapi", "gpt-image-2", {"image_urls": ["https://a.example/1.png"]}, 200),
        ("reapi", "gpt-image-2", {"image_urls": ["https://a.example/1.png"] * 17}, 400),
        ("reapi", "gpt-image-2", {"image_urls": "https://a.example/1.png"}, 400),
    ],
)
async def test_images_to_work_from_are_taken_by_the_models_that_document_them(
    provider: str, model: str, more: dict[str, object], status: int
) -> None:
    async with playing() as backend:
        answer = await order(backend, provider, model=model, **more)
        assert answer.status_code == status, answer.text


async def test_a_prompt_may_hold_what_callbacks_may() -> None:
    async with playing() as backend:
        body = b'{"model": "gpt-image-2", "input": {"prompt": "a cat \\ud83d", "guidance": 7.5}}'
        assert (await backend.http.post("/vidgo/api/generate/submit", content=body)).status_code == 200


async def test_a_model_with_a_slash_in_its_name_is_one_model() -> None:
    async with at_the_roots() as (addresses, http):
        base, model = addresses.roots["apixo"], quote("flux/dev", safe="")
        body = {"request_type": "async", "source": "mcp", "input": {"prompt": "hills"}}
        answer = await http.post(urljoin(base, f"/api/v1/generateTask/{model}"), json=body)
        task_id = answer.json()["data"]["taskId"]
        asked = await http.get(urljoin(base, f"/api/v1/statusTask/{model}"), params={"taskId": task_id})
        assert (asked.status_code, asked.json()["data"]["taskId"]) == (200, task_id)


# --- APIDot's status answers --------------------------------------------------------------------------


async def test_apidot_has_files_in_either_place_by_turns_in_status_answers_but_not_in_callbacks() -> None:
    async with playing() as backend:
        for turn in range(4):
            task_id = id_in("apidot", await backend.submit("apidot", count=2))
            body: Any = payload.decode((await backend.called(turn + 1))[-1])
            told = body["data"]["files"]
            asked = await finished(backend, f"/apidot/api/generate/status/{task_id}")
            assert ("files" in asked, "output" in asked) == ((False, True) if turn % 2 else (True, False))
            place = asked["output"]["files"] if turn % 2 else asked["files"]
            assert [file["file_url"] for file in place] == [file["file_url"] for file in told]
            assert [set(file) for file in told] == [{"file_url", "file_type"}] * 2
            assert all(file["watermark_url"] == file["file_url"] for file in place)
            assert (await backend.ended("apidot", task_id)).files


async def test_apidot_tells_what_a_task_cost_and_when_it_ended() -> None:
    async with playing() as backend:
        task_id = id_in("apidot", await backend.submit("apidot", count=3))
        data = await finished(backend, f"/apidot/api/generate/status/{task_id}")
        assert data["credits_amount"] == 4.5
        assert data["created_time"] <= data["finished_time"]
        failed = id_in("apidot", await backend.submit("apidot", outcome="failed"))
        assert (await finished(backend, f"/apidot/api/generate/status/{failed}"))["credits_amount"] == 0


async def test_apidots_images_are_processing_where_vidgos_are_running() -> None:
    async with playing() as backend:
        words: dict[str, set[str]] = {}
        for provider in ("vidgo", "apidot"):
            task_id = id_in(provider, await backend.submit(provider, delay_seconds=0.5))
            seen = words[provider] = set()

            async def ended(provider: str = provider, task_id: str = task_id, seen: set[str] = seen) -> bool:
                data = (await backend.ask(provider, task_id)).json()["data"]
                seen.add(data["status"])
                return bool(data["status"] == "finished")

            await until(ended)
    assert words == {
        "vidgo": {"not_started", "running", "finished"},
        "apidot": {"not_started", "processing", "finished"},
    }


# --- sounds, films and uploads ------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["vidgo", "apidot"])
async def test_music_is_told_and_asked_about_in_its_own_way(provider: str, tmp_path: Path) -> None:
    async with playing() as backend:
        answer = await backend.submit(provider, model="generate-music")
        task_id = id_in(provider, answer)
        if provider == "apidot":
            assert task_id.startswith("task-music-")
        else:
            assert len(task_id) == 16
        told: Any = payload.decode((await backend.called(1))[0])
        asked = await finished(backend, f"/{provider}/api/generate/detail/music?task_id={task_id}")
        assert told["data"]["files"] == asked["files"]
        assert "progress" not in asked
        assert len(asked["files"]) == 2
        for song in asked["files"]:
            assert set(song) >= {"audio_id", "audio_url", "image_url", "title", "duration", "prompt"}
            assert await kind_of(backend, song["audio_url"], tmp_path) == AUDIO
            assert await kind_of(backend, song["image_url"], tmp_path) == IMAGE
        assert (await backend.http.get(f"/{provider}/api/generate/status/{task_id}")).status_code == 404
        image = id_in(provider, await backend.submit(provider))
        at_music = await backend.http.get(f"/{provider}/api/generate/detail/music", params={"task_id": image})
        assert at_music.status_code == 404
        assert [file["media_type"] for file in (await truth_of(backend, task_id))["files"]] == [
            "audio/mpeg",
            "image/jpeg",
        ] * 2


async def truth_of(backend: Backend, task_id: str) -> dict[str, Any]:
    tasks = (await backend.http.get("/truth")).json()
    [task] = [task for task in tasks if task["task_id"] == task_id]
    return dict(task)


async def kind_of(backend: Backend, url: str, folder: Path) -> str:
    """What the service would take the file at this link for."""
    path = folder / "file"
    path.write_bytes((await backend.http.get(url)).content)
    found = inspect(path, allowed_kinds=frozenset({IMAGE, AUDIO, VIDEO}), max_pixels=10**7)
    return found.media_type.partition("/")[0]


@pytest.mark.parametrize(
    ("provider", "model", "keys"),
    [
        ("vidgo", "generate-lyrics", {"title", "text"}),
        ("vidgo", "get-timestamped-lyrics", {"timestampe_lyrics"}),
        ("vidgo", "boost-music-style", {"style"}),
        ("vidgo", "generate-persona", {"persona_id"}),
        ("vidgo", "convert-to-wav", {"wav_url"}),
        ("vidgo", "create-music-video", {"video_url"}),
        ("vidgo", "separate-vocals", {"separate_vocals"}),
        ("vidgo", "upload-and-separate-vocals", {"vocal_removal"}),
        ("vidgo", "stem-split", {"stem_split"}),
        ("vidgo", "generate-music-cover", {"generate_cover"}),
        ("vidgo", "generate-midi", {"midi_url"}),
        ("apidot", "generate-lyrics", {"title", "lyrics"}),
        ("apidot", "get-timestamped-lyrics", {"timestamped_lyrics"}),
        ("apidot", "boost-music-style", {"enhanced_style"}),
        ("apidot", "separate-vocals", {"vocals_url", "instrumental_url"}),
        (
            "apidot",
            "minimax-music-2.6",
            {"audio_id", "audio_url", "image_url", "title", "style", "duration", "prompt"},
        ),
    ],
)
async def test_each_kind_of_music_has_its_own_keys(provider: str, model: str, keys: set[str]) -> None:
    async with playing() as backend:
        task_id = id_in(provider, await order(backend, provider, model=model))
        data = await finished(backend, f"/{provider}/api/generate/detail/music?task_id={task_id}")
        [item] = data["files"]
        assert set(item) == keys
        links = payload.links([payload.embedded(value) for value in item.values()])
        links = links or payload.links(list(item.values()))
        assert links == [file["url"] for file in (await truth_of(backend, task_id))["files"]]
        for link in links:
            assert (await backend.http.get(link)).status_code == 200


async def test_music_that_fails_says_so_without_files() -> None:
    async with playing() as backend:
        task_id = id_in("vidgo", await backend.submit("vidgo", model="generate-music", outcome="failed"))
        data = await finished(backend, f"/vidgo/api/generate/detail/music?task_id={task_id}")
        assert (data["status"], data["files"]) == ("failed", [])
        assert data["error_message"]


async def test_reapi_makes_films_and_songs(tmp_path: Path) -> None:
    async with playing() as backend:
        made = {}
        for number, (kind, more) in enumerate(
            [("videos", {"return_last_frame": True}), ("audio", {}), ("audio", {}), ("videos", {})]
        ):
            body = {"model": f"model-{number}", "prompt": "hills"} | more
            answer = await backend.http.post(f"/reapi/api/v1/{kind}/generations", json=body)
            assert answer.status_code == 200
            task_id = id_in("reapi", answer)
            report = await backend.ended("reapi", task_id)
            assert report.files
            made[number] = (await backend.ask("reapi", task_id)).json()["output"]
        film, tracks, both, bare = made.values()
        assert set(film) == {"video_urls", "last_frame_url"}
        assert set(bare) == {"video_urls"}
        assert await kind_of(backend, film["video_urls"][0], tmp_path) == VIDEO
        assert await kind_of(backend, film["last_frame_url"], tmp_path) == IMAGE
        # By turns with and without the list of links.
        assert set(tracks) == {"tracks"}
        assert set(both) == {"audio_urls", "tracks"}
        assert [track["url"] for track in both["tracks"]] == both["audio_urls"]
        assert await kind_of(backend, tracks["tracks"][0]["url"], tmp_path) == AUDIO
        assert (await backend.http.post("/reapi/api/v1/models/generations", json={})).status_code == 404


@pytest.mark.parametrize(("provider", "model"), [("vidgo", "seedance-2"), ("apixo", "veo-3-1")])
async def test_models_of_films_make_films(provider: str, model: str, tmp_path: Path) -> None:
    async with playing() as backend:
        await backend.submit(provider, model=model)
        [body] = await backend.called(1)
        [file] = PROVIDERS[provider].parse(payload.decode(body)).files
        assert file.kind == VIDEO
        assert await kind_of(backend, file.url, tmp_path) == VIDEO


async def test_an_upload_that_is_nested_deeply_is_refused() -> None:
    async with playing() as backend:
        levels = (f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(5000))
        answer = await backend.http.post(
            "/vidgo/api/common/upload/stream",
            content=b"--z\r\n" + "".join(levels).encode(),
            headers={"content-type": "multipart/mixed; boundary=z"},
        )
        assert answer.status_code == 400


async def test_vidgo_takes_uploads_in_three_ways_and_five_a_minute() -> None:
    async with playing() as backend:
        where = "/vidgo/api/common/upload"
        form = {"upload_path": "photos", "file_name": "a b.png"}
        streamed = await backend.http.post(
            f"{where}/stream", data=form, files={"file": ("x.png", PNG, "image/png")}
        )
        encoded = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        posted = await backend.http.post(f"{where}/base64", json={"base64_data": encoded})
        named = await backend.http.post(f"{where}/url", json={"file_url": "https://a.example/1.png"})
        wrong = await backend.http.post(f"{where}/base64", json={"base64_data": "PHN2Zz4="})
        missing = await backend.http.post(f"{where}/url", json={})
        sixth = await backend.http.post(f"{where}/url", json={"file_url": "https://a.example/1.png"})
        statuses = [answer.status_code for answer in (streamed, posted, named, wrong, missing, sixth)]
        assert statuses == [200, 200, 200, 400, 400, 429]
        data = streamed.json()["data"]
        assert data["upload_path"] == "temp/photos"
        assert (data["file_name"], data["file_size"], data["mime_type"]) == ("a b.png", len(PNG), "image/png")
        for answer in (streamed, posted):
            shown = await backend.http.get(answer.json()["data"]["file_url"])
            assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
        assert (await backend.http.get(named.json()["data"]["download_url"])).status_code == 200
        assert set(posted.json()) == {"success", "code", "msg", "data"}
