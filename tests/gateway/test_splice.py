"""Of an order's bytes only the named members change."""

import json

import pytest

from receiver.gateway.splice import NotAnOrder, read_document, splice

URL = "https://receiver.test/callbacks/vidgo/t"


def spliced(body: bytes, **changes: object) -> bytes:
    return splice(read_document(body), changes or {"callback_url": URL})


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{}", b'{"callback_url":"URL"}'),
        (b' { "a" : 1 } ', b' {"callback_url":"URL", "a" : 1 } '),
        (b'{"callback_url": null, "a": 1.0}', b'{"callback_url": "URL", "a": 1.0}'),
        (b'{"a":1e2,"callback_url" :"https://mine.test/x" }', b'{"a":1e2,"callback_url" :"URL" }'),
        (b'{"callback\\u005furl":"x"}', b'{"callback\\u005furl":"URL"}'),
        (b'{"callback_url":{"a":["}",{}]},"b":[]}', b'{"callback_url":"URL","b":[]}'),
        (b'{"callback_url":false}', b'{"callback_url":"URL"}'),
    ],
)
def test_a_member_is_replaced_where_it_stands_or_put_in_front(body: bytes, sent: bytes) -> None:
    assert spliced(body) == sent.replace(b"URL", URL.encode())


@pytest.mark.parametrize(
    "inside",
    [
        b'"seed": 1234567890123456789012345678901234567890',
        b'"strength": 1.0, "scale":1e2,  "x" :-0.0',
        b'"prompt": "caf\\u00e9 \\ud83d\\ude00 \\" } ] \\\\"',
        '"prompt": "café 😀"'.encode(),
        b'"half": "\\ud83d"',
        b'"input": {"callback_url": "https://elsewhere.test", "prompt": "\\"callback_url\\":\\"x\\""}',
        b'"image": "data:image/png;base64,' + b"QUJD" * 250_000 + b'"',
    ],
    ids=[
        "seed of 40 digits",
        "numbers",
        "escapes",
        "raw",
        "half a pair",
        "callback_url inside",
        "large image",
    ],
)
def test_trap_6_everything_else_stays_byte_for_byte(inside: bytes) -> None:
    body = b'{\n "model":"m",\t' + inside + b' , "z":[ ]}\n'
    assert spliced(body) == body.replace(b"{\n", b'{"callback_url":"%s",\n' % URL.encode(), 1)


def test_several_members_change_at_once() -> None:
    body = b'{"request_type":"async","a":1,"callback_url":null}'
    sent = spliced(body, request_type="callback", callback_url=URL)
    assert sent == b'{"request_type":"callback","a":1,"callback_url":"%s"}' % URL.encode()
    assert json.loads(spliced(b'{"a":1}', request_type="callback", callback_url=URL)) == {
        "a": 1,
        "request_type": "callback",
        "callback_url": URL,
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"input":{},"input":{}}',
        b'{"input":{"quality":"low","quality":"high"}}',
        b'{"callback_url":"a","call\\u0062ack_url":"b"}',
        b"[]",
        b"1",
        b"",
        b'{"a":1',
        b'{"a":NaN}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b"[" * 100_000,
        b'{"a":[' + b"1," * 60_000 + b"1]}",
    ],
)
def test_trap_6_what_two_parsers_could_read_as_two_orders_is_refused(body: bytes) -> None:
    with pytest.raises(NotAnOrder):
        read_document(body)


def test_a_refusal_names_no_value() -> None:
    with pytest.raises(NotAnOrder) as refused:
        read_document(b'{"a-secret-key":"a-secret-value","a-secret-key":1}')
    assert "secret" not in str(refused.value)
