"""Which links lead to the same file."""

import zlib

import pytest

from receiver.links import HASHES, host_hash, link_name, match_links

CDN = "https://cdn.test"


@pytest.mark.parametrize(
    "link", [f"{CDN}/a%2fb.png", f"{CDN}/a%2fb.png?x=1", f"{CDN}/a%2fb.png#x?y", f"{CDN}/a%2fb.png?x#y"]
)
def test_the_name_of_a_link_is_all_before_its_query_as_it_is_written(link: str) -> None:
    assert link_name(link) == f"{CDN}/a%2fb.png"


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        ([], ["a"], {}),
        (["a"], [], {}),
        (["a"], ["a"], {0: 0}),
        (["a?1", "b?1"], ["b?2", "a?2"], {0: 1, 1: 0}),
        (["a?1", "b?1"], ["x", "b?2", "y", "a?2"], {0: 3, 1: 1}),
        (["a?1", "b?1"], ["b?2"], {1: 0}),
        (["a"], ["b"], {}),
        (["a%20b", "a+b"], ["a+b?2", "a%20b?2"], {0: 1, 1: 0}),
        (["a%2Fb"], ["a/b"], {}),
        # named twice
        (["a?s=1", "a?s=2"], ["a?s=3", "a?s=4"], {0: 0, 1: 1}),
        (["a?s=1", "b", "a?s=2"], ["b", "a?s=3", "a?s=4"], {0: 1, 1: 0, 2: 2}),
        (["a?s=1", "a?s=2"], ["a?s=3"], {0: 0}),
        (["a?s=1"], ["a?s=2", "a?s=3"], {0: 0}),
        (["a?s=1", "a?s=2"], ["a?s=9", "a?s=1"], {0: 1, 1: 0}),
        # named by the query
        (["g?f=A&s=1", "g?f=B&s=1"], ["g?s=2&f=B", "g?s=2&f=A"], {0: 1, 1: 0}),
        (["g?f=A&s=1", "g?f=B&s=1"], ["g?f=B&s=2"], {1: 0}),
        (["g?f=B&s=1"], ["g?f=A&s=2", "g?f=B&s=2"], {0: 1}),
        (["g?f=A&w=9", "g?f=B&w=9"], ["g?w=9&f=B", "g?w=9&f=A"], {0: 1, 1: 0}),
    ],
)
def test_links_are_matched_by_name_and_never_by_place(
    known: list[str], given: list[str], expected: dict[int, int]
) -> None:
    new = [f"{CDN}/{name}" for name in given]
    matched = match_links([f"{CDN}/{name}" for name in known], new)
    assert matched == {old: new[place] for old, place in expected.items()}


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        # A file that moved is known by its path.
        (["https://one/a?1", "https://one/b?1"], ["https://two/b?2", "https://three/a?2"], {0: 1, 1: 0}),
        (["https://one/a", "https://one/b"], ["https://two/a", "https://one/b"], {0: 0, 1: 1}),
        # Unless another has the same, or there is none.
        (["https://one/a", "https://two/a"], ["https://three/a", "https://four/a"], {}),
        (["https://one/a", "https://two/a"], ["https://two/a", "https://three/a"], {1: 0}),
        (["https://one/a"], ["https://two/a", "https://three/a"], {}),
        (["https://one/?1"], ["https://two/?2"], {}),
        (["https://one"], ["https://two"], {}),
    ],
)
def test_a_file_on_another_host_is_known_by_a_path_that_no_other_has(
    known: list[str], given: list[str], expected: dict[int, int]
) -> None:
    assert match_links(known, given) == {old: given[place] for old, place in expected.items()}


def test_a_hundred_links_with_endless_queries_are_matched_in_a_moment() -> None:
    query = "&".join(f"{number}=" for number in range(1500))
    links = [f"{CDN}/get?{number}&{query}" for number in range(100)]
    assert match_links(links, links[::-1]) == dict(enumerate(links))


def test_all_links_to_one_host_and_port_have_one_hash() -> None:
    same = [
        "https://cdn.test",
        "https://CDN.test/a",
        "https://cdn.test?a/b",
        "https://cdn.test#a",
        "http://cdn.test/",
    ]
    other = ["https://cdn.test:8443/a", "https://a.cdn.test/", "cdn.test/a", "", "https://\ud800/"]
    assert len({host_hash(link) for link in same}) == 1
    assert host_hash(same[0]) not in {host_hash(link) for link in other}
    assert all(0 <= host_hash(link) < HASHES for link in [*same, *other])


def test_a_host_gets_no_part_in_anothers_share_by_a_name_with_the_same_checksum() -> None:
    names = "plumless", "buckeroo"
    assert len({zlib.crc32(name.encode()) for name in names}) == 1
    assert len({host_hash(f"https://{name}/1.png") for name in names}) == 2
