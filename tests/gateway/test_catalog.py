"""Catalogs of an operator's own: each replaces one by its name, and is told by line what is wrong in it."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from receiver.gateway.catalog import (
    Catalog,
    check_catalogs,
    load_catalogs,
    older_catalogs,
    read_catalog,
    shipped_path,
    shipped_providers,
)
from receiver.gateway.catalog.files import RULES
from receiver.gateway.quotes import quote_order
from receiver.health.checks import Check, State
from receiver.health.checks import check_catalogs as examine
from receiver.runtime import open_runtime
from tests.support.manual import CHAPTERS

QUALITIES = ("low", "medium", "high")
VIDGO = shipped_path("vidgo").read_text()


def written(folder: Path, text: str, name: str = "vidgo.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def settings_with(catalog: Path) -> Settings:
    return load_settings({"RECEIVER_GATEWAY": "true", "RECEIVER_GATEWAY_CATALOG": str(catalog)})


def test_each_provider_that_takes_orders_has_one() -> None:
    assert shipped_providers() == ["apidot", "apixo", "reapi", "vidgo"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_file_of_the_operators_replaces_one_and_leaves_the_others(tmp_path: Path, is_folder: bool) -> None:
    path = written(tmp_path, VIDGO.replace('"low 1K" = 2', '"low 1K" = "2.5"'))
    catalogs = load_catalogs(tmp_path if is_folder else path)
    assert catalogs["apidot"] == load_catalogs(None)["apidot"]
    vidgo = catalogs["vidgo"]
    price = quote_order(vidgo, vidgo.models["gpt-image-2"], {"input": {"prompt": "x"}}).price
    assert price is not None
    assert (price.credits, price.micros) == ("2.5", 12_500)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('as_of = "2026-11-28"', "as_of = 2026-13-01", "is no TOML"),
        ("[fields]", "[fields", "is no TOML"),
        ('as_of = "2026-11-28"', 'as_of = "yesterday"', "as_of must be the day of its prices"),
        ('as_of = "2026-11-28"', "", "as_of must be the day of its prices"),
        ('"low 4K" = 8', '"low 4K" = 8.0', "models.gpt-image-2.credits.low 4K must be a whole number, or"),
        ('"low 4K" = 8', '"low 4K" = -8', "models.gpt-image-2.credits.low 4K must be a whole number, or"),
        ('"low 4K" = 8', '"low 4K" = true', "models.gpt-image-2.credits.low 4K must be a whole number, or"),
        ('"low 4K" = 8', '"low 4K" = "0.0000001"', "must come to whole millionths of a dollar"),
        ('"low 4K" = 8', '"low 4K" = 8000000', "must come to whole millionths of a dollar"),
        ('"low 4K" = 8', '"low 8K" = 8', "must be of a quality, a size and a tier, each once: some of low"),
        ('"low 4K" = 8', "from = 8", "models.gpt-image-2.credits.from stands for all orders"),
        ('credit_usd = "0.005"', "", "models.gpt-image-2.credits needs credit_usd"),
        ('credit_usd = "0.005"', "credit_usd = 0.005", "credit_usd must be a whole number, or"),
        ('tiers = ["1K", "2K", "4K"]', 'tiers = ["1K", "2K"]', "tiers must be a list of 3 texts"),
        ('billed_by = "size"', 'billed_by = "sise"', "is 'sise': it is one of size, resolution, row"),
        ('billed_by = "size"', "", "billed_by is missing: it is one of size"),
        ('policy = "assumed"', 'policy = "none"', "refunds.policy is 'none': it is one of stated, assumed"),
        ("refs-url = {", "refs-ulr = {", "rules.refs-ulr is not a key; did you mean refs-url?"),
        ('\nn = { class = "H" }', '\nn = { class = "X" }', "rules.n.class is 'X': it is one of H, S, D"),
        (
            '\nn = { class = "H" }',
            '\nn = { class = "H", mots = 1 }',
            "rules.n.mots is not a key; did you mean most",
        ),
        ('\nn = { class = "H" }', '\nn = "H"', "rules.n must be a table"),
        (", most = 4000 }", " }", "rules.prompt-long needs most"),
        ("most = 4000 }", 'most = "4000" }', "rules.prompt-long.most must be a whole number"),
        ('default = "low"', 'default = "lwo"', "rules.quality.default must be one of one_of"),
        (
            'one_of = ["low", "medium", "high"]',
            'one_of = "low"',
            "rules.quality.one_of must be a list of texts",
        ),
        ('prompt = "input.prompt"', "", "fields needs prompt"),
        ('size = "input.size"', 'size = ""', "fields.size must be a text"),
        ("[fields]", "[feilds]", "feilds is not a key; did you mean fields?"),
        ("[models.gpt-image-2-edit]", "[models.gpt-image-3]", "models.gpt-image-2-edit is missing"),
    ],
)
def test_trap_13_what_is_wrong_in_a_catalog_stops_the_start_and_is_told_by_file_and_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = VIDGO.replace(old, new, 1)
    if new == "[models.gpt-image-3]":
        text = text.replace("[models.gpt-image-2-edit.", "[models.gpt-image-3.")
    path = written(tmp_path, text)
    with pytest.raises(Misconfigured) as caught:
        settings_with(path)
    (problem, *_) = [each for each in caught.value.problems if said in each]
    line = re.search(r"line (\d+)", problem)
    assert str(path) in problem
    assert line is not None
    if said != "is no TOML" and new:
        wanted = "[models" if "is missing" in said else new.partition("=")[0]
        assert (
            text.splitlines()[int(line[1]) - 1].strip().startswith((wanted.strip(), "prompt-long", "quality"))
        )


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    written(tmp_path, VIDGO.replace('"low 4K" = 8', '"low 4K" = 8.5').replace("refs-url", "refs-ulr"))
    written(tmp_path, "as_of = 1", "reapi.toml")
    written(tmp_path, VIDGO, "vidgoo.toml")
    problems = check_catalogs(tmp_path)
    assert len(problems) > 5
    assert any("vidgoo.toml is no catalog's name" in each for each in problems)


@pytest.mark.parametrize(("name", "said"), [("none.toml", "No such file"), (".", "has none of apidot.toml")])
def test_a_catalog_that_is_not_there_stops_the_start(tmp_path: Path, name: str, said: str) -> None:
    place = tmp_path if name == "." else tmp_path / "vidgo.toml"
    with pytest.raises(Misconfigured, match=said):
        settings_with(place)


def test_trap_13_an_older_catalog_is_told_in_one_sentence_and_holds(tmp_path: Path) -> None:
    path = written(tmp_path, VIDGO.replace('as_of = "2026-11-28"', 'as_of = "2026-11-01"'))
    catalogs = load_catalogs(path)
    (said,) = older_catalogs(catalogs)
    assert said == (
        f"{path} is of 2026-11-01, older than this release's own catalog of vidgo, which is of 2026-11-28"
    )
    assert catalogs["vidgo"].as_of.isoformat() == "2026-11-01"
    (check,) = examined(path, datetime(2026, 12, 1, tzinfo=UTC))
    assert (check.state, check.detail) == (State.WARN, said)


def examined(catalog: Path | None, now: datetime) -> list[Check]:
    environ = {"RECEIVER_GATEWAY": "true"}
    if catalog is not None:
        environ["RECEIVER_GATEWAY_CATALOG"] = str(catalog)
    return [*examine(load_settings(environ), now)]


def test_doctor_warns_of_catalogs_that_are_older_than_90_days() -> None:
    (young,) = examined(None, datetime(2027, 2, 26, tzinfo=UTC))
    assert young.state is State.OK
    (old,) = examined(None, datetime(2027, 2, 27, tzinfo=UTC))
    assert old.state is State.WARN
    assert "vidgo (2026-11-28)" in old.detail
    assert [*examine(load_settings({}), datetime(2030, 1, 1, tzinfo=UTC))] == []  # off is off


def test_a_model_without_prices_is_checked_all_the_same(tmp_path: Path) -> None:
    begin, end = VIDGO.index("[models.gpt-image-2.credits]"), VIDGO.index("[models.gpt-image-2-edit]")
    catalog = read_catalog(written(tmp_path, VIDGO[:begin] + VIDGO[end:]), "vidgo")
    quote = quote_order(catalog, catalog.models["gpt-image-2"], {"input": {"prompt": "x", "n": 1}})
    assert quote.price is None
    assert [each.name for each in quote.broken] == ["n"]


def test_the_manual_has_the_classes_and_prices_of_the_catalogs() -> None:
    catalogs = load_catalogs(None)
    columns = [
        [*catalogs["vidgo"].models.values()],
        [*catalogs["apidot"].models.values()],
        [*catalogs["apixo"].models.values()],
        [catalogs["reapi"].models["gpt-image-2"]],
        [catalogs["reapi"].models["gpt-image-2-official"]],
    ]
    section = CHAPTERS["gateway"].partition("## Rules and prices\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
    ]
    told = {row[0].strip("`"): row[1:6] for row in rows if row[0].startswith("`") and len(row) == 7}
    for name in RULES:
        for column, shown in zip(columns, told.pop(name), strict=True):
            classes = {model.rules[name].rule_class.value for model in column if name in model.rules}
            assert classes == ({shown} if shown != "-" else set()), name
    assert [*told] == ["type"]
    for provider, name in (("vidgo", "Vidgo"), ("apidot", "APIDot")):
        (amounts,) = [row[1:] for row in rows if row[0].startswith(name) and "credit" in row[0]]
        for model in catalogs[provider].models.values():
            prices = {(row.quality, row.tier): str(row.credits) for row in model.rows}
            assert amounts == [" / ".join(prices[each, tier] for tier in range(3)) for each in QUALITIES]


async def test_a_start_reads_each_catalog_once(
    web_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(path: Path, name: str) -> Catalog:
        read.append(name)
        return read_catalog(path, name)

    monkeypatch.setattr("receiver.gateway.catalog.files.read_catalog", noted)
    async with open_runtime(web_settings) as runtime:
        assert runtime.gateway is not None
    assert sorted(read) == shipped_providers()
