"""Which rules of its provider an order breaks. Pure: nothing is fetched, and no value is told."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import msgspec

from receiver.gateway.catalog import Catalog, ModelEntry, Rule
from receiver.gateway.wishes import SizeForm, Unreadable, Wishes
from receiver.models import BrokenRule, Place, RuleClass

EDGE_OF_4K = 3840
_SECOND, _LAST = 1, 2  # tiers


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule looks at."""

    catalog: Catalog
    model: ModelEntry
    wishes: Wishes


Said = str | tuple[RuleClass, str] | None  # what is wrong; with a class where it is not the rule's own


def broken_rules(catalog: Catalog, model: ModelEntry, wishes: Wishes) -> list[BrokenRule]:
    """Every rule that an order breaks, types first."""
    subject = Subject(catalog=catalog, model=model, wishes=wishes)
    broken = [
        BrokenRule(
            name="type",
            rule_class=RuleClass.DOUBT if each.is_null else RuleClass.HARD,
            message=f"{_named(each.place)} must be {each.words}",
        )
        for each in wishes.mistyped
    ]
    for name, rule in model.rules.items():
        if (said := _CHECKS[name](rule, subject)) is not None:
            rule_class, message = said if isinstance(said, tuple) else (rule.rule_class, said)
            broken.append(BrokenRule(name=name, rule_class=rule_class, message=message))
    return broken


def is_wide(catalog: Catalog, wishes: Wishes) -> bool:
    """Whether a preset is one that the last tier is drawn in."""
    return wishes.size in catalog.wide


# --- one rule each ------------------------------------------------------------------------------------


def _prompt_missing(_: Rule, subject: Subject) -> Said:
    prompt = subject.wishes.prompt
    is_missing = prompt is None or (isinstance(prompt, str) and not prompt.strip())
    return f"{_named(subject.catalog.fields.prompt)} is missing or blank" if is_missing else None


def _prompt_long(rule: Rule, subject: Subject) -> Said:
    prompt, most = subject.wishes.prompt, rule.most or 0
    is_long = isinstance(prompt, str) and len(prompt) > most
    return f"{_named(subject.catalog.fields.prompt)} has more than {most:,} characters" if is_long else None


def _quality(rule: Rule, subject: Subject) -> Said:
    return _one_of(subject.wishes.quality, rule.one_of, subject.catalog.fields.quality)


def _size(rule: Rule, subject: Subject) -> Said:
    wishes = subject.wishes
    is_other = wishes.size_form is SizeForm.OTHER and isinstance(wishes.size, str)
    if not is_other:
        return None
    said = _one_of(wishes.size, rule.one_of, subject.catalog.fields.size)
    return f"{said}, or WIDTHxHEIGHT" if said and "custom-form" in subject.model.rules else said


def _resolution(_: Rule, subject: Subject) -> Said:
    tiers, wishes = subject.catalog.tiers, subject.wishes
    said = _one_of(wishes.resolution, tiers, subject.catalog.fields.resolution)
    return (RuleClass.DOUBT, said) if said and wishes.tier is not None else said


def _auto_is_1k(_: Rule, subject: Subject) -> Said:
    wishes, (first, *_rest) = subject.wishes, subject.catalog.tiers
    if wishes.size_form is SizeForm.NONE and (wishes.tier or 0) >= _SECOND:
        named = _named(subject.catalog.fields.size)
        return f"{named} is auto or left out: it is drawn and billed as {first}, whatever the resolution"
    return None


def _not_true_4k(_: Rule, subject: Subject) -> Said:
    catalog, wishes = subject.catalog, subject.wishes
    if wishes.tier != _LAST or not _is_narrow(catalog, wishes):
        return None
    *_rest, second, last = catalog.tiers
    pixels = f" or an edge of {EDGE_OF_4K}" if "custom-form" in subject.model.rules else ""
    return f"{last} needs one of {', '.join(catalog.wide)}{pixels}: else it counts as {second}"


def _is_narrow(catalog: Catalog, wishes: Wishes) -> bool:
    """Whether it has a size, and one in which the last tier is not drawn."""
    if wishes.pixels is not None:
        return wishes.pixels[0] < EDGE_OF_4K
    return wishes.size_form is SizeForm.PRESET and not is_wide(catalog, wishes)


def _4k_needs_wide(_: Rule, subject: Subject) -> Said:
    catalog, wishes = subject.catalog, subject.wishes
    is_broken = (
        wishes.tier == _LAST
        and wishes.size_form in {SizeForm.NONE, SizeForm.PRESET}
        and not is_wide(catalog, wishes)
    )
    if not is_broken:
        return None
    return f"{catalog.tiers[-1]} needs {_named(catalog.fields.size)} to be one of {', '.join(catalog.wide)}"


def _custom_form(_: Rule, subject: Subject) -> Said:
    is_broken = subject.wishes.size_form is SizeForm.LIKE_PIXELS
    said = "in pixels must be WIDTHxHEIGHT: plain digits, a small x, no blanks, no leading 0"
    return f"{_named(subject.catalog.fields.size)} {said}" if is_broken else None


def _custom_needs_2k(_: Rule, subject: Subject) -> Said:
    catalog, wishes = subject.catalog, subject.wishes
    is_broken = wishes.pixels is not None and (wishes.resolution is None or wishes.tier == 0)
    if not is_broken:
        return None
    _first, *rest = catalog.tiers
    return f"a size in pixels needs {_named(catalog.fields.resolution)} to be {' or '.join(rest)}"


def _custom_16(_: Rule, subject: Subject) -> Said:
    pixels = subject.wishes.pixels
    is_broken = pixels is not None and any(edge % 16 for edge in pixels)
    return (
        f"both edges of {_named(subject.catalog.fields.size)} must be multiples of 16" if is_broken else None
    )


def _custom_edge(rule: Rule, subject: Subject) -> Said:
    pixels, most = subject.wishes.pixels, rule.most or 0
    is_broken = pixels is not None and pixels[0] > most
    return (
        f"no edge of {_named(subject.catalog.fields.size)} may be longer than {most}" if is_broken else None
    )


def _custom_ratio(rule: Rule, subject: Subject) -> Said:
    pixels, most = subject.wishes.pixels, rule.most or 0
    is_broken = pixels is not None and pixels[0] > most * pixels[1]
    if not is_broken:
        return None
    return f"the longer edge of {_named(subject.catalog.fields.size)} may be {most} times the other at most"


def _custom_pixels(rule: Rule, subject: Subject) -> Said:
    pixels, least, most = subject.wishes.pixels, rule.least or 0, rule.most or 0
    is_broken = pixels is not None and not least <= pixels[0] * pixels[1] <= most
    if not is_broken:
        return None
    return f"{_named(subject.catalog.fields.size)} must have from {least:,} to {most:,} pixels"


def _3840_needs_4k(_: Rule, subject: Subject) -> Said:
    catalog, wishes = subject.catalog, subject.wishes
    is_broken = wishes.pixels is not None and wishes.pixels[0] == EDGE_OF_4K and wishes.tier != _LAST
    if not is_broken:
        return None
    return f"an edge of {EDGE_OF_4K} needs {_named(catalog.fields.resolution)} to be {catalog.tiers[_LAST]}"


def _refs_missing(rule: Rule, subject: Subject) -> Said:
    is_broken = _is_in_mode(rule, subject.wishes) and not subject.wishes.references
    return f"{_named(subject.catalog.fields.references)} is missing or empty" if is_broken else None


def _refs_not_taken(rule: Rule, subject: Subject) -> Said:
    references = subject.wishes.references
    if references is None or isinstance(references, Unreadable) or not _is_in_mode(rule, subject.wishes):
        return None
    said = f"{_named(subject.catalog.fields.references)} is not taken"
    return said if references else (RuleClass.DOUBT, said)


def _refs_many(rule: Rule, subject: Subject) -> Said:
    references, most = subject.wishes.references, rule.most or 0
    is_broken = isinstance(references, list) and len(references) > most
    return f"{_named(subject.catalog.fields.references)} has more than {most}" if is_broken else None


def _refs_url(_: Rule, subject: Subject) -> Said:
    references = subject.wishes.references
    is_broken = isinstance(references, list) and not all(
        each.startswith(("https://", "http://")) for each in references
    )
    return f"{_named(subject.catalog.fields.references)} must hold http(s) URLs" if is_broken else None


def _n(rule: Rule, subject: Subject) -> Said:
    images = subject.wishes.images
    if images is None:
        return None
    named = _named(subject.catalog.fields.images)
    if rule.most is None:
        return f"{named} is not supported, whatever its value"
    least = rule.least or 1
    is_broken = isinstance(images, int) and not least <= images <= rule.most
    said = f"{least}" if least == rule.most else f"from {least} to {rule.most}"
    return f"{named} must be {said}" if is_broken else None


_CHECKS: Mapping[str, Callable[[Rule, Subject], Said]] = {
    "prompt-missing": _prompt_missing,
    "prompt-long": _prompt_long,
    "quality": _quality,
    "size": _size,
    "resolution": _resolution,
    "auto-is-1k": _auto_is_1k,
    "not-true-4k": _not_true_4k,
    "4k-needs-wide": _4k_needs_wide,
    "custom-form": _custom_form,
    "custom-needs-2k": _custom_needs_2k,
    "custom-16": _custom_16,
    "custom-edge": _custom_edge,
    "custom-ratio": _custom_ratio,
    "custom-pixels": _custom_pixels,
    "3840-needs-4k": _3840_needs_4k,
    "refs-missing": _refs_missing,
    "refs-not-taken": _refs_not_taken,
    "refs-many": _refs_many,
    "refs-url": _refs_url,
    "n": _n,
}


def _one_of(value: object, words: Sequence[str], place: Place | None) -> str | None:
    if not isinstance(value, str) or value in words:
        return None
    return f"{_named(place)} must be one of {', '.join(words)}" if words else f"{_named(place)} is not taken"


def _is_in_mode(rule: Rule, wishes: Wishes) -> bool:
    return rule.mode is None or wishes.mode == rule.mode


@cache
def _named(place: Place | None) -> str:
    """A field as its provider's pages write it."""
    return f"`{'.'.join(place or ())}`"
