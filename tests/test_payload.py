"""Reading JSON that nobody vouches for."""

import tracemalloc
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import payload
from receiver.errors import Rejected
from receiver.models import RemoteFile, ReportState
from receiver.payload import ErrorWords
from receiver.problem_types import ProblemType
from receiver.urls import path_part

STATES = {"running": ReportState.PROGRESS, "finished": ReportState.COMPLETED, "failed": ReportState.FAILED}
PICTURE = RemoteFile(url="https://media.example/1.png", kind="image")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"a": 1} and more',
        b'{"a": 1',
        b"NaN",
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_json_is_rejected_with_400(body: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        payload.decode(body)
    assert caught.value.kind is ProblemType.NOT_JSON


def test_a_rejection_repeats_nothing_of_the_body() -> None:
    with pytest.raises(Rejected) as caught:
        payload.decode(b"secret-prompt")
    assert "secret-prompt" not in str(caught.value)


@given(st.binary())
def test_decoding_any_bytes_gives_a_value_or_a_rejection(body: bytes) -> None:
    with suppress(Rejected):
        payload.decode(body)


def test_json_of_every_kind_is_decoded_but_fractions_so_long_that_nobody_asks_for_them() -> None:
    found = {"a": [1, Decimal("2.5"), "x", None, True]}
    assert payload.decode(b'{"a": [1, 2.5, "x", null, true]}') == found
    assert payload.decode(b"[2.%s, 1e99999999999999999999]" % (b"5" * 30)) == [None, None]
    assert payload.decode(b"[]") == []
    assert payload.decode(b"null") is None


@pytest.mark.parametrize(
    "body",
    [
        b"1e999",
        b'{"x": 1e999, "id": 7}',
        b'{"x": "\\ud800", "id": 7}',
        b'{"id": 7, "x": %s}' % (b"1" * 100_000),
    ],
    ids=["alone", "beyond", "surrogate", "digits"],
)
def test_json_that_python_cannot_hold_is_json_all_the_same(body: bytes) -> None:
    found = payload.mapping(payload.decode(body))
    assert not found or payload.task_id(found["id"]) == "7"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000 + b"]" * 50_000,
        b"[%s]" % b",".join([b"1"] * 60_000),
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    ],
    ids=["deep", "wide", "deep objects"],
)
def test_what_is_too_deep_or_too_wide_is_not_read_and_yet_not_refused(body: bytes) -> None:
    assert payload.decode(body) is None
    assert payload.embedded(body.decode()) is None


@pytest.mark.parametrize("escape", [r"\u002c", r"\u002C"])
def test_values_in_texts_count_too_however_they_are_written(escape: str) -> None:
    text = escape.join(["1"] * 1000).encode()
    few, many = (b"[%s]" % b",".join([b'"[%s]"' % text] * count) for count in (40, 60))

    assert len(payload.items(payload.decode(few))) == 40
    assert payload.decode(many) is None


def test_a_long_text_with_many_escapes_is_read() -> None:
    assert payload.decode(b'["%s"]' % (rb"\u00e9" * 50_000)) == ["é" * 50_000]


@pytest.mark.parametrize("broken", ["", "{", "[" * 100_000, "\ud800", '{"a": NaN}'])
def test_broken_json_inside_text_reads_as_nothing(broken: str) -> None:
    assert payload.embedded(broken) is None


def test_json_inside_text_is_decoded_and_an_object_in_its_place_is_taken_as_it_is() -> None:
    assert payload.embedded('{"a": 1}') == {"a": 1}
    assert payload.embedded({"a": 1}) == {"a": 1}


@pytest.mark.parametrize("value", [None, 0, 1.5, True, "text", [], ["a"]])
def test_what_is_no_object_reads_as_an_empty_one(value: object) -> None:
    assert payload.mapping(value) == {}


@pytest.mark.parametrize("value", [None, 0, True, "text", {"a": 1}])
def test_what_is_no_array_reads_as_an_empty_one(value: object) -> None:
    assert list(payload.items(value)) == []


def test_text_that_no_database_could_keep_is_repaired() -> None:
    assert payload.text("a\x00b\ud800c") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


def test_text_is_cut_and_blank_text_says_nothing() -> None:
    assert payload.text("x" * 10_000, 7) == "xxxxxxx"
    assert payload.text(" \n") is None
    assert payload.text(5) is None


@pytest.mark.parametrize(
    ("given_id", "read"),
    [
        ("task-unified-1757165031-uyujaw3d", "task-unified-1757165031-uyujaw3d"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("задача 1", "задача 1"),
        ("x" * 512, "x" * 512),
        (12345, "12345"),
        (0, "0"),
    ],
)
def test_text_and_whole_numbers_name_tasks(given_id: object, read: str) -> None:
    assert payload.task_id(given_id) == read


@pytest.mark.parametrize(
    "given_id",
    [
        "",
        "x" * 513,
        "a\x00b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "\ud800",
        None,
        True,
        1.5,
        ["a"],
        {"a": 1},
    ],
)
def test_what_cannot_name_a_task_is_no_task_id(given_id: object) -> None:
    assert payload.task_id(given_id) is None


def test_an_error_code_may_be_a_number_or_a_word() -> None:
    assert payload.code(80006) == "80006"
    assert payload.code("CONTENT_VIOLATION") == "CONTENT_VIOLATION"
    assert payload.code({"code": 1}) is None


def test_a_number_too_long_to_be_printed_is_neither_id_nor_code() -> None:
    assert payload.task_id(10**5000) is None
    assert payload.code(-(10**5000)) is None


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://cdn.example/a.JPG", "image"),
        ("https://cdn.example/a.mp4?signature=x.png", "video"),
        ("https://cdn.example/a.wav#b.png", "audio"),
        ("https://cdn.example/a.glb", "model"),
        ("https://cdn.example/a", "unknown"),
        ("http://[", "unknown"),
    ],
)
def test_a_link_without_a_kind_gets_one_from_its_extension(url: str, kind: str) -> None:
    assert payload.remote_file(url) == RemoteFile(url=url, kind=kind)


def test_the_providers_own_word_for_a_kind_passes_through() -> None:
    file = payload.remote_file("https://cdn.example/a.png", "hologram")
    assert file is not None
    assert file.kind == "hologram"


def test_a_long_link_is_never_cut() -> None:
    url = f"https://cdn.example/{'x' * 20_000}.png"
    assert payload.remote_file(url) == RemoteFile(url=url, kind="image")


def test_white_space_around_a_link_is_no_part_of_it() -> None:
    link = "https://cdn.example/a.png"
    for written in (f" {link}", f"{link}\r\n", f"\t\n {link} \f"):
        assert payload.remote_file(written) == RemoteFile(url=link, kind="image")
        assert payload.links([written]) == [link]
    assert payload.remote_file(" \n") is None


def test_links_are_found_in_the_order_of_the_document() -> None:
    document = {"b": "https://x/1", "a": [{"c": "https://x/2"}, "no link", "http://x/3"], "d": "https://x/4"}
    assert payload.links(document) == ["https://x/1", "https://x/2", "http://x/3", "https://x/4"]


def test_files_are_found_by_how_a_result_names_them_and_words_of_the_order_are_not() -> None:
    result = {
        "prompt": "https://media.example/of-the-order.png",
        "image": {"url": "https://media.example/1.png", "content_type": "image/png"},
        "video_url": "https://media.example/2.mp4",
        "works": [{"resource": {"file_url": "https://media.example/3.png"}}, "https://media.example/4.png"],
        "none_url": "",
    }
    assert [file.url[-5] for file in payload.named_files(result)] == ["1", "2", "3", "4"]


def test_files_in_a_deep_and_wide_result_are_found_at_a_bounded_price() -> None:
    result = payload.decode(b"[" * 900 + b",".join([b'"x"'] * 40_000) + b"]" * 900)
    tracemalloc.start()
    try:
        assert list(payload.named_files(result)) == []
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_file_in_the_document_is_found_wherever_a_link_would_be() -> None:
    inside = "data:image/webp;base64,UklGRg=="
    image = RemoteFile(url=inside, kind="image")
    assert payload.links({"output": [inside, "data:text/plain,hello"]}) == [inside]
    assert list(payload.named_files({"images": [{"url": inside}], "mask_url": inside})) == [image, image]
    assert payload.file_of(inside) == payload.file_of({"url": inside}) == image
    film = payload.remote_file("DATA:video/mp4;base64,AAAA")
    assert film is not None
    assert film.kind == "video"


def test_links_are_found_below_any_depth() -> None:
    deep: object = "https://x/1"
    for _ in range(10_000):
        deep = [deep]
    assert payload.links(deep) == ["https://x/1"]


@pytest.mark.parametrize(
    ("item", "kind", "expected"),
    [
        ("https://x/1.png", None, RemoteFile(url="https://x/1.png", kind="image")),
        ({"url": "https://x/1.png"}, None, RemoteFile(url="https://x/1.png", kind="image")),
        (
            {"file_url": "https://x/1", "file_type": "video"},
            None,
            RemoteFile(url="https://x/1", kind="video"),
        ),
        ({"file_url": None, "url": "https://x/1"}, "audio", RemoteFile(url="https://x/1", kind="audio")),
        ({"link": "https://x/1"}, None, None),
        (None, None, None),
    ],
)
def test_an_item_names_its_file_by_text_or_as_an_object(
    item: object, kind: str | None, expected: RemoteFile | None
) -> None:
    assert payload.file_of(item, kind) == expected


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("it broke", None, "it broke"),
        ({"message": "no", "type": "invalid_request_error"}, "invalid_request_error", "no"),
        ({"message": "no", "code": 80006, "type": "other"}, "80006", "no"),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_an_error_is_text_or_an_object(error: object, code: str | None, message: str | None) -> None:
    assert payload.error_of(error) == ErrorWords(code=code, message=message)
    said = ErrorWords(code="7", message="first")
    assert payload.error_of(error, number=7, message="first") == said


@pytest.mark.parametrize("place", [None, "", [], {}, {"image_urls": [], "tracks": None}])
def test_a_success_that_names_nothing_is_completed_without_files(place: object) -> None:
    report = payload.build_report(task_id="t", word="finished", states=STATES, named=[None, place])
    assert (report.state, report.files, report.is_fileless) == (ReportState.COMPLETED, (), False)


@pytest.mark.parametrize("place", [[None], [{}], "later", {"image_urls": [None]}, {"a": {"b": 1}}, 0])
def test_a_success_that_names_something_else_than_links_is_unclear(place: object) -> None:
    report = payload.build_report(task_id="t", word="finished", states=STATES, named=[place])
    assert (report.state, report.note) == (ReportState.UNCLEAR, "success without readable result links")
    fileless = payload.build_report(
        task_id="t", word="finished", states=STATES, named=[place], is_fileless=lambda _: True
    )
    assert (fileless.state, fileless.is_fileless) == (ReportState.COMPLETED, True)
    failure = payload.build_report(
        task_id="t", word="failed", states=STATES, named=[place], is_fileless=lambda _: True
    )
    assert (failure.state, failure.is_fileless) == (ReportState.FAILED, False)


def test_a_known_end_is_concluded_with_its_files_each_once() -> None:
    report = payload.build_report(
        task_id="t",
        word="finished",
        states=STATES,
        files=[PICTURE, None, PICTURE],
        error=ErrorWords(message="stale"),
    )
    assert (report.state, report.files, report.error_message) == (ReportState.COMPLETED, (PICTURE,), None)


def test_a_failure_has_its_words_and_no_files() -> None:
    report = payload.build_report(
        task_id="t", word="failed", states=STATES, files=[PICTURE], error=ErrorWords(code="7", message="bad")
    )
    assert (report.state, report.files) == (ReportState.FAILED, ())
    assert (report.error_code, report.error_message) == ("7", "bad")


def test_words_of_a_failure_are_looked_for_where_one_is() -> None:
    asked: list[str] = []

    def words() -> ErrorWords:
        asked.append("asked")
        return ErrorWords(code="7", message="bad")

    for word, expected in (("done", None), ("failed", "7")):
        report = payload.build_report(
            task_id="t", word=word, states=STATES, files=[PICTURE], named=[PICTURE.url], error=words
        )
        assert report.error_code == expected
    assert asked == ["asked"]


@pytest.mark.parametrize("word", ["FINISHED", "succeeded", "cancelled"])
def test_an_unknown_state_is_unclear_and_never_a_failure(word: str) -> None:
    report = payload.build_report(task_id="t", word=word, states=STATES)
    assert (report.task_id, report.state, report.provider_state) == ("t", ReportState.UNCLEAR, word)
    assert report.note == "unknown state"


def test_a_missing_state_or_id_is_unclear_with_a_note() -> None:
    assert payload.build_report(task_id="t", word=None, states=STATES).note == "no state"
    nameless = payload.build_report(task_id=None, word="finished", states=STATES, files=[PICTURE])
    assert (nameless.state, nameless.note) == (ReportState.UNCLEAR, "no usable task id")


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("task_1", "task_1"),
        ("a/b?c#d%", "a%2Fb%3Fc%23d%25"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("a.b", "a.b"),
    ],
)
def test_no_task_id_can_leave_its_place_in_a_path(value: str, segment: str) -> None:
    assert path_part(value) == segment


def test_no_more_files_are_read_than_it_takes_to_find_them_too_many() -> None:
    files = (payload.remote_file(f"https://cdn.test/{number}") for number in range(50_000))
    states = {"done": ReportState.COMPLETED}

    report = payload.build_report(task_id="t1", word="done", states=states, files=files)

    assert len(report.files) == payload.MOST_FILES + 1
    assert next(files) == payload.remote_file(f"https://cdn.test/{payload.MOST_FILES + 1}")
