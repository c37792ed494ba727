"""Plug-ins: found by name, imported when asked for, and missing drivers named with their extra."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from receiver import plugins
from receiver.errors import Misconfigured
from tests.support.own_providers import OWN


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a sink of its own, one that cannot be imported, and an impostor."""
    (tmp_path / "carrier_pigeon.py").write_text("class PigeonSink:\n    pass\n")
    info = tmp_path / "carrier_pigeon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-pigeon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[receiver.sinks]\n"
        "pigeon = carrier_pigeon:PigeonSink\n"
        "dodo = carrier_dodo:DodoSink\n"
        "jsonl = carrier_pigeon:PigeonSink\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "carrier_pigeon", raising=False)


def test_all_providers_load_under_their_own_names() -> None:
    providers = plugins.load_providers()
    assert list(providers)[:4] == ["vidgo", "apidot", "apixo", "reapi"]
    assert all(name == provider.facts.name for name, provider in providers.items())


def test_which_send_callbacks_is_known_without_importing_them() -> None:
    known = {name: plugins.sends_callbacks(name, OWN) for name in plugins.load_providers(OWN)}
    assert known == {name: each.facts.pushes for name, each in plugins.load_providers(OWN).items()}


START = """
import asyncio, sys
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import load_settings
from receiver.runtime import open_runtime

async def main():
    settings = ensure_credentials(load_settings())
    async with open_runtime(settings) as runtime:
        runtime.status_client.can_ask("vidgo")
        print(*imported(), len(runtime.providers))
        runtime.providers["luma"]
        print(*imported())

def imported():
    return sorted(name for name in sys.modules if name.startswith("receiver.providers."))

asyncio.run(main())
"""


def test_a_start_imports_only_the_providers_that_have_something_to_do(tmp_path: Path) -> None:
    environ = {**os.environ, "RECEIVER_DATA_DIR": str(tmp_path / "data"), "KIE_API_KEY": "k"}
    ran = subprocess.run(
        [sys.executable, "-c", START], env=environ, capture_output=True, text=True, check=True
    )
    at_the_start, then = (line for line in ran.stdout.splitlines() if line.startswith("receiver."))
    assert at_the_start == f"receiver.providers.kie {len(plugins.names('providers'))}"
    assert then == "receiver.providers.kie receiver.providers.luma"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("stores", "sqlite"),
        ("stores", "postgres"),
        ("stores", "postgresql"),
        ("blobs", "file"),
        ("sinks", "jsonl"),
        ("sinks", "http"),
        ("sinks", "https"),
        ("sinks", "redis"),
        ("sinks", "rediss"),
        ("sinks", "celery+redis"),
        ("sinks", "celery+rediss"),
        ("sinks", "celery+amqp"),
        ("sinks", "celery+amqps"),
        ("sinks", "rq+redis"),
        ("sinks", "rq+rediss"),
        ("sinks", "dramatiq+redis"),
        ("sinks", "dramatiq+rediss"),
        ("sinks", "taskiq+redis"),
        ("sinks", "taskiq+rediss"),
        ("sinks", "arq+redis"),
        ("sinks", "arq+rediss"),
        ("sinks", "amqp"),
        ("sinks", "amqps"),
        ("sinks", "nats"),
        ("sinks", "tls"),
        ("sinks", "sqs"),
        ("sinks", "kafka"),
    ],
)
def test_every_part_of_this_release_can_be_imported(kind: plugins.Kind, name: str) -> None:
    assert isinstance(plugins.load(kind, name), type)
    assert plugins.complaint(kind, name) is None


@pytest.mark.parametrize(
    ("scheme", "extra", "driver"),
    [
        ("rediss", "redis", "redis"),
        ("celery+redis", "redis", "redis"),
        ("nats", "nats", "nats"),
        ("tls", "nats", "nats"),
        ("amqp", "amqp", "aiormq"),
        ("sqs", "sqs", "botocore"),
        ("kafka", "kafka", "confluent_kafka"),
    ],
)
def test_a_missing_driver_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, scheme: str, extra: str, driver: str
) -> None:
    ours = rf"receiver\.sinks\.{extra}\b"
    for name in [name for name in sys.modules if re.match(ours, name)]:
        monkeypatch.delitem(sys.modules, name)
    for name in [driver, *(name for name in sys.modules if name.startswith(f"{driver}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(Misconfigured) as caught:
        plugins.load("sinks", scheme)
    assert caught.value.problems == (
        f"sink {scheme}://… needs the {extra} extra: pip install 'callback-receiver[{extra}]'",
    )


def test_public_keys_without_their_library_name_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "receiver.signing.ed25519", raising=False)
    for name in ("nacl", *(name for name in sys.modules if name.startswith("nacl."))):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(Misconfigured) as caught:
        plugins.load_public_key()
    assert caught.value.problems == (
        "a <PROVIDER>_WEBHOOK_KEYS_URL needs the ed25519 extra: pip install 'callback-receiver[ed25519]'",
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match=r"sink gopher://… is not known \(known: jsonl, http, https"):
        plugins.load("sinks", "gopher")
    assert plugins.complaint("providers", "nobody") == (
        f"provider nobody is not known (known: {', '.join(plugins.names('providers'))})"
    )


@pytest.mark.usefixtures("third_party")
def test_third_parties_add_parts_by_entry_points() -> None:
    assert plugins.load("sinks", "pigeon").__name__ == "PigeonSink"
    assert plugins.names("sinks")[-2:] == ["dodo", "pigeon"]


@pytest.mark.usefixtures("third_party")
def test_third_parties_cannot_take_over_a_name_of_ours() -> None:
    assert plugins.load("sinks", "jsonl").__name__ == "JsonlSink"
    assert plugins.names("sinks").count("jsonl") == 1


@pytest.mark.usefixtures("third_party")
def test_a_third_party_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(Misconfigured, match="sink dodo://… is registered by carrier_dodo:DodoSink"):
        plugins.load("sinks", "dodo")
