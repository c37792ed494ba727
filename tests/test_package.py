"""What `pip install` brings: a typed package under a name of its own, whose docstring says what is public."""

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import receiver
from receiver import manual, plugins
from tests.support.manual import CHAPTERS
from tests.support.places import ROOT

pytestmark = pytest.mark.slow  # builds and installs

CONSUMER = """
from receiver.errors import Unavailable
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.ports import Sink
from receiver.config.settings import Settings, load_settings
from receiver.web.app import create_app


class Nowhere:
    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> "Nowhere":
        return cls()

    async def publish(self, notification: Notification) -> None:
        raise Unavailable("nowhere to be had")

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...


sink: Sink = Nowhere()
settings: Settings = load_settings({})
app = create_app(settings)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_a_name_of_its_own_and_types_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.startswith("callback_receiver-")
    assert "receiver/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"receiver"}


def test_the_wheel_brings_every_chapter_of_the_manual(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        brought = {name for name in packed.namelist() if name.startswith("receiver/docs/")}
        chapters = {f"receiver/docs/{name}.md" for name in CHAPTERS}
        assert brought == chapters | {f"receiver/docs/pictures/{name}" for name in manual.pictures()}
        for name, text in CHAPTERS.items():
            assert packed.read(f"receiver/docs/{name}.md").decode() == text


def test_the_wheel_brings_the_catalogs_of_rules_and_prices(wheel: Path) -> None:
    shipped = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("receiver/gateway/catalog/*.toml")}
    assert len(shipped) == 4
    assert shipped <= set(zipfile.ZipFile(wheel).namelist())


def test_what_is_installed_shows_the_manual(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environ = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    shown = [
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environ, capture_output=True, check=True)
        for words in (
            ("-c", "import receiver; print(receiver.__file__)"),
            ("-m", "receiver", "docs", "walks"),
        )
    ]
    assert shown[0].stdout.decode().startswith(str(tmp_path))
    assert shown[1].stdout.decode() == CHAPTERS["walks"]


def test_who_imports_the_wheel_is_checked_by_its_types(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "consumer.py").write_text(CONSUMER)

    def checked() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(venv / "bin/python")]
        command += ["--config-file", "", "consumer.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = checked()
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "Success"), done.stdout
    (tmp_path / "consumer.py").write_text(CONSUMER.replace("load_settings({})", "load_settings(7)"))
    assert 'incompatible type "int"' in checked().stdout  # so the types were really looked at


def test_the_packages_docstring_names_what_is_there() -> None:
    assert receiver.__doc__ is not None
    named = re.findall(r"``(receiver(?:\.\w+)+)", receiver.__doc__)
    assert len(named) >= 8
    for name in named:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_nobody_is_told_to_install_a_strangers_package() -> None:
    code = (ROOT / "receiver").rglob("*")
    texts = [
        *ROOT.glob("*.md"),
        *(path for path in ROOT.glob("deploy/**/*") if path.is_file()),
        *(path for path in code if path.suffix in {".py", ".md"}),
    ]
    told = [
        (path.name, line)
        for path in texts
        for line in path.read_text().splitlines()
        if re.search(r"pip install( -\S+)* ['\"]?receiver\b", line)
    ]
    assert told == []
    with pytest.raises(Exception, match=r"pip install 'callback-receiver\[redis\]'"):
        _without_redis()


def _without_redis() -> None:
    here = re.compile(r"(receiver\.sinks\.)?redis\b")
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if here.match(name)}
    sys.modules["redis"] = None  # type: ignore[assignment]
    try:
        plugins.load("sinks", "redis")
    finally:
        sys.modules.pop("redis")
        sys.modules.update(saved)
