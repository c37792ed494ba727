"""What comes from outside moves no terminal's cursor, and JSON says the same with nothing harmful in it."""

import json
import unicodedata

import pytest

from receiver.escapes import encode_harmless, escape_json, printable, printable_lines

C0_AND_DEL = [*map(chr, range(32)), "\x7f"]
C1 = [chr(code) for code in range(0x80, 0xA0)]
DIRECTIONS = [*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]
LINE_ENDS = ["\u2028", "\u2029"]
HARMFUL = [*C0_AND_DEL, *C1, *DIRECTIONS, *LINE_ENDS]
# Some have bytes of the harmful ones.
OTHERS = [*"Жéß¡Àÿ画🦊", "\u200d", "\ufeff", "\u2026", "\u206a", "\u069c", "\u065c"]


@pytest.mark.parametrize("harmful", HARMFUL, ids=ascii)
def test_json_says_the_same_with_nothing_harmful_in_it(harmful: str) -> None:
    value = {f"a{harmful}b": [f"{harmful}31m", harmful]}
    encoded = encode_harmless(value)
    assert json.loads(encoded) == value
    assert harmful not in encoded.decode()
    assert len(encoded.decode().splitlines()) == 1


def test_every_character_that_turns_the_direction_of_text_is_one_of_them() -> None:
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    found = [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in turning]
    assert set(found) <= set(DIRECTIONS)


@pytest.mark.parametrize("other", OTHERS, ids=ascii)
def test_other_characters_stay_as_they_are(other: str) -> None:
    assert encode_harmless([other]).decode() == f'["{other}"]'
    assert escape_json(f'["{other}\u009b"]'.encode()).decode() == f'["{other}\\u009b"]'


@pytest.mark.parametrize("harmful", HARMFUL, ids=ascii)
def test_what_is_printed_is_a_picture_of_it(harmful: str) -> None:
    assert printable(f"one{harmful}two").isprintable()
    assert printable_lines(f"one\ntwo{harmful}").startswith("one\ntwo")


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("画像 🦊 C:\\n") == "画像 🦊 C:\\n"
    assert printable("\x1b[2J\x9b31m\u202e") == "\\x1b[2J\\x9b31m\\u202e"
