"""A file of providers: every mistake in it is told by file, line and key, with what is allowed there."""

from pathlib import Path

import pytest

from receiver.config.settings import load_settings
from receiver.declared.files import read_file, read_text
from receiver.declared.keys import KEYS
from receiver.errors import Misconfigured
from receiver.models import ReportState
from receiver.plugins import load_providers
from tests.support.own_providers import write_own

LEAST = """\
[lumen]
base_url = "https://api.lumen.example"
link_life_seconds = 3600
id = "id"
state = "state"
files = "images"
states = { completed = ["done"] }

[lumen.status]
path = "/tasks/{task_id}"
"""


def problems_of(text: str, taken: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as caught:
        read_text(text, "own.toml", taken)
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert old in LEAST
    return LEAST.replace(old, new)


def test_ten_lines_are_a_provider() -> None:
    lumen = read_text(LEAST, "own.toml")["lumen"]
    report = lumen.parse({"id": 7, "state": "done", "images": ["https://m.example/a.png"]})
    assert (report.task_id, report.state, len(report.files)) == ("7", ReportState.COMPLETED, 1)
    assert lumen.facts.title == "Lumen"
    assert lumen.facts.key_prefix == "Bearer "


SIGNED = LEAST + "[lumen.signature]\n"
LIFE = "line 3: lumen.link_life_seconds must be a whole number from 60 to 2592000, not "
STATUS_PATH = "line 10: lumen.status.path must be a path that begins with /, with {task_id} or {model} in it"
MISTAKES = (
    (changed("3600", '"1h"'), LIFE + "'1h'"),
    (changed("3600", "true"), LIFE + "true"),
    (changed("https://", "http://"), "line 2: lumen.base_url must be an https URL without user"),
    (changed('id = "id"', 'id = "data..id"'), "line 4: lumen.id must be a path such as data.task_id"),
    (changed('id = "id"', 'id = "$.id["'), "line 4: lumen.id must be a path such as"),
    (changed('state = "state"\n', ""), "line 1: lumen.state is missing: a path such as"),
    (changed('"images"', '{ at = "images", find = "all" }'), 'line 6: lumen.files must be "PATH", {at'),
    (changed('["done"]', "[]"), "line 7: lumen.states.completed must be a list of the provider's words"),
    (changed('["done"]', '["done"], failed = ["done"]'), "line 7: lumen.states.failed has 'done', which"),
    (changed("/tasks/{task_id}", "tasks"), STATUS_PATH),
    (changed("{task_id}", "{id}"), STATUS_PATH),
    (changed("/tasks/{task_id}", "/../{task_id}"), STATUS_PATH),
    (changed("/{task_id}", ""), "line 10: lumen.status.path must have {task_id} in it"),
    (LEAST + "speed = 3\n", "line 11: lumen.status.speed is not a key; there are status.path, status.query"),
    (LEAST + "paths = 3\n", "line 11: lumen.status.paths is not a key; did you mean path?"),
    (changed("files =", "file ="), "line 6: lumen.file is not a key; did you mean files?"),
    (
        SIGNED + "secret = 'x'\n",
        "line 12: lumen.signature.secret is not a key; no secret stands in this file",
    ),
    (changed("files =", 'api_key = "k"\nfiles ='), "no secret stands in this file: set LUMEN_API_KEY"),
    (LEAST.replace("lumen", "Lumen-1"), "line 1: Lumen-1 is no name"),
    (LEAST.replace("lumen", "receiver"), "line 1: receiver is no name for a provider"),
    (SIGNED + "header = 'x'\n", "line 11: lumen.signature.scheme is missing: one of hmac-sha256"),
    (SIGNED + "scheme = 'md5'\n", "line 12: lumen.signature.scheme must be one of hmac-sha256"),
    (SIGNED + "scheme = 'hmac-sha256'\n", "line 11: lumen.signature.header is missing"),
    (
        SIGNED + "scheme = 'standard-webhooks'\nheader = 'x'\n",
        "line 13: lumen.signature.header is of no use with standard-webhooks, which has no other key",
    ),
    (
        SIGNED + "scheme = 'hmac-sha256'\nheader = 'x'\ntimestamp = 't'\n",
        "line 14: lumen.signature.timestamp must be part of signature.message, as {t}: else it",
    ),
    (
        SIGNED + "scheme = 'hmac-sha256'\nheader = 'x'\nmessage = 'body'\n",
        "line 14: lumen.signature.message must be text with {body}",
    ),
    (
        SIGNED + "scheme = 'hmac-sha256'\nheader = 'x'\nfields = true\nprefix = 'v1'\n",
        "line 15: lumen.signature.prefix must be the field of the signatures, such as v1=, where fields is",
    ),
    (
        SIGNED + "scheme = 'ed25519'\nheader = 'x'\nfields = true\n",
        "line 14: lumen.signature.fields is of no use with ed25519",
    ),
    (changed("states =", "states = 3 #"), "line 7: lumen.states must be a table, not 3"),
    (
        changed("[lumen.status]", "[[lumen.status]]"),
        "line 9: lumen.status must be a table, not [{'path': '/tasks/{task_id}'}]: begin it with [lumen.",
    ),
    ("lumen = 3\n", "line 1: lumen stands in no table"),
    ("[[lumen]]\nid = 'x'\n", "line 1: lumen is no table but a list of them: begin it with [lumen], in"),
    (changed("[lumen]", "[lumen"), "(at line 1, column 7); write it as [NAME]"),
    (changed('"images"', "images"), "(at line 6, column 9); text stands in quotes"),
    (changed('"images"', '"images'), "(at line 6, column 16); is a quote not closed in this line?"),
    (changed('["done"]', '["done"'), "is a bracket not closed, or a comma missing?"),
    (
        changed("files =", 'state = "x"\nfiles ='),
        "is no TOML: cannot overwrite a value (at line 6, column 12)",
    ),
    (changed("files =", 'state = "x"\nfiles ='), "column 12); the key stands twice"),
    (LEAST + "[lumen.status]\n", "put all its keys under one heading"),
    (changed("files =", "files"), "write KEY = VALUE"),
    ("# nothing\n", "has no table: write one as [NAME]"),
)


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_a_mistake_is_told_by_its_line_and_key_with_what_is_allowed_there(text: str, problem: str) -> None:
    said = problems_of(text)
    assert any(problem in each for each in said), said
    assert all(each.startswith("own.toml") for each in said)


def test_all_mistakes_are_told_at_once() -> None:
    text = changed("3600", "1").replace("https:", "ftp:") + LEAST.replace("lumen", "nova").replace(
        "3600", "2"
    )
    assert [each.partition(":")[0] for each in problems_of(text)] == [
        "own.toml, line 2", "own.toml, line 3", "own.toml, line 13",
    ]  # fmt: skip


def test_a_name_of_this_release_is_taken_over_only_in_so_many_words() -> None:
    (said,) = problems_of(LEAST, ("lumen",))
    assert said.startswith("own.toml, line 1: lumen is a provider of this release already")
    assert said.endswith("give yours another name, or set replaces = true")
    assert read_text(changed("files", "replaces = true\nfiles"), "own.toml", ("lumen",))["lumen"]


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.toml cannot be read: No such file or directory"):
        read_file(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match=r"bytes\.toml, line 1: it is no text in UTF-8; save it as such"):
        read_file(tmp_path / "bytes.toml")


def test_a_file_may_begin_with_the_mark_that_editors_put_there(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(LEAST, encoding="utf-8-sig")
    assert list(read_file(tmp_path / "own.toml")) == ["lumen"]


def test_what_is_missing_in_a_table_that_is_none_is_told_once() -> None:
    assert len(problems_of(changed("[lumen.status]", "[[lumen.status]]"))) == 1


def test_every_key_has_words_and_a_meaning() -> None:
    assert len({key.name for key in KEYS}) == len(KEYS)
    assert all(key.words and key.help for key in KEYS)


# --- with the other settings ----------------------------------------------------------------------


def test_a_declared_provider_has_the_settings_of_any_other(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "RECEIVER_PROVIDERS": str(write_own(tmp_path)),
            "PRISM_API_KEY": "k",
            "PRISM_WEBHOOK_SECRET": "whsec_b25lIHNlY3JldCBvZiB0aGVpcnM=",
            "QUARTZ_WEBHOOK_KEYS_URL": "https://quartz.example/keys.json",
            "QUARTZ_BASE_URL": "https://eu.quartz.example",
            "RECEIVER_ASSET_HOSTS": "prism=cdn.prism.example",
            "RECEIVER_SINK_A": "jsonl:a.jsonl",
            "RECEIVER_SINK_A_FILTER": "provider=zinc",
        }
    )
    assert list(settings.own_providers) == ["prism", "quartz", "ember", "zinc", "coral"]
    assert settings.providers["prism"].api_key == "k"
    assert settings.providers["quartz"].base_url == "https://eu.quartz.example"
    facts = settings.own_providers["quartz"].facts
    assert settings.providers["quartz"].first_seconds(facts) == 20
    assert settings.providers["vidgo"].api_key is None


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("PRISM_WEBHOOK_SECRET", "not base64 at all", "PRISM_WEBHOOK_SECRET must be"),
        ("QUARTZ_WEBHOOK_SECRET", "x" * 16, "; set QUARTZ_WEBHOOK_KEYS_URL"),
        ("PRISM_KEY", "k", "did you mean PRISM_API_KEY?"),
    ],
)
def test_a_setting_that_does_not_suit_what_was_declared_is_refused(
    tmp_path: Path, variable: str, text: str, problem: str
) -> None:
    with pytest.raises(Misconfigured, match=problem):
        load_settings({"RECEIVER_PROVIDERS": str(write_own(tmp_path)), variable: text})


def test_the_file_can_stand_in_for_an_adapter_of_this_release(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(LEAST.replace("lumen", "vidgo").replace("files", "replaces = true\nfiles", 1))
    settings = load_settings({"RECEIVER_PROVIDERS": str(path)})
    providers = load_providers(settings.own_providers)
    assert providers["vidgo"].facts.base_url == "https://api.vidgo.example"
