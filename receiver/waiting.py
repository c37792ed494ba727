"""What a task waits for, in words for people."""

from collections.abc import Sequence

from receiver.models import Delivery, Event, OutboxEntry, Poll
from receiver.words import AssetState, OutboxState, Outcome, Verdict


def waiting_on(
    event: Event | None,
    poll: Poll | None,
    deliveries: Sequence[Delivery],
    notifications: Sequence[OutboxEntry],
    *,
    is_held: bool,
    not_asked: str | None,
) -> str | None:
    """None where it waits for nothing.

    ``is_held`` says that a callback waits for the provider's confirmation, ``not_asked`` why the provider is
    not asked, where it is not.
    """
    if event is None:
        return _for_an_end(poll, is_held, not_asked) + _unread(poll, deliveries)
    return _after_the_end(event, notifications)


def _for_an_end(poll: Poll | None, is_held: bool, not_asked: str | None) -> str:
    """What a task without an end waits for, in words for people."""
    what = "the provider's confirmation" if is_held else "the provider's callback"
    if poll is not None and poll.outcome is Outcome.NO_FILES:
        what = "the files: the provider reported success and named none"
    if not_asked:
        return f"{what}; it cannot be asked: {not_asked}"
    if poll is None or poll.outcome is None:
        return what
    times = "once" if poll.asked == 1 else f"{poll.asked} times"
    return f"{what if is_held else 'the provider'}, asked {times}, last: {poll.outcome}"


def _unread(poll: Poll | None, deliveries: Sequence[Delivery]) -> str:
    """What a release that understands more could end the task with, if there is anything."""
    is_unread = poll is not None and poll.outcome is Outcome.UNREADABLE
    if is_unread or any(each.verdict is Verdict.UNRECOGNISED for each in deliveries):
        return "; it gave an answer that is not understood"
    return ""


def _after_the_end(event: Event, notifications: Sequence[OutboxEntry]) -> str | None:
    pending = [asset for asset in event.assets if asset.state is AssetState.PENDING]
    if pending:
        last = next((f", last try: {asset.outcome}" for asset in pending if asset.outcome), "")
        return f"{len(pending)} of {len(event.assets)} files{last}"
    sinks = [entry.sink for entry in notifications if entry.state is OutboxState.PENDING]
    return f"sink {', '.join(sinks)}" if sinks else None
