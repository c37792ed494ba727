"""Everything that one delivery does to the tables, inside one transaction.

Ownership first, then the event, then the delivery that remembers the verdict.
"""

from receiver.models import Receipt, Recording, ReportState, Verdict, Via
from receiver.options import StoreOptions
from receiver.record import deliveries, events, polls, submissions
from receiver.record.cursor import Cursor


def record(db: Cursor, recording: Recording, options: StoreOptions) -> Receipt:
    """Everything that follows from one delivery; see ``ports.Store.record``."""
    claim = submissions.find_claimed(db, recording, options)
    owner, task_id = claim.submission, claim.task_id
    if claim.is_refused:
        verdict = Verdict.REFUSED
    elif recording.report.state is not ReportState.UNCLEAR:
        verdict, owner = events.apply(db, recording, claim.proof, options, recording.received_at)
    else:
        verdict = Verdict.UNRECOGNISED
        owner = owner or events.owner_of(db, recording.provider, task_id)
    place = deliveries.place_of(recording, task_id)
    is_repeat = verdict is Verdict.UNCONFIRMED and deliveries.is_held(db, recording, place)
    if verdict is Verdict.ACCEPTED:
        _keep_accepted(db, recording, place, owner)
    elif deliveries.is_kept(db, recording, verdict, place, owner, options):
        deliveries.keep(db, recording, verdict, place, owner)
    if recording.via is Via.POLL:
        _follow_answer(db, recording, verdict, task_id, owner)
    elif verdict is Verdict.UNCONFIRMED:
        events.tell_polls(db, verdict, owner, recording.provider, task_id, recording.received_at)
        # That it has to be confirmed is not the sender's business.
        must_confirm = events.must_confirm(recording, claim.proof, options)
        verdict = Verdict.DUPLICATE if is_repeat and not must_confirm else Verdict.ACCEPTED
    return Receipt(status=verdict, task_id=recording.report.task_id or task_id)


def _follow_answer(
    db: Cursor, recording: Recording, verdict: Verdict, task_id: str | None, owner: int | None
) -> None:
    """Judge what waited for a provider's answer; one that ends nothing yet waits for the next, too."""
    if task_id is not None:
        polls.settle_held(db, recording.provider, task_id)
    if verdict is Verdict.UNCONFIRMED and owner is not None:
        polls.hold_answer(db, owner)


def _keep_accepted(db: Cursor, recording: Recording, place: deliveries.Place, owner: int | None) -> None:
    """File the delivery that ended its task. Usually it is new, and there is nothing more to do."""
    if deliveries.keep(db, recording, Verdict.ACCEPTED, place, owner) > 1:
        deliveries.renew(db, recording, place)
        # Its row is an old one: upkeep, which follows new ones to the polls they end, may be past it.
        provider, task_id, _ = place
        events.tell_polls(db, Verdict.ACCEPTED, owner, provider, task_id, recording.received_at)
