"""Bodies of callbacks as forms: what is read out of them, and what is not taken for one."""

import contextlib
import json
import time
from urllib.parse import quote_plus, urlencode

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import forms
from receiver.errors import Rejected

TASK = {"data": {"task_id": "t1", "status": "finished", "files": [{"file_url": "https://m.test/a.png"}]}}
TEXT = json.dumps(TASK)


def multipart(*parts: tuple[str, bytes], boundary: str = "XyZ") -> bytes:
    """A multipart body of parts, each its head and its content."""
    inner = b"".join(
        b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), head.encode(), content) for head, content in parts
    )
    return inner + b"--%b--\r\n" % boundary.encode()


def field(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


def test_json_is_read_as_ever() -> None:
    assert forms.decode(TEXT.encode()) == TASK


def test_what_a_check_looked_into_is_not_read_twice_and_is_nobody_elses() -> None:
    body, equal = TEXT.encode(), TEXT.encode()
    document = forms.peek(body)
    assert forms.decode(body) is document
    assert forms.decode(body) is not document  # it was handed over once, and is not held any longer
    document = forms.peek(body)
    other = forms.decode(equal)
    assert other == document
    assert other is not document
    assert forms.decode(b'{"id": 1}') == {"id": 1}


def test_a_form_is_an_object_of_its_fields() -> None:
    body = urlencode({"task_id": "t 1/ä", "status": "finished", "files": '["https://m.test/a.png?b=c&d"]'})
    assert forms.decode(body.encode()) == {
        "task_id": "t 1/ä",
        "status": "finished",
        "files": ["https://m.test/a.png?b=c&d"],
    }


def test_a_field_called_payload_is_the_document() -> None:
    assert forms.decode(f"payload={quote_plus(TEXT)}".encode()) == TASK
    assert forms.decode(f"token=x&payload={quote_plus(TEXT)}\r\n".encode()) == TASK


def test_numbers_stay_as_they_are_spelled_and_repeats_are_a_list() -> None:
    assert forms.decode(b"id=007&url=a&url=b&note=") == {"id": "007", "url": ["a", "b"], "note": ""}


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8"])
def test_the_one_object_among_the_parts_is_the_document(kind: str) -> None:
    body = multipart(
        (field("meta"), b"1"),
        (field("result", f"\r\nContent-Type: {kind}"), TEXT.encode()),
        (field("image", '; filename="a.png"\r\nContent-Type: image/png'), b"\x89PNG\r\n\x1a\n\xff\x00"),
    )
    assert forms.decode(body) == TASK


def test_a_part_of_json_counts_though_it_is_sent_as_a_file_or_without_a_name() -> None:
    for head in (field("json", '; filename="result.json"'), "Content-Type: application/json"):
        assert forms.decode(multipart((head, TEXT.encode()))) == TASK


def test_parts_of_text_are_fields_and_files_are_none() -> None:
    body = multipart(
        (field("task_id"), b"t1"), (field("status"), b"failed"), (field("f", '; filename="a"'), b"x")
    )
    assert forms.decode(body) == {"task_id": "t1", "status": "failed"}


def test_what_another_implementation_makes_is_read() -> None:
    sent = httpx2.Request("POST", "http://x.test", data={"payload": TEXT}, files={"image": b"\x89PNG\xff"})
    sent.read()
    assert forms.decode(sent.content) == TASK
    plain = httpx2.Request("POST", "http://x.test", data={"task_id": "t1", "words": "a b+c%&="})
    assert forms.decode(plain.content) == {"task_id": "t1", "words": "a b+c%&="}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"a b=c",
        b"<a>=1",
        b"=1",
        b"a=1&&b=2",
        b"a=\x00",
        b"a=%ff",
        b'"a"=1',
        b"--",
        b"--x",
        b"--x\r\n--x--",
        multipart((field("a"), b"1"))[:-4],
        multipart((field("a"), b"1")).replace(b"\r\n", b"\n"),
        multipart((field("a", '; filename="a.png"'), b"\x89PNG")),
        multipart(*[(field("a"), b"1")] * (forms.MOST_FIELDS + 1)),
        b"&".join([b"a=1"] * (forms.MOST_FIELDS + 1)),
        b"a=" + b"x" * forms.MOST_FORM_BYTES,
    ],
)
def test_what_does_not_look_like_a_form_is_none(body: bytes) -> None:
    with pytest.raises(Rejected):
        forms.decode(body)


def test_fields_that_have_too_many_values_together_stay_texts() -> None:
    many = b"[" + b"1," * 20_000 + b"1]"
    few = b"[1]"
    read = forms.decode(multipart((field("a"), few), (field("b"), many), (field("c"), many)))
    assert isinstance(read, dict)
    assert (read["a"], len(read["b"])) == ([1], 20_001)
    all_texts = forms.decode(multipart((field("a"), few), *[(field("b"), many)] * 3))
    assert all_texts == {"a": few.decode(), "b": [many.decode()] * 3}


def test_a_field_that_has_too_many_values_by_itself_keeps_no_other_from_being_read() -> None:
    wide = b"[" + b"1," * 60_000 + b"1]"
    assert forms.decode(multipart((field("payload"), b'{"a": 1}'), (field("b"), wide))) == {"a": 1}


def test_the_dearest_form_costs_little() -> None:
    started = time.process_time()
    assert forms.decode(b"payload=" + b"%5b" * (forms.MOST_FORM_BYTES // 3 - 10))
    assert forms.decode(multipart(*[(field("a"), b"[" * 10_000)] * forms.MOST_FIELDS))
    assert time.process_time() - started < 0.5


@given(
    st.binary() | st.from_regex(rb"(--a\r\n)?([a=&%\[\]{}\"\r\n;-]|name=\"a\"|\r\n--a(--)?)*", fullmatch=True)
)
def test_no_body_crashes_it(body: bytes) -> None:
    with contextlib.suppress(Rejected):
        forms.decode(body)
