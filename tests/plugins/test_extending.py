"""The manual's plug-ins: they keep to the contracts, and a service that finds them uses them."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import httpx2
import pytest

from receiver import plugins
from receiver.config.settings import load_settings
from receiver.declared.files import read_text
from receiver.errors import Misconfigured
from receiver.models import Outcome
from receiver.ports import Provider, Sink
from receiver.runtime import Runtime, open_runtime
from receiver.testing.sinks import OpenSink, SinkContract, failure
from receiver.web.app import build_app
from tests.contracts.provider import ProviderContract
from tests.e2e.reader import reading, steps
from tests.support.manual import section
from tests.support.media_host import picture
from tests.support.messages import cloud_event
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, callback_path, caller

READING_SECONDS = 240.0
MOST_LINES = 40  # of code, as the heading says


def example(heading: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("extending", heading), re.DOTALL | re.MULTILINE)
    return str(code)


def module(name: str, heading: str) -> Any:
    made = ModuleType(name)
    exec(compile(example(heading), f"{name}.py", "exec"), made.__dict__)
    return made


SPOOL: type[Sink] = module("receiver_extras", "## A sink in 40 lines").SpoolSink
LUMEN: type[Provider] = module("receiver_lumen", "## A provider").Lumen


def test_the_sink_keeps_to_the_contract_in_a_project_of_its_own(tmp_path: Path) -> None:
    """With nothing of this repository but the package."""
    (tmp_path / "receiver_extras.py").write_text(example("## A sink in 40 lines"))
    (tmp_path / "test_spool.py").write_text(example("## Tests of your own"))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider"]

    ran = subprocess.run(
        [*command, "test_spool.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert f"{passed[1]} passed" in section("extending", "## Tests of your own")


class Spool:
    """A folder as a host."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def received(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.glob("*.json"))]


class TestSpoolSink(SinkContract):
    sink_class = SPOOL

    @pytest.fixture
    def host(self, tmp_path: Path) -> Spool:
        return Spool(tmp_path / "deep" / "folder", "spool:deep/folder")

    async def test_a_folder_that_cannot_be_made_is_unavailable(
        self, open_sink: OpenSink, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        assert await failure(open_sink("spool:file/folder")) is Outcome.STORAGE_FAILED

    def test_a_url_without_a_folder_names_the_setting(self, open_sink: OpenSink) -> None:
        with pytest.raises(Misconfigured, match="RECEIVER_SINK_MINE"):
            open_sink("spool:")


def test_the_sink_is_as_short_as_it_says() -> None:
    code = example("## A sink in 40 lines").partition("class SpoolSink:")[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES


SAMPLES: dict[str, dict[str, object]] = {
    "lumen-callback-finished-image": {"state": "done", "images": ["https://media.lumen.example/0.png"]},
    "lumen-callback-failed": {"state": "broken", "error": {"message": "too dark"}},
    "lumen-status-running": {"state": "drawing", "images": []},
}


class TestLumen(ProviderContract):
    provider: ClassVar[Provider] = LUMEN()
    task_ids_in_samples: ClassVar[frozenset[str]] = frozenset({"t"})

    @classmethod
    def samples(cls) -> dict[str, bytes]:
        return {name: json.dumps({"id": "t", **document}).encode() for name, document in SAMPLES.items()}

    def success(self, items: object) -> object:
        return {"id": "t", "state": "done", "images": items}

    def failure(self, error: object) -> object:
        return {"id": "t", "state": "broken", "error": error}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with both modules, registered as the manual says."""
    names = {"receiver_extras": "## A sink in 40 lines", "receiver_lumen": "## A provider"}
    for name, heading in names.items():
        (tmp_path / f"{name}.py").write_text(example(heading))
    (toml,) = re.findall(
        r"^```toml\n(.*?)^```$", section("extending", "## How a plug-in is found"), re.DOTALL | re.MULTILINE
    )
    points = re.sub(r'project\.entry-points\."(.*)"', r"\1", toml).replace('"', "")
    info = tmp_path / "receiver_extras-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: receiver-extras\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
async def runtime(installed: None, tmp_path: Path) -> AsyncIterator[Runtime]:
    environ = {
        "RECEIVER_DATA_DIR": str(tmp_path / "data"),
        "RECEIVER_SECRET": "a-secret-for-tests-only",
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        "RECEIVER_SINK_ARCHIVE": f"spool:{tmp_path}/spool",
        "LUMEN_FIRST_POLL_SECONDS": "100",
    }
    async with open_runtime(load_settings(environ)) as opened:
        yield opened


async def test_a_service_takes_the_providers_callback_and_tells_the_sink(
    runtime: Runtime, tmp_path: Path
) -> None:
    assert "lumen" in plugins.names("providers")
    async with caller(build_app(runtime), API_TOKEN) as backend:
        new = {"provider": "lumen", "owner": "u", "task_id": "t1"}
        assert (await backend.post("/submissions", json=new)).status_code == 201
        body = {"id": "t1", "state": "broken", "error": "too dark"}
        answer: httpx2.Response = await backend.post(callback_path(runtime, "lumen"), json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, "accepted")
        spool = Spool(tmp_path / "spool", "")
        (told,) = await until(spool.received)
    event = cloud_event(told)
    assert (event.get_type(), event.get_subject()) == ("task.failed", "lumen/t1")
    assert event.get_data()["error"]["message"] == "too dark"


# --- a provider in TOML ---------------------------------------------------------------------------

IN_TOML = "## A provider in 20 lines of TOML"


def declared() -> str:
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", section("extending", IN_TOML), re.DOTALL | re.MULTILINE)
    return str(toml)


def test_the_declared_provider_is_as_short_as_it_says() -> None:
    assert len([line for line in declared().splitlines() if line.strip()]) <= 20


class TestAurora(ProviderContract):
    provider: ClassVar[Provider] = read_text(declared(), "providers.toml")["aurora"]
    task_ids_in_samples: ClassVar[frozenset[str]] = frozenset({"t"})

    @classmethod
    def samples(cls) -> dict[str, bytes]:
        documents: dict[str, dict[str, object]] = {
            "aurora-callback-completed-image": {
                "status": "done",
                "images": [{"url": "https://m.test/0.png"}],
            },
            "aurora-callback-failed": {"status": "broken", "error": {"message": "too dark"}},
            "aurora-status-pending": {"status": "drawing"},
        }
        return {name: json.dumps({"task": {"id": "t", **task}}).encode() for name, task in documents.items()}

    def success(self, items: object) -> object:
        return {"task": {"id": "t", "status": "done", "images": items}}

    def failure(self, error: object) -> object:
        return {"task": {"id": "t", "status": "broken", "error": error}}


def test_a_newcomer_goes_from_the_file_to_the_image_by_the_manual_alone(tmp_path: Path) -> None:
    made_by_the_demo = tmp_path / "receiver-demo/run-1/data/assets/vidgo/task-1/0.jpg"
    made_by_the_demo.parent.mkdir(parents=True)
    made_by_the_demo.write_bytes(picture("JPEG", (320, 200)))
    with reading(tmp_path, READING_SECONDS) as reader:
        reader.save("receiver-demo/providers.toml", declared())
        for step in steps("extending", "### From the file to an image"):
            reader.follow(step)
