"""A sink's URL: what is refused, and that no message repeats a part of it that may be secret."""

from pathlib import Path

import pytest

from receiver.errors import Misconfigured
from receiver.sink_urls import SinkUrl

FORM = "x://HOST"


def read(url: str) -> SinkUrl:
    return SinkUrl.read("mine", url, form=FORM, known=("queue", "ssl_ca_certs", "most"))


def refused(url: str) -> str:
    with pytest.raises(Misconfigured, match="sink mine: ") as caught:
        read(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "x://user:se/cret@host/?queue=a",
        "x://user:12/cret@host/?queue=a",  # which could be host and port
        "x://user:se?cret@host/?queue=a",
        "x://user:12?cret@host/?queue=a",
        "x://user:12?cret=@host/?queue=a",
        "x://user:12#cret@host/?queue=a",
        "x://se?cret@host?queue=a",  # a token
    ],
)
def test_a_password_that_is_not_escaped_is_refused_with_advice_and_not_repeated(url: str) -> None:
    told = refused(url)
    assert "in a user or password write %2F for /, %3F for ?, %23 for # and %40 for @" in told
    assert "cret" not in told


def test_what_is_escaped_is_read() -> None:
    url = read("x://us%40er:%2F%3F%23%40%25@[::1]:5/a%2Fb?queue=c%20d%26e@f")
    assert (url.user, url.password, url.address) == ("us@er", "/?#@%", "[::1]:5")
    assert (url.path, url.options) == ("a/b", {"queue": "c d&e@f"})


@pytest.mark.parametrize("url", ["x://u:p@a:1,u:p@b:2?queue=a", "x://u:p@ss@a:1?queue=a"])
def test_of_several_hosts_none_has_a_user_of_its_own(url: str) -> None:
    with pytest.raises(Misconfigured, match="name the user once, before the first host"):
        SinkUrl.read_hosts("mine", url, form=FORM, known=("queue",), port=1)


def test_an_option_is_given_once() -> None:
    assert refused("x://host?queue=a&queue=b") == "sink mine: its URL has the option queue twice"


def test_bytes_that_are_no_text_are_refused() -> None:
    assert refused("x://host?queue=\udcff") == f"sink mine: write {FORM}"


def test_a_number_of_any_length_is_refused_in_words() -> None:
    with pytest.raises(Misconfigured, match="most must be a whole number from 1 to 9"):
        read(f"x://host?most={'9' * 5000}").whole_number("most", default=1, least=1, most=9)


def test_a_file_of_authorities_is_looked_for_in_the_data_folder_and_read(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    assert read("x://host").authorities(tmp_path) is None
    for name, why in (("none", "No such file or directory"), ("empty", "it holds no certificates")):
        with pytest.raises(Misconfigured, match=f"ssl_ca_certs names cannot be used: {why}"):
            read(f"x://host?ssl_ca_certs={name}").authorities(tmp_path)
