"""`receiver providers`: all of them in a list, and a sample as a file of one's own reads it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from receiver import plugins
from tests.support.cli_callers import run
from tests.support.own_providers import LINK, SAMPLES, coral, prism, write_own
from tests.support.signatures import SECRET, standard


def listed(**environ: str) -> dict[str, dict[str, Any]]:
    rows = json.loads(run("providers", "list", "--json", **environ).stdout)["providers"]
    return {row["name"]: row for row in rows}


def test_the_list_says_of_each_where_it_is_from_what_proves_a_callback_and_who_is_asked(
    tmp_path: Path,
) -> None:
    path = str(write_own(tmp_path))
    found = listed(RECEIVER_PROVIDERS=path, FAL_API_KEY="k", EMBER_WEBHOOK_SECRET="an-example-of-one")
    assert list(found) == [*plugins.names("providers"), "prism", "quartz", "ember", "zinc", "coral"]
    assert found["vidgo"]["from"] == "code"
    assert found["bfl"]["from"] == "TOML"
    assert found["ember"]["from"] == path
    assert (found["fal"]["asked"], found["kie"]["asked"]) == (True, False)
    assert (found["quartz"]["proof"], found["quartz"]["checked"]) == (["url", "public keys"], False)
    assert (found["ember"]["proof"], found["ember"]["checked"]) == (["url", "secret"], True)
    assert run("providers").stdout.splitlines()[0].split() == [
        "name",
        "title",
        "from",
        "proof",
        "checked",
        "asked",
    ]


class Checked:
    """A sample in a folder, and the command on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = str(write_own(folder))

    def run(
        self, provider: str, document: object, headers: dict[str, str] | None = None, **environ: str
    ) -> tuple[dict[str, Any], int]:
        (self.folder / "sample.json").write_text(json.dumps(document))
        command = ["providers", "check", self.file, "--sample", str(self.folder / "sample.json")]
        if headers is not None:
            path = self.folder / "headers.txt"
            path.write_text(
                "POST / HTTP/1.1\n" + "".join(f"{name}: {text}\n" for name, text in headers.items())
            )
            command += ["--headers", str(path)]
        result = run(*command, "--provider", provider, "--json", **environ)
        return json.loads(result.stdout), result.exit_code


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    return Checked(tmp_path)


def test_what_a_sample_says_is_shown(checked: Checked) -> None:
    answer, code = checked.run("quartz", SAMPLES["quartz"]["quartz-callback-completed-image"])
    assert code == 0
    assert (answer["task_id"], answer["state"], answer["provider_state"]) == ("t", "completed", "200")
    assert [file["kind"] for file in answer["files"]] == ["image"]
    assert answer["asked_at"] == "GET https://quartz.example/api/jobs?id=t"
    assert answer["missing"] == []
    assert answer["signature"]["detail"] == "set QUARTZ_WEBHOOK_KEYS_URL, and give --headers"


def test_a_failure_shows_its_words(checked: Checked) -> None:
    answer, code = checked.run("quartz", SAMPLES["quartz"]["quartz-callback-failed"])
    assert (code, answer["error"]) == (0, {"code": "12", "message": "too dark"})


@pytest.mark.parametrize(
    ("document", "missing"),
    [
        (
            {"task": {"uid": 1}},
            {"id": "nothing at job; at the top there are task", "state": "nothing at code"},
        ),
        (
            {"job": "t", "code": 201},
            {"states": "the word '201' stands in none of its lists: add it to states.progress, "},
        ),
        (
            [{"job": "t"}],
            {"id": "nothing at job; at the top there is an array: [] behind it is", "state": "an array"},
        ),
        ({}, {"id": "nothing at job; at the top there is an empty object", "state": "at code"}),
        (
            {"job": "t", "code": 200, "url": "x"},
            {"files": "nothing at picture; at the top there are job, code"},
        ),
        ({"job": "t", "code": 200, "picture": 5}, {"files": "what is at picture is not it: there is no"}),
        (
            {"job": [], "code": 200, "picture": "https://m.test/a"},
            {"id": "what is at job is not it: it is no"},
        ),
        ({"job": "t", "code": 500}, {"error": "nothing at why; at the top there are job, code; nothing at"}),
    ],
)
def test_what_is_missing_is_named_with_what_stands_there_instead(
    checked: Checked, document: object, missing: dict[str, str]
) -> None:
    answer, code = checked.run("quartz", document)
    said = {gap["key"]: gap["detail"] for gap in answer["missing"]}
    assert said.keys() == missing.keys()
    assert all(words in said[key] for key, words in missing.items()), said
    assert code == (0 if answer["state"] == "failed" else 1)


def test_a_signature_is_right_or_it_is_said_why_not(checked: Checked) -> None:
    document, now = SAMPLES["zinc"]["zinc-callback-completed-image"], str(int(time.time()))
    for signed, state in ((json.dumps(document).encode(), "right"), (b"another", "wrong")):
        headers = dict(standard(signed, moment=now))
        answer, code = checked.run("zinc", document, headers, ZINC_WEBHOOK_SECRET=SECRET)
        assert (code, answer["signature"]["state"]) == (1 if state == "wrong" else 0, state)


@pytest.mark.parametrize(
    ("headers", "why"),
    [({}, "there is no header authorization"), ({"Authorization": "Bearer x"}, "has not the secret")],
)
def test_it_is_said_what_a_secret_in_clear_lacks_and_not_what_it_is(
    checked: Checked, headers: dict[str, str], why: str
) -> None:
    document = SAMPLES["ember"]["ember-callback-failed"]
    answer, code = checked.run("ember", document, headers, EMBER_WEBHOOK_SECRET=SECRET)
    assert (code, answer["signature"]["state"]) == (1, "wrong")
    assert why in answer["signature"]["detail"]
    assert SECRET not in json.dumps(answer)


def test_a_recorded_callback_whose_time_is_over_is_told_apart_from_a_wrong_secret(checked: Checked) -> None:
    document = SAMPLES["prism"]["prism-callback-completed-multi-image"]
    headers = prism(json.dumps(document).encode())
    answer, code = checked.run("prism", document, headers, PRISM_WEBHOOK_SECRET=SECRET)
    assert (code, answer["signature"]["state"]) == (1, "old")
    why = "right, but for its time: x-prism-time is no time within 60 s of now"
    assert answer["signature"]["detail"] == why


def test_a_file_in_the_sample_is_told_by_its_size_and_a_time_among_fields_is_read(checked: Checked) -> None:
    document = SAMPLES["coral"]["coral-status-completed-multi-image"]
    headers = coral(json.dumps(document).encode())
    answer, code = checked.run("coral", document, headers, CORAL_WEBHOOK_SECRET=SECRET)
    assert [each["url"] for each in answer["files"]] == ["data:;base64,… (12 characters)", LINK]
    assert (code, answer["signature"]["state"]) == (1, "old")


def test_a_file_with_mistakes_exits_2_and_names_line_and_key(tmp_path: Path) -> None:
    path, sample = write_own(tmp_path), tmp_path / "sample.json"
    sample.write_text("{}")
    path.write_text(path.read_text().replace("link_life_seconds = 3600", "link_life_seconds = 1"))
    result = run("providers", "check", str(path), "--sample", str(sample))
    assert result.exit_code == 2
    assert f"{path}, line 4: prism.link_life_seconds must be a whole number" in " ".join(
        result.stderr.split()
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty; keep"),
        (
            b'{"job": "t",\n "code": }',
            "it is no JSON (line 2, column 10: expecting value), and no form either",
        ),
        (b'{"job": "\xff"}', "it is no JSON (byte 10 is not UTF-8)"),
        (b"some words", "it is no JSON (line 1, column 1: expecting value), and no form either; keep a"),
    ],
)
def test_a_sample_that_cannot_be_read_is_told_by_its_place(checked: Checked, body: bytes, words: str) -> None:
    sample = checked.folder / "broken.json"
    sample.write_bytes(body)
    result = run("providers", "check", str(checked.file), "--provider", "quartz", "--sample", str(sample))
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert said.startswith(f"receiver: {sample} cannot be read: ")
    assert words in said


def test_of_several_tables_one_is_to_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text("{}")
    command = ["providers", "check", str(write_own(tmp_path)), "--sample", str(tmp_path / "sample.json")]
    for more in ([], ["--provider", "vidgo"]):
        result = run(*command, *more)
        assert result.exit_code == 2
        assert "prism, quartz, ember, zinc, coral" in result.stderr
