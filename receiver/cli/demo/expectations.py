"""Check every promise against the evidence: pure functions, so that tests can try false evidence too."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from receiver.cli.demo.backend import Handed
from receiver.cli.demo.evidence import (
    Copy,
    Evidence,
    ImageKey,
    SeenDelivery,
    SeenTask,
    ToldImage,
    TrueImage,
    TrueTask,
)
from receiver.models import EventType

TYPES = {"completed": EventType.COMPLETED.value, "failed": EventType.FAILED.value}


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """One promise, and whether it held."""

    promise: str
    held: bool
    checked: int  # how many things it was checked on
    problems: tuple[str, ...]


def check(evidence: Evidence) -> list[Expectation]:
    """Every promise that the evidence can show, once nothing is under way any more."""
    handed, truth = evidence.handed, evidence.truth
    tasks, images = len(handed), sum(len(task.files) for task in truth)
    wrong = sum(task.is_signed_wrongly for task in truth)
    calls = sum(len(task.callbacks) for task in truth if not task.is_signed_wrongly)
    lies = len(_lied_about(evidence))
    silent = sum(not (_heard_of(task) or task.is_signed_wrongly) for task in truth)
    priced = sum(task.booked_micros is not None for task in evidence.seen)
    early, repeated = sum(each.job.early for each in handed), sum(each.job.repeats > 1 for each in handed)
    promises: list[tuple[str, int, Callable[[Evidence], Iterator[str]]]] = [
        ("Every task ended as its provider ended it", tasks, _ends),
        (_ANSWERED_AWAKE if evidence.outage else _ANSWERED, calls, _answers),
        ("Each task is told in one event, of the right type and to the right owner", tasks, _events),
        ("Every image is described as the provider made it", images, _descriptions),
        ("Every signed link leads to these very bytes", images, _links),
        ("The images folder holds these files and no others", images, _files),
        ("A repeated callback raised a counter and changed nothing else", repeated, _repeats),
        ("A callback before its submission, or its order's answer, was matched", early, _early),
        ("A task without a callback was asked about and ended all the same", silent, _silent),
        ("A lie told with a leaked token was seen through: nothing of it was fetched", lies, _lies),
        ("A callback with a wrong signature was refused, and its provider asked", wrong, _signatures),
        ("A forged callback was refused and left no trace", 1, _forgery),
        ("What a provider billed is what is booked here, order by order", priced, _costs),
    ]
    return [judge(promise, checked, find(evidence)) for promise, checked, find in promises]


_ANSWERED = "Every true callback was answered with 200"
_ANSWERED_AWAKE = "Every true callback that found the service awake was answered with 200"


def judge(promise: str, checked: int, problems: Iterable[str]) -> Expectation:
    """A promise held if it has no problems."""
    found = tuple(problems)
    return Expectation(promise=promise, held=not found, checked=checked, problems=found)


def _heard_of(task: TrueTask) -> bool:
    """Whether any of its callbacks got through."""
    return any(call.status == 200 for call in task.callbacks)


def _ends(evidence: Evidence) -> Iterator[str]:
    seen = {task.name: task.state for task in evidence.seen}
    true = {task.name: task.state for task in evidence.truth}
    for handed in evidence.handed:
        here, there = seen.get(handed.name, "unknown"), true.get(handed.name, "unknown")
        if here != there or (handed.job.fails and here != "failed"):
            yield f"{handed.name}: here it is {here}, at its provider {there}"


def _answers(evidence: Evidence) -> Iterator[str]:
    for task in evidence.truth:
        for call in () if task.is_signed_wrongly else task.callbacks:
            if call.status != 200 and not (evidence.outage and call.status is None):
                yield f"{task.name}: answered with {call.status or 'nothing'}"
        if len(task.callbacks) < task.calls:
            yield f"{task.name}: only {len(task.callbacks)} of {task.calls} callbacks were sent"


def _events(evidence: Evidence) -> Iterator[str]:
    times = Counter(event.subject for event in evidence.told)
    for name in sorted(times.keys() - {handed.name for handed in evidence.handed}):
        yield f"{name} is told, but nobody submitted it"
    told = {event.subject: event for event in evidence.told}
    true = {task.name: task for task in evidence.truth}
    ids = {task.name: task.event_id for task in evidence.seen}
    for handed in evidence.handed:
        name = handed.name
        if times[name] != 1:
            yield f"{name} is told {times[name]} times"
        elif name in true:
            event, task = told[name], true[name]
            for field, said, meant in (
                ("id", event.id, ids.get(name)),
                ("type", event.type, TYPES.get(task.state)),
                ("submission", event.data.submission_id, handed.submission_id),
                ("owner", event.data.owner, handed.job.owner),
                ("metadata", event.data.metadata, handed.job.metadata),
                ("error", event.data.error and event.data.error.message, task.simulate.error),
            ):
                if said != meant:
                    yield f"{name}: its {field} is {said!r}, not {meant!r}"


def _descriptions(evidence: Evidence) -> Iterator[str]:
    told = _told_images(evidence)
    for task, image in _each_image(evidence):
        found = told.pop((task.name, image.index), None)
        if found is None or found.state != "stored" or _facts(found) != _facts(image):
            yield f"{task.name}, image {image.index} is {_shown(found)}, at its provider {_shown(image)}"
    for name, index in told:
        yield f"{name}, image {index} is told, but its provider has none"


def _told_images(evidence: Evidence) -> dict[ImageKey, ToldImage]:
    return {(event.subject, image.index): image for event in evidence.told for image in event.data.assets}


def _each_image(evidence: Evidence) -> Iterator[tuple[TrueTask, TrueImage]]:
    for task in evidence.truth:
        for image in task.files:
            yield task, image


def _facts(image: ToldImage | TrueImage) -> tuple[object, ...]:
    return (image.media_type, image.bytes, image.width, image.height, image.sha256)


def _shown(image: ToldImage | TrueImage | None) -> str:
    if image is None or image.sha256 is None:
        return "nothing"
    size = f"{image.width}x{image.height}, {image.bytes} bytes"
    return f"{image.media_type}, {size}, SHA-256 {image.sha256[:12]}…"


def _links(evidence: Evidence) -> Iterator[str]:
    for task, image in _each_image(evidence):
        found = evidence.linked.get((task.name, image.index))
        if found is None:
            yield f"{task.name}, image {image.index}: no link"
        elif found.status != 200 or found.media_type != image.media_type or not _is_same(found, image):
            yield f"{task.name}, image {image.index}: {found.status}, {found.media_type}, {found.bytes} bytes"


def _is_same(found: Copy, image: TrueImage) -> bool:
    return (found.bytes, found.sha256) == (image.bytes, image.sha256)


def _files(evidence: Evidence) -> Iterator[str]:
    keys = {place: image.key for place, image in _told_images(evidence).items()}
    for task, image in _each_image(evidence):
        key = keys.get((task.name, image.index))
        found = evidence.files.get(key or "")
        if found is None or not _is_same(found, image):
            yield f"{task.name}, image {image.index}: {'other bytes' if found else 'no file'}"
    for key in sorted(evidence.files.keys() - set(keys.values())):
        yield f"{key} belongs to no image"


def _repeats(evidence: Evidence) -> Iterator[str]:
    """Checked on all tasks: one without repeats must not have any either.

    A callback that got no answer, as the service was stopped meanwhile, may be on record or not.
    """
    calls = {task.name: task.callbacks for task in evidence.truth}
    for task in evidence.seen:
        got = [call.verdict for call in calls.get(task.name, ()) if call.status == 200]
        most = len(got) + sum(call.status is None for call in calls.get(task.name, ()))
        counted = [delivery.seen for delivery in task.deliveries if delivery.is_true_callback]
        if len(counted) > 1 or not len(got) <= sum(counted) <= most:
            yield f"{task.name}: acknowledged {len(got)} times, on record as {counted}"
        if got.count("accepted") > 1 or set(got) - {"accepted", "duplicate", "early"}:
            yield f"{task.name}: answered with {', '.join(map(str, got))}"


def _early(evidence: Evidence) -> Iterator[str]:
    """Checks what came before a submission; an order's URL names it, so what comes before its answer counts.

    The simulator sends such a callback before it answers, and answers once it has been acknowledged.
    """
    answers = {task.name: {call.verdict for call in task.callbacks} for task in evidence.truth}
    seen = {task.name: task for task in evidence.seen}
    for handed in evidence.handed:
        was_early = "early" in answers.get(handed.name, set())
        if was_early != (handed.job.early and not handed.job.by_gateway):
            yield f"{handed.name}: its callback was {'early' if was_early else 'not early'}"
        elif handed.job.early:
            task = seen.get(handed.name)
            if task is None or not any(_is_matched(each, task, handed) for each in task.deliveries):
                yield f"{handed.name}: its early callback was not matched"


def _is_matched(delivery: SeenDelivery, task: SeenTask, handed: Handed) -> bool:
    """Whether it is an early callback that was accepted, by now or at once."""
    if delivery.verdict != "accepted" or delivery.via != "callback":
        return False
    if handed.job.by_gateway:
        return delivery.proof == "submission"
    return delivery.proof in {"provider", "signature"} and delivery.received_at <= task.submitted_at


def _silent(evidence: Evidence) -> Iterator[str]:
    """Checks that an answer to our question ended the task; ``_ends`` checks how."""
    seen = {task.name: task for task in evidence.seen}
    for task in evidence.truth:
        found = seen.get(task.name)
        if not _heard_of(task) and not (found and any(each.ended_by_poll for each in found.deliveries)):
            yield f"{task.name}: no callback came through, and no answer of its provider either"


def _lies(evidence: Evidence) -> Iterator[str]:
    seen = {task.name: task for task in evidence.seen}
    for task in evidence.truth:
        if task.forged_fetches:
            yield f"{task.name}: a forged link was fetched {task.forged_fetches} times"
    for name in _lied_about(evidence):
        found = seen.get(name)
        if not (found and any(each.verdict == "conflict" for each in found.deliveries)):
            yield f"{name}: the lie is not on record as one"


def _lied_about(evidence: Evidence) -> list[str]:
    """Tasks whose lie the service has heard. A lie is told once, and may find nobody in an outage."""
    unheard = {
        task.name
        for task in evidence.truth
        if evidence.outage and task.forgeries and all(call.status != 200 for call in task.forgeries)
    }
    return [each.name for each in evidence.handed if each.job.forged and each.name not in unheard]


def _signatures(evidence: Evidence) -> Iterator[str]:
    """Checks that they were refused; ``_silent`` checks that an answer ended their tasks."""
    for task in evidence.truth:
        for call in task.callbacks if task.is_signed_wrongly else ():
            if call.status != 401 and not (evidence.outage and call.status is None):
                yield f"{task.name}: a wrong signature was answered with {call.status or 'nothing'}"


def _costs(evidence: Evidence) -> Iterator[str]:
    """Checked on all orders whose model has a price here; a task that failed costs nothing on either side."""
    billed = {task.name: task.billed_micros for task in evidence.truth}
    for task in evidence.seen:
        booked = task.booked_micros
        if booked is not None and booked != billed.get(task.name):
            yield f"{task.name}: {booked} millionths of $ 1 are booked, {billed.get(task.name)} were billed"


def _forgery(evidence: Evidence) -> Iterator[str]:
    forgery = evidence.forgery
    if forgery.answer != 401:
        yield f"a lie about {forgery.victim} was answered with {forgery.answer}"
    known = sum(len(task.deliveries) for task in evidence.seen)
    if forgery.deliveries != known:
        yield f"{forgery.deliveries} deliveries are on record, of which {known} belong to our tasks"
