"""Bodies as no provider sends them, each with the answers that the contract allows.

Every one comes with a right token to the door of its provider: whoever sends it is the provider, or has
its URL. Each names a task of its own, so that one cannot be the repeat of another.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from receiver import plugins
from receiver.testing import sample_callback
from tests.support.own_providers import SAMPLES

PROVIDERS = tuple(plugins.names("providers"))
MEGABYTE = 10**6

Way = tuple[str | int, ...]

EARLY = frozenset({"early"})
PROGRESS = frozenset({"progress"})
UNRECOGNISED = frozenset({"unrecognised"})
NOT_JSON = UNRECOGNISED  # kept raw, for its sender is authentic
TOO_LARGE = frozenset({"413"})
UNDERSTOOD_OR_NOT = EARLY | PROGRESS | UNRECOGNISED


class HostileBody(NamedTuple):
    """``answers``: the ``status`` of a 200, or the number of a refusal."""

    name: str
    provider: str
    body: bytes
    answers: frozenset[str]


# Where each provider keeps the id and the state of a task.
TASK: Mapping[str, Way] = {
    "vidgo": ("data", "task_id"),
    "apidot": ("data", "task_id"),
    "apixo": ("data", "taskId"),
    "reapi": ("id",),
    "replicate": ("id",),
    "fal": ("request_id",),
    "kie": ("data", "taskId"),
    "wavespeed": ("id",),
    "bfl": ("id",),
    "ideogram": ("generation_id",),
    "piapi": ("data", "task_id"),
    "leonardo": ("data", "object", "id"),
    "luma": ("id",),
    "evolink": ("id",),
    "apimart": ("data", "id"),
    "runway": ("id",),
    "runware": ("data", 0, "taskUUID"),
    "openai": ("data", "id"),
    "kling": ("task_id",),
    "midjourney": ("id",),
    "runblob": ("task_uuid",),
}
STATE: Mapping[str, Way] = {
    "vidgo": ("data", "status"),
    "apidot": ("data", "status"),
    "apixo": ("data", "state"),
    "reapi": ("status",),
    "replicate": ("status",),
    "fal": ("status",),
    "kie": ("code",),
    "wavespeed": ("status",),
    "bfl": ("status",),
    "ideogram": ("status",),
    "piapi": ("data", "status"),
    "leonardo": ("data", "object", "status"),
    "luma": ("state",),
    "evolink": ("status",),
    "apimart": ("data", "status"),
    "runway": ("status",),
    "runware": (),  # a post names a file or an error, and no state
    "openai": ("type",),
    "kling": ("task_status",),
    "midjourney": ("status",),
    "runblob": ("status",),
}
# Their results have any shape, and only a link is a file.
ANY_SHAPE = {"replicate", "piapi", "apimart"}
NO_LINKS = {"openai"}


def document(provider: str, task_id: Any, *, error: str | None = None) -> Any:
    """What the provider says of a task that ended, decoded."""
    found = json.loads(sample_callback(provider, "x", error=error))
    return put(found, TASK[provider], task_id)


def put(document: Any, path: Way, value: object) -> Any:
    """A copy with one value replaced."""
    if not path:
        return value
    changed = copy.copy(document)
    changed[path[0]] = put(document[path[0]], path[1:], value)
    return changed


def paths(document: Any, here: Way = ()) -> Iterator[Way]:
    """The way to every value in a document, itself included."""
    yield here
    match document:
        case dict():
            inner: Iterable[tuple[str | int, Any]] = document.items()
        case list():
            inner = enumerate(document)
        case _:
            return
    for key, value in inner:
        yield from paths(value, (*here, key))


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


_WRONG: Mapping[str, object] = {
    "null": None,
    "true": True,
    "number": -1,
    "fraction": 1.5,
    "huge": 10**40,
    "empty": "",
    "word": "x",
    "blank": " ",
    "list": [],
    "lists": [[[]], None, 0],
    "object": {},
    "prototype": {"__proto__": {"a": 1}},
}


def _wrong_types() -> Iterator[HostileBody]:
    """Each field of each provider's two ends, replaced by every type that it should not have."""
    for provider in PROVIDERS:
        for end, error in (("done", None), ("failed", "no")):
            for path in paths(document(provider, "x", error=error)):
                for kind, value in _WRONG.items():
                    name = f"{end} {provider} {'.'.join(map(str, path)) or 'all'} {kind}"
                    whole = document(provider, name, error=error)
                    yield HostileBody(
                        name, provider, encoded(put(whole, path, value)), _wrong(provider, path, kind)
                    )
            for path in paths(document(provider, "x", error=error)):
                if path and isinstance(path[-1], str):
                    name = f"{end} {provider} {'.'.join(map(str, path))} missing"
                    yield HostileBody(
                        name,
                        provider,
                        encoded(_without(document(provider, name, error=error), path)),
                        _wrong(provider, path, "null"),
                    )


def declared_bodies() -> Iterator[HostileBody]:
    """The same of what made-up providers send that are declared in TOML, and what is costly at a path."""
    deep, many = b"[" * 100_000 + b"]" * 100_000, b",".join([b'"QQ=="'] * 30_000)
    links = json.dumps({"urls": [["https://m.test/0"] * 9_000] * 4}).replace('"', '\\"').encode()
    of_ember = b'{"data":{"id":"%d","state":"success","result":"%b"}}'
    of_coral = b'{"job":{"id":"%d","state":"ready","images":[{"b64_json":%b}]}}'
    costly = (
        ("ember", of_ember % (1, deep)),
        ("ember", of_ember % (2, links)),
        ("zinc", b'[{"id":"t","status":"succeeded","output":[%b]}]' % many),
        ("coral", of_coral % (1, b"[%b]" % many)),
        ("coral", of_coral % (2, b'"%b"' % (b"QUFB" * (MEGABYTE // 4)))),
        ("coral", of_coral % (3, rb'"\ud800,;"')),
    )
    for number, (provider, body) in enumerate(costly):
        yield HostileBody(f"{provider} costly {number}", provider, body, UNDERSTOOD_OR_NOT)
    for provider, documents in SAMPLES.items():
        for sample, found in documents.items():
            places = list(paths(found))
            task = next((path for path in places if _at(found, path) == "t"), None)
            if task is None:
                continue
            for path in places:
                for kind in ("null", "huge", "lists", "prototype"):
                    name = f"{sample} {'.'.join(map(str, path)) or 'all'} {kind}"
                    whole = put(put(found, task, name), path, _WRONG[kind])
                    yield HostileBody(name, provider, encoded(whole), UNDERSTOOD_OR_NOT | {"duplicate"})


def _without(document: Any, path: Way) -> Any:
    if len(path) == 1:
        return {key: value for key, value in document.items() if key != path[0]}
    return put(document, path[:-1], _without(_at(document, path[:-1]), path[-1:]))


def _at(document: Any, path: Way) -> Any:
    for key in path:
        document = document[key]
    return document


def _wrong(provider: str, path: Way, kind: str) -> frozenset[str]:
    """Without its task or its state nothing is understood; whole numbers and words are ids like any other."""
    task, state = TASK[provider], STATE[provider]
    if path == task:
        return EARLY if kind in {"number", "huge", "word", "blank"} else UNRECOGNISED
    if path == state or path == task[: len(path)]:
        return UNRECOGNISED
    return UNDERSTOOD_OR_NOT - PROGRESS


def _bombs() -> Iterator[HostileBody]:  # noqa: PLR0915 - a list
    """JSON that costs more to read than to send."""
    task = '"task_id":"%s","status":"finished"'

    def inside(name: str, value: bytes, answers: frozenset[str] = EARLY) -> HostileBody:
        head = b'{"data":{%s,"files":[],"x":' % (task % name).encode()
        return HostileBody(name, "vidgo", head + value + b"}}", answers)

    def alone(name: str, value: bytes, answers: frozenset[str] = UNRECOGNISED) -> HostileBody:
        return HostileBody(name, "vidgo", value, answers)

    yield inside("1 MB of digits", b"1" * MEGABYTE)
    yield inside("1 MB of digits after a point", b"1." + b"1" * MEGABYTE)
    yield inside("1 MB of zeros before a digit", b"0." + b"0" * MEGABYTE + b"1")
    yield inside("10^400", b"1e400")
    yield inside("10^-400", b"1e-400")
    yield inside("exponent of 1 MB", b"1e" + b"9" * MEGABYTE)
    yield inside("minus nothing", b"-", NOT_JSON)
    yield inside("leading zeros", b"007", NOT_JSON)
    yield inside("plus", b"+1", NOT_JSON)
    yield inside("hexadecimal", b"0x1", NOT_JSON)
    for number in ("1.5e300", "1e5", "4.35", "0.1e-300", "8.98846567431158e307", "1e400", "-0"):
        count = 49_000
        yield inside(f"{count} times {number}", b"[" + b",".join([number.encode()] * count) + b"]")
    for number in ("1.5e300", "1", "1e400"):
        repeated = b",".join([number.encode()] * (MEGABYTE // (len(number) + 1)))
        yield alone(f"1 MB of {number}", b"[" + repeated + b"]")
    yield inside("400 numbers of 4,000 digits", b"[" + b",".join([b"7" * 4000] * 400) + b"]")
    yield inside("400 numbers of 5,000 digits", b"[" + b",".join([b"7" * 5000] * 400) + b"]", EARLY)
    for name, value in {"NaN": b"NaN", "Infinity": b"Infinity", "minus Infinity": b"-Infinity"}.items():
        yield inside(name, value, NOT_JSON)
    yield inside("half a surrogate pair", b'"\\ud800"')
    yield inside("surrogates the wrong way round", b'"\\udc00\\ud800"')
    yield inside("raw surrogate", b'"\xed\xa0\x80"', NOT_JSON)
    yield inside("overlong slash", b'"\xc0\xaf"', NOT_JSON)
    yield inside("beyond Unicode", b'"\xf5\x80\x80\x80"', NOT_JSON)
    yield inside("cut character", b'"\xe2\x82"', NOT_JSON)
    yield inside("Latin-1", b'"\xe4"', NOT_JSON)
    yield inside("escaped NUL", b'"\\u0000"')
    yield inside("raw NUL", b'"\x00"', NOT_JSON)
    yield inside("raw line feed", b'"\n"', NOT_JSON)
    yield inside("bad escape", b'"\\x41"', NOT_JSON)
    yield inside("comment", b"/* */ 1", NOT_JSON)
    yield inside("single quotes", b"'1'", NOT_JSON)
    yield inside("comma too many", b"[1,]", NOT_JSON)
    yield inside("another document", b"1}}{}", NOT_JSON)
    yield inside("1 MB of text", b'"' + b"x" * MEGABYTE + b'"')
    yield inside("1 MB of escapes", b'"' + b"\\u0001" * (MEGABYTE // 6) + b'"')
    yield inside("1 MB of blanks", b" " * MEGABYTE + b"1")
    for depth in (400, 100_000):
        answers = EARLY if depth == 400 else UNRECOGNISED
        yield inside(f"arrays {depth} deep", b"[" * depth + b"]" * depth, answers)
        yield inside(f"objects {depth} deep", b'{"a":' * depth + b"1" + b"}" * depth, answers)
    yield alone("arrays without end", b"[" * 500_000, NOT_JSON)
    yield alone("objects without end", b'{"a":' * 150_000, NOT_JSON)
    yield inside("20,000 keys", b"{" + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}")
    yield alone("110,000 keys", b"{" + b",".join(b'"%d":0' % n for n in range(110_000)) + b"}")
    yield alone("10^6 keys", b"{" + b",".join(b'"%d":0' % n for n in range(10**6)) + b"}", TOO_LARGE)
    yield alone("one key 150,000 times", b"{" + b",".join([b'"a":0'] * 150_000) + b"}")
    yield alone("350,000 empty arrays", b"[" + b",".join([b"[]"] * 330_000) + b"]")
    yield alone("arrays 900 deep, side by side", b"[" + b",".join([b"[" * 900 + b"]" * 900] * 500) + b"]")
    yield inside("a key of 1 MB", b'{"' + b"k" * MEGABYTE + b'": 1}')
    yield inside(
        "keys that collide", b"{" + b",".join(b'"%d":0' % (n * (2**61 - 1)) for n in range(9000)) + b"}"
    )
    yield alone("3 MB of blanks", b" " * (3 * MEGABYTE), TOO_LARGE)


def _encodings() -> Iterator[HostileBody]:
    whole = document("vidgo", "encoded")
    text = json.dumps(whole)
    for name, body in {
        "nothing": b"",
        "blanks": b" \r\n",
        "BOM": b"\xef\xbb\xbf" + text.encode(),
        "BOM alone": b"\xef\xbb\xbf",
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without BOM": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "UTF-7": text.encode("utf-7") + b"+",
        "EBCDIC": text.encode("cp500"),
        "gzip": b"\x1f\x8b\x08\x00" + text.encode(),
        "multipart": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "YAML": b"task_id: x\n",
        "pickle": b"\x80\x04K\x01.",
        "a word": b"null_",
        "two documents": b"{}\n{}",
        "cut": text.encode()[:-1],
        "one byte more": text.encode() + b"x",
        "NUL after": text.encode() + b"\x00",
        "msgpack": b"\x81\xa1a\x01",
        "JSON sequence": b"\x1e" + text.encode(),
        "JSONP": b"f(" + text.encode() + b")",
    }.items():
        yield HostileBody(name, "vidgo", body, NOT_JSON)
    yield HostileBody("form", "vidgo", b"task_id=x&status=finished", EARLY)
    for value in ("null", "true", "0", '"text"', "[]", "{}", "[[]]", '{"data": []}', '{"": {}}', "[{}]"):
        yield HostileBody(f"only {value}", "vidgo", value.encode(), UNRECOGNISED)
    again = json.dumps(document("vidgo", "re-serialised"), indent=8, sort_keys=True) + "\n"
    yield HostileBody("re-serialised", "vidgo", again.encode(), EARLY)
    twice = b'{"data":{"task_id":"first","task_id":"last","status":"running","status":"finished"}}'
    yield HostileBody("keys twice", "vidgo", twice, EARLY)


def _task_ids() -> Iterator[HostileBody]:
    """Ids that want to be something else; what can name a task is kept to the letter."""
    usable = {
        "path": "../../etc/passwd",
        "absolute path": "/etc/passwd",
        "dots": "..",
        "dot": ".",
        "slash": "/",
        "backslash": "..\\..\\x",
        "encoded dots": "%2e%2e%2f",
        "encoded NUL": "a%00b",
        "drive": "C:\\x",
        "SQL": "'; DROP TABLE deliveries; --",
        "SQL wildcard": "%",
        "quotes": "\"'`",
        "template": "{{7*7}}${7*7}",
        "format": "%s%n{0.__class__}",
        "right to left": "\u202egnp.exe",
        "zero width": "a\u200bb",
        "emoji": "\U0001f9a0",
        "combining": "e" + "\u0301" * 200,
        "fullwidth": "\uff0e\uff0e\uff0f",
        "blank": " ",
        "many blanks": " " * 512,
        "no-break": "\u00a0",
        "line separator": "a\u2028b",
        "prototype": "__proto__",
        "constructor": "constructor",
        "HTML": "<script>alert(1)</script>",
        "formula": "=cmd|'/c calc'!A1",
        "URL": "http://169.254.169.254/",
        "number": 17,
        "zero": 0,
        "negative": -1,
        "large number": 10**300,
        "same number": "17 ",
        "device": "CON",
        "longest": "x" * 512,
        "option": "--help",
        "shell": "$(reboot)`reboot`|;&",
        "private use": "\ue000",
        "noncharacter": "\uffff",
        "header": "x: y",
        "JSON": '{"a":1}',
        "LDAP": "*)(uid=*",
        "query": "?a=b#c",
    }
    for name, task_id in usable.items():
        yield HostileBody(f"id {name}", "vidgo", encoded(document("vidgo", task_id)), EARLY)
    unusable: dict[str, object] = {
        "empty": "",
        "1 MB": "x" * MEGABYTE,
        "513 characters": "x" * 513,
        "NUL": "a\x00b",
        "line feed": "a\nb",
        "carriage return": "a\rb",
        "ANSI": "\x1b[31mred",
        "C1": "a\x9bb",
        "DEL": "a\x7fb",
        "surrogate": "\ud800",
        "list": ["x"],
        "object": {"__proto__": 1},
        "true": True,
        "false": False,
        "null": None,
        "fraction": 1.5,
        "huge number": 10**400,
        "nested": [[["x"]]],
    }
    for name, value in unusable.items():
        for provider in PROVIDERS:
            body = encoded(document(provider, value) | {"x": f"{name} {provider}"})
            yield HostileBody(f"id {name} {provider}", provider, body, UNRECOGNISED)


def _files() -> Iterator[HostileBody]:
    """Lists, links and kinds of files."""
    for count in (100, 101, 5_000, 16_000, 49_000, 100_000):
        name = f"{count} files"
        links = [f"https://m.test/{n}" for n in range(count)]
        body = sample_callback("vidgo", name, files=links).replace(b'"file_type": "image"', b'"t": 1')
        answers = EARLY if count == 100 else UNRECOGNISED if len(body) < 2**21 else TOO_LARGE
        yield HostileBody(name, "vidgo", body, answers)
        name = f"{count} links"
        yield HostileBody(
            name,
            "apixo",
            sample_callback("apixo", name, files=links),
            (EARLY if count == 100 else UNRECOGNISED if count < 100_000 else TOO_LARGE),
        )
    pattern = b'{"data":{"task_id":"%s","status":"finished","files":[%s]}}'
    for item in (b"{}", b"0", b"null", b"[]", b'""', b'{"file_url":"https://m.test/x"}'):
        many = b"60,000 times %s" % item
        body = pattern % (many.replace(b'"', b"'"), b",".join([item] * 60_000))
        yield HostileBody(many.decode(), "vidgo", body, UNRECOGNISED)
    for name, link in {
        "climbing": "https://m.test/a.png/../../x",
        "device": "https://m.test/CON",
        "NUL": "https://m.test/a.png\x00.exe",
        "300 characters": "https://m.test/" + "a" * 300 + ".png",
        "two extensions": "https://m.test/a.png.exe",
        "no extension": "https://m.test/a",
        "right to left": "https://m.test/a\u202egnp.exe",
        "1 MB": "https://m.test/" + "a" * MEGABYTE,
        "extension of 1 MB": "https://m.test/a." + "p" * MEGABYTE,
        "dots": "https://m.test/" + "." * MEGABYTE,
        "no link": "not a link",
        "blank": " ",
        "empty": "",
        "data": "data:text/html,<script>alert(1)</script>",
        "javascript": "javascript:alert(1)",
        "file": "file:///etc/passwd",
        "line feed": "https://m.test/a\r\nHost: x",
        "surrogate": "https://m.test/\ud800",
        "inside": "http://127.0.0.1/",
        "relative": "//127.0.0.1/a.png",
    }.items():
        for provider in _takers(link):
            task = f"link {name} {provider}"
            answers = EARLY if link.strip() or provider in NO_LINKS else UNRECOGNISED
            if provider in ANY_SHAPE and not link.startswith("http"):
                answers = EARLY | UNRECOGNISED
            yield HostileBody(task, provider, sample_callback(provider, task, files=[link]), answers)
    for name, inner in {
        "deep": "[" * 50_000 + "]" * 50_000,
        "digits": "1" * MEGABYTE,
        "cut": '{"resultUrls": ["',
        "twice": '"{}"',
        "half a pair": '"\\ud800"',
        "empty": "",
        "floats": "[" + ",".join(["1.5e300"] * 40_000) + "]",
    }.items():
        body = encoded({"data": {"taskId": f"inner {name}", "state": "success", "resultJson": inner}})
        yield HostileBody(f"inner {name}", "apixo", body, UNRECOGNISED)
        stems = [{"file_url": "https://m.test/0", "stem_split": inner}]
        body = encoded({"data": {"task_id": f"stems {name}", "status": "finished", "files": stems}})
        yield HostileBody(f"stems {name}", "vidgo", body, UNRECOGNISED if name == "deep" else EARLY)


TEXTS = {
    "HTML": "<img src=x onerror=alert(1)><script>alert(document.cookie)</script>",
    "SVG": "<svg onload=alert(1)>",
    "ANSI": "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "8-bit ANSI": "\x9b31mred",
    "line feed": 'x\n{"level":"critical","event":"forged"}\n',
    "carriage return": "x\rforged",
    "backspace": "x\b\b\b",
    "right to left": "\u202eforged",
    "line separator": "x\u2028forged\u2029",
    "NUL": "x\x00y",
    "surrogate": "x\ud800y",
    "formula": "=cmd|'/c calc'!A1",
    "formula with plus": "+1+1",
    "formula with at": "@SUM(1)",
    "formula with tab": "\t=1+1",
    "template": "{{7*7}} ${jndi:ldap://x/y} %s %n",
    "blank": " ",
    "1 MB": "x" * MEGABYTE,
    "1 MB of controls": "\x01" * 150_000,
}


def _texts() -> Iterator[HostileBody]:
    """Words that somebody will read: in a terminal, a browser, a spreadsheet, a log."""
    for name, text in TEXTS.items():
        for provider in _takers(text):
            task = f"text {name} {provider}"
            yield HostileBody(task, provider, sample_callback(provider, task, error=text or "x"), EARLY)
        task = f"state {name}"
        body = encoded({"data": {"task_id": task, "status": text}})
        yield HostileBody(task, "vidgo", body, UNRECOGNISED)


def _takers(text: str) -> Iterable[str]:
    """Of large bodies that nobody owns only so many are kept."""
    return PROVIDERS if len(text) < 2**16 else PROVIDERS[:8]


def _samples() -> Iterator[HostileBody]:
    """What fuzzing found once, kept."""
    for file in sorted((Path(__file__).parent / "found").glob("*.body")):
        yield HostileBody(
            f"found {file.stem}", file.stem.split("-")[0], file.read_bytes(), UNDERSTOOD_OR_NOT | NOT_JSON
        )


def _distinct(bodies: Iterable[HostileBody]) -> list[HostileBody]:
    """Without those that are the same to the byte: they would be repeats."""
    return list({(each.provider, each.body): each for each in bodies}.values())


BODIES = _distinct(
    [*_bombs(), *_encodings(), *_task_ids(), *_files(), *_texts(), *_samples(), *_wrong_types()]
)
