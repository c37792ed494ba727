"""Paths into JSON: what they find, and what is none."""

import pytest

from receiver.declared.json_paths import first_at, parse_path, values_at

DOCUMENT = {
    "data": {"id": 7, "images": [{"url": "a"}, {"other": 1}, {"url": ["b", "c"]}], "text": '{"urls": ["d"]}'},
    "list": [[1, 2], [3]],
    "null": None,
    "false": False,
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.id", [7]),
        ("data.images[].url", ["a", ["b", "c"]]),
        ("data.images[2].url[]", ["b", "c"]),
        ("data.images[9].url", []),
        ("data.text.urls[0]", ["d"]),
        ("list[][]", [1, 2, 3]),
        ("list[1][0]", [3]),
        ("null", []),
        ("false", [False]),
        ("data.id.deeper", []),
        ("nothing.at.all", []),
    ],
)
def test_a_path_finds_every_value_in_order(path: str, found: list[object]) -> None:
    assert list(values_at(DOCUMENT, parse_path(path))) == found


def test_the_first_path_that_leads_somewhere_counts() -> None:
    paths = [parse_path(path) for path in ("null", "data.id", "false")]
    assert first_at(DOCUMENT, paths) == 7
    assert first_at([1], paths) is None


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a.", "[x]", "a[", "a]b", "a b", "a[]b", "[-1]", "a." * 12 + "b"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a path such as"):
        parse_path(text)
