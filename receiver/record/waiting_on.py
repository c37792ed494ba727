"""What a task waits for, in words for people."""

from collections.abc import Collection, Sequence

from receiver.models import AssetState, Event, Outcome, Poll, Verdict


def waiting_on(
    event: Event | None,
    poll: Poll | None,
    verdicts: Collection[Verdict],
    sinks: Sequence[str],
    *,
    is_held: bool,
    not_asked: str | None,
) -> str | None:
    """None where it waits for nothing.

    ``verdicts`` are those of its deliveries while it has no end, ``sinks`` those that are still to be told.
    ``is_held`` says that a callback waits for the provider's confirmation, ``not_asked`` why the provider is
    not asked, where it is not.
    """
    if event is None:
        return _for_an_end(poll, is_held, not_asked) + _unread(poll, verdicts)
    return _after_the_end(event, sinks)


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


def _unread(poll: Poll | None, verdicts: Collection[Verdict]) -> str:
    """What a release that understands more could end the task with, if there is anything."""
    is_unread = poll is not None and poll.outcome is Outcome.UNREADABLE
    if is_unread or Verdict.UNRECOGNISED in verdicts:
        return "; it gave an answer that is not understood"
    return ""


def _after_the_end(event: Event, sinks: Sequence[str]) -> str | None:
    pending = [asset for asset in event.assets if asset.state is AssetState.PENDING]
    if pending:
        last = next((f", last try: {asset.outcome}" for asset in pending if asset.outcome), "")
        return f"{len(pending)} of {len(event.assets)} files{last}"
    return f"sink {', '.join(sinks)}" if sinks else None
