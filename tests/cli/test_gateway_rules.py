"""`receiver gateway check` and `catalog`: the rules and the price of an order that is not sent, and whose."""

import json
import tomllib
from pathlib import Path

import pytest

from receiver.gateway.catalog import read_catalog, shipped_providers
from tests.support.cli_callers import run

pytestmark = pytest.mark.usefixtures("plain_environment")

ORDER = {
    "model": "gpt-image-2",
    "input": {"prompt": "a secret", "quality": "high", "resolution": "4K", "n": 1},
}


@pytest.fixture
def order(tmp_path: Path) -> str:
    path = tmp_path / "order.json"
    path.write_text(json.dumps(ORDER))
    return str(path)


def test_check_prints_the_rules_and_the_price_of_an_order(order: str) -> None:
    done = run("gateway", "check", "--provider", "vidgo", order)
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "price $0.06, 12 credits, as 1K; exact, as of 2026-11-28" in lines
    assert "n H `input.n` is not supported, whatever its value" in lines
    assert "secret" not in done.stdout
    document = json.loads(run("gateway", "check", "--provider", "vidgo", "--json", order).stdout)
    assert document["price"]["micros"] == 60_000
    assert [each["name"] for each in document["rules"]] == ["auto-is-1k", "n"]
    assert document["refused"] == []


def test_check_fails_where_the_gateway_would_not_send_the_order(order: str) -> None:
    done = run("gateway", "check", "--provider", "vidgo", order, RECEIVER_GATEWAY_CHECK="refuse")
    assert done.exit_code == 1
    assert done.stderr.strip() == "It is not sent, as RECEIVER_GATEWAY_CHECK=refuse has it: n."


def test_check_takes_the_model_of_the_path_and_says_what_it_does_not_know(order: str) -> None:
    command = ("gateway", "check", "--provider", "apixo", order)
    assert run(*command, "--model", "gpt-image-2").exit_code == 0
    unknown = run(*command, "--model", "flux-2")
    assert unknown.exit_code == 3
    assert "no rules and prices of flux-2 found" in unknown.stderr


def test_check_says_why_a_body_is_no_order(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"model": "gpt-image-2", "model": "gpt-image-2"}')
    done = run("gateway", "check", "--provider", "vidgo", str(path))
    assert (done.exit_code, "has a key twice" in done.stderr) == (2, True)
    path.write_text("{}")
    assert "--model" in run("gateway", "check", "--provider", "vidgo", str(path)).stderr


def test_catalog_lists_every_model_with_its_age_and_prints_files_to_begin_with(tmp_path: Path) -> None:
    rows = json.loads(run("gateway", "catalog", "--json").stdout)["models"]
    assert {row["provider"] for row in rows} == {"vidgo", "apidot", "apixo", "reapi"}
    assert {(row["as_of"], row["from"]) for row in rows} == {("2026-11-28", "this release")}
    assert "gpt-image-2-official" in run("gateway", "catalog").stdout
    for provider in shipped_providers():
        path = tmp_path / f"{provider}.toml"
        path.write_text(run("gateway", "catalog", "--file", provider).stdout)
        assert tomllib.loads(path.read_text())
    replaced = tmp_path / "vidgo.toml"
    listed = json.loads(run("gateway", "catalog", "--json", RECEIVER_GATEWAY_CATALOG=str(replaced)).stdout)
    assert {row["from"] for row in listed["models"] if row["provider"] == "vidgo"} == {str(replaced)}
    assert read_catalog(replaced, "vidgo").models


def test_a_wrong_catalog_is_exit_code_2_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "vidgo.toml"
    path.write_text(run("gateway", "catalog", "--file", "vidgo").stdout.replace("= 48", "= 48.5", 1))
    done = run("gateway", "catalog", RECEIVER_GATEWAY_CATALOG=str(path))
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert f"{path}, line 56: models.gpt-image-2.credits.high 4K must be a whole number" in done.stderr
