"""What an order asks for, as far as rules and prices look at it: read once, with what is of another type."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from receiver.gateway.catalog import Catalog, ModelEntry
from receiver.models import Place

MOST_TIER_CHARACTERS = 20
MOST_IMAGES = 100  # of an order that asks for more than is drawn, so many are counted

# As the pages have it: no blanks, no leading zero, ASCII.
_PIXELS = re.compile(r"([1-9][0-9]{0,29})x([1-9][0-9]{0,29})")
_LIKE_PIXELS = re.compile(r"\s*[-+]?\d+\s*[xX*]\s*[-+]?\d+\s*")


class Unreadable(Enum):
    """Stands for a value of another type than its field has."""

    VALUE = "unreadable"


UNREADABLE = Unreadable.VALUE


class SizeForm(Enum):
    """How an order says which size it wants."""

    NONE = "none"  # it does not, or has the provider choose
    PRESET = "preset"  # by one of the provider's words
    PIXELS = "pixels"  # by its own width and height
    LIKE_PIXELS = "like pixels"  # by what may be meant for these
    OTHER = "other"


class Mistyped(msgspec.Struct, frozen=True, kw_only=True):
    """A field with a value of another type."""

    place: Place
    words: str  # what it must be
    is_null: bool


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """One order by its fields; None is what it does not say, ``null`` included."""

    prompt: str | Unreadable | None
    size: str | Unreadable | None
    size_form: SizeForm
    pixels: tuple[int, int] | None  # longest edge first
    resolution: str | Unreadable | None
    tier: int | None  # of the resolution, whatever its case; None where it is none of the catalog's
    quality: str | Unreadable | None
    references: Sequence[str] | Unreadable | None
    images: int | Unreadable | None
    mode: str | Unreadable | None
    mistyped: Sequence[Mistyped]


def read_wishes(catalog: Catalog, model: ModelEntry, values: Mapping[str, object]) -> Wishes:
    """What a decoded order asks of a model."""
    reader = _Reader(values)
    fields = catalog.fields
    size, resolution = reader.text(fields.size), reader.text(fields.resolution)
    form, pixels = _form(model, size)
    return Wishes(
        prompt=reader.text(fields.prompt),
        size=size,
        size_form=form,
        pixels=pixels,
        resolution=resolution,
        tier=_tier(catalog.tiers, resolution),
        quality=reader.text(fields.quality),
        references=reader.texts(fields.references),
        images=reader.whole(fields.images),
        mode=reader.text(fields.mode),
        mistyped=reader.mistyped,
    )


class _Reader:
    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self.mistyped: list[Mistyped] = []

    def text(self, place: Place | None) -> str | Unreadable | None:
        value = self._at(place)
        return value if value is None or isinstance(value, str) else self._wrong(place, "a text")

    def texts(self, place: Place | None) -> Sequence[str] | Unreadable | None:
        value = self._at(place)
        if value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            return value
        return self._wrong(place, "a list of texts")

    def whole(self, place: Place | None) -> int | Unreadable | None:
        value = self._at(place)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        return self._wrong(place, "a whole number")

    def _at(self, place: Place | None) -> object:
        if place is None:
            return None
        at: object = self._values
        for depth, name in enumerate(place):
            if not isinstance(at, dict):
                self._wrong(place[:depth], "an object")
                return None
            if name not in at:
                return None
            at = at[name]
        if at is None:
            self._note(place, "left out where it has no value", is_null=True)
        return at

    def _wrong(self, place: Place | None, words: str) -> Unreadable:
        self._note(place or (), words, is_null=False)
        return UNREADABLE

    def _note(self, place: Place, words: str, *, is_null: bool) -> None:
        found = Mistyped(place=place, words=words, is_null=is_null)
        if found not in self.mistyped:
            self.mistyped.append(found)


def _form(model: ModelEntry, size: str | Unreadable | None) -> tuple[SizeForm, tuple[int, int] | None]:
    if size is None or size == "auto":
        return SizeForm.NONE, None
    if isinstance(size, Unreadable):
        return SizeForm.OTHER, None
    if "size" in model.rules and size in model.rules["size"].one_of:
        return SizeForm.PRESET, None
    if "custom-form" in model.rules:
        if found := _PIXELS.fullmatch(size):
            width, height = int(found[1]), int(found[2])
            return SizeForm.PIXELS, (max(width, height), min(width, height))
        if len(size) <= 100 and _LIKE_PIXELS.fullmatch(size):
            return SizeForm.LIKE_PIXELS, None
    return SizeForm.OTHER, None


def _tier(tiers: Sequence[str], resolution: str | Unreadable | None) -> int | None:
    if not isinstance(resolution, str) or len(resolution) > MOST_TIER_CHARACTERS:
        return None
    folded = resolution.lower()
    return next((index for index, tier in enumerate(tiers) if tier.lower() == folded), None)
