"""Everything that deliveries do to the record, for all that come together: read, judge, write.

First what the record says about all of them is read, then one after the other is judged on that, each seeing
what those before it came to, and then all is written. A refusal comes before the first write.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from receiver import payload
from receiver.errors import ReceiverError, Unavailable
from receiver.models import Outcome, Proof, Receipt, Recording, ReportState, Verdict, Via
from receiver.options import StoreOptions
from receiver.record import rules
from receiver.record.cursor import Cursor
from receiver.record.deliveries import Deliveries, Key
from receiver.record.polls import Polls
from receiver.record.replays import count_settled
from receiver.record.rows import ByKeys, find_rows
from receiver.record.rules import Claim, DeliveryRow, FilingKey, PollRow, SubmissionRow, TaskKey
from receiver.record.tasks import SELECT_TASK, TASKS, Events, Submissions

# The submission that has a task, with the end of that; and whether this body came with this claim before.
LIKELY = ByKeys(
    f"{SELECT_TASK}, d.claim, d.digest",
    f"{TASKS} LEFT JOIN deliveries d ON d.provider = s.provider AND d.task_id = s.task_id"
    " AND d.claim = {claim} AND d.digest = {digest}",
    key=["s.provider", "s.task_id"],
    beside=["claim", "digest"],
)


class _LikelyRow(SubmissionRow, frozen=True, kw_only=True, array_like=True, gc=False):
    """The submission that has a task; with a claim and a digest where such a body came before."""

    claim: str | None
    digest: str | None


def record_all(
    db: Cursor, recordings: Sequence[Recording], options: StoreOptions
) -> list[Receipt | ReceiverError]:
    """What becomes of deliveries, or why one is refused, in their order; see ``ports.Store.record``."""
    batch = Batch(db, options)
    batch.read(recordings)
    ends: list[Receipt | ReceiverError] = []
    for recording in recordings:
        try:
            ends.append(batch.judge(recording))
        except Unavailable as exc:
            ends.append(exc)
    batch.write()
    return ends


class Batch:
    """What the record says about some deliveries, and what it will say once they are written."""

    def __init__(self, db: Cursor, options: StoreOptions) -> None:
        self._db = db
        self._options = options
        self.submissions = Submissions(db)
        self.events = Events(db, options)
        self.deliveries = Deliveries(db)
        self._polls: Polls | None = None
        self._answered: list[tuple[str, datetime]] = []  # replays whose question a callback answered

    @property
    def polls(self) -> Polls:
        """The questions to providers, with which few deliveries have to do."""
        if self._polls is None:
            self._polls = Polls(self._db)
        return self._polls

    def read(self, recordings: Sequence[Recording]) -> None:
        """Read together what is needed of most; what is needed of few is read when they are judged."""
        first = self._read_likely(recordings)
        self.submissions.read_named(recordings)
        if first < len(recordings):
            keys: list[Key] = []
            to_bind: list[TaskKey] = []
            for each in recordings:
                named = self.submissions.named_by(each)
                task_id = each.report.task_id or (named.task_id if named else None)
                keys.append((*rules.filing_key_of(each, task_id), each.digest))
                if named is not None and named.task_id is None and task_id is not None:
                    to_bind.append((each.provider, task_id))
            self.deliveries.read(keys)
            self.deliveries.read_open(to_bind)

    def _read_likely(self, recordings: Sequence[Recording]) -> int:
        """Read whose the named tasks are, and which of these bodies came before; of how many none did."""
        asked: dict[Key, Key] = {}
        for each in recordings:
            if each.report.task_id is not None:
                provider, task_id, claim = rules.filing_key_of(each, each.report.task_id)
                asked[claim, each.digest, provider, task_id] = provider, task_id, claim, each.digest
        if not asked:
            return 0
        found = find_rows(self._db.execute(*LIKELY.of(list(asked))), _LikelyRow)
        self.submissions.know([key[:2] for key in asked.values()], found)
        for row in found:
            if row.digest is not None:
                # Perhaps twice: the last of all keys may have been asked for more than once.
                asked.pop((row.claim or "", row.digest, row.provider, row.task_id or ""), None)
        owner_of = self.submissions.of_task
        first = [key for key in asked.values() if owner_of(key[0], key[1]) is not None]
        self.deliveries.know(first)
        return len(first)

    def write(self) -> None:
        """Write all that was decided."""
        self.submissions.write()
        self.events.write()
        self.deliveries.write()
        if self._polls is not None:
            self._polls.write()
        for replay_id, now in self._answered:
            count_settled(self._db, replay_id, Outcome.ANSWERED.value, now)

    # --- a delivery -----------------------------------------------------------------------------------

    def judge(self, recording: Recording) -> Receipt:
        """Decide all that follows from one delivery. Raises Unavailable before anything is decided."""
        claim = self.claim_submission(recording)
        owner, task_id = claim.submission, claim.task_id
        if claim.is_refused:
            verdict = Verdict.REFUSED
        elif recording.report.state is not ReportState.UNCLEAR:
            verdict, owner = self.apply(recording, claim.proof, recording.received_at)
        else:
            verdict, owner = Verdict.UNRECOGNISED, owner or self._number_of(recording.provider, task_id)
        place = rules.filing_key_of(recording, task_id)
        known = self.deliveries.find(place, recording.digest)
        if verdict is Verdict.ACCEPTED:
            self._keep_accepted(recording, known, place, owner)
        else:
            self._keep(recording, known, verdict, place, owner, is_binding=claim.is_binding)
        if recording.via is Via.POLL:
            self._follow_answer(recording.provider, task_id, verdict)
        elif verdict is Verdict.UNCONFIRMED:
            self.tell_polls(verdict, owner, recording.provider, task_id, recording.received_at)
            verdict = rules.told_to_sender(
                is_repeat=known is not None and known.verdict is Verdict.UNCONFIRMED,
                must_confirm=rules.must_confirm(recording, claim.proof, self._options),
            )
        return Receipt(status=verdict, task_id=recording.report.task_id or task_id)

    def claim_submission(self, recording: Recording) -> Claim:
        """Check the token against the task, and bind a submission that is still free; what it proves."""
        named, asked = self.submissions.named_by(recording), recording.report.task_id
        of_task = None
        if named is not None and named.task_id is None:
            of_task = self.submissions.of_task(recording.provider, asked)
        claim = rules.claim_of(recording, named, of_task)
        if claim.is_binding and named is not None and asked is not None:
            self.submissions.bind(named, asked, recording.received_at)
            self.match_early(recording.provider, asked)
            if not rules.ends_alone(recording, self._options):
                self.schedule(recording.provider, asked, recording.received_at)
        return claim

    def apply(self, recording: Recording, proof: Proof, now: datetime) -> tuple[Verdict, int | None]:
        """What an understood delivery does to its task, and the submission that owns it; EARLY without one.

        ``proof`` is what it proves about that task (see ``rules.Claim``), which may be less than what it was
        received on. ``now`` is when a task without files ends. Polls are told by ``tell_polls``, once it is
        kept.
        """
        owner = self.submissions.of_task(recording.provider, recording.report.task_id)
        if owner is None:
            return Verdict.EARLY, None
        is_open = owner.fingerprint is None and self._is_open(recording, owner, proof, now)
        verdict = rules.verdict_of(recording, owner, is_open=is_open)
        if verdict is Verdict.ACCEPTED:
            self.events.add(recording, owner, now)
            self.submissions.end(owner, recording.fingerprint)
        return verdict, owner.number

    def _is_open(self, recording: Recording, owner: SubmissionRow, proof: Proof, now: datetime) -> bool:
        """Whether an end is none yet: it must be confirmed first, or files are still waited for."""
        if rules.must_confirm(recording, proof, self._options):
            return True
        if not payload.names_no_files(recording.report):
            return False
        said: list[DeliveryRow] = []
        if recording.report.task_id is not None:
            held = self.deliveries.open_of_task(recording.provider, recording.report.task_id)
            said = [row for row in held if rules.says(row, recording.fingerprint)]
        return rules.awaits_files(recording, owner, said, now, self._options)

    def _keep_accepted(
        self, recording: Recording, known: DeliveryRow | None, place: FilingKey, owner: int | None
    ) -> None:
        """File the delivery that ended its task. Usually it is the first, and there is nothing more to do.

        Its poll is left to whoever meets it; but what was held is told now whether it lied, as that may be
        long after.
        """
        self.deliveries.file(recording, Verdict.ACCEPTED, place, owner)
        provider, task_id, _ = place
        submission = self.submissions.of_task(provider, task_id)
        if submission is not None and submission.held:
            self.deliveries.settle_held(submission)
        if known is None:
            return
        if known.body_bytes is None:
            self.deliveries.renew(recording, place)
        # Its row is an old one: upkeep, which follows new ones to the polls they end, may be past it.
        self.tell_polls(Verdict.ACCEPTED, owner, provider, task_id, recording.received_at)

    def _keep(
        self,
        recording: Recording,
        known: DeliveryRow | None,
        verdict: Verdict,
        place: FilingKey,
        owner: int | None,
        *,
        is_binding: bool,
    ) -> None:
        """File a delivery that ended nothing, or count it on another one's row.

        Raises Unavailable where it would have to be kept and is too much. One that binds its submission is
        kept: it is the first that its token brings about that task.
        """
        if known is None or rules.is_spent(known):
            if not is_binding and self._is_too_much(recording, known, verdict, place, owner):
                self.deliveries.count_on_newest(recording, verdict, place)
                return
            if known is not None:
                self.deliveries.renew(recording, place)
        self.deliveries.file(recording, verdict, place, owner)

    def _is_too_much(
        self,
        recording: Recording,
        known: DeliveryRow | None,
        verdict: Verdict,
        place: FilingKey,
        owner: int | None,
    ) -> bool:
        """Whether one token brought one task so many such bodies that a new one is only counted."""
        if owner is None:
            kept = self.deliveries.count_ownerless(verdict)
            rules.refuse_ownerless(verdict, kept, self._options.early_limit)
            if rules.is_large(len(recording.body)):
                rules.refuse_large(verdict, self.deliveries.count_large(verdict))
        if not rules.is_one_more(known, place, owner):
            return False
        most = self._limit_reached(recording, verdict, place)
        if most is None:
            return False
        rules.refuse_alike(recording, verdict, most)
        return True

    def _limit_reached(self, recording: Recording, verdict: Verdict, place: FilingKey) -> int | None:
        """How many bodies of its kind there may be, if there are so many; large ones have their own limit."""
        waits = rules.waits(recording, verdict)
        most = rules.most_alike(waits=waits)
        if self.deliveries.count_alike(place, verdict, most, waits=waits) >= most:
            return most
        if not rules.is_large(len(recording.body)):
            return None
        kept = self.deliveries.count_large_alike(place, verdict)
        return rules.MOST_LARGE_ALIKE if kept >= rules.MOST_LARGE_ALIKE else None

    def _follow_answer(self, provider: str, task_id: str | None, verdict: Verdict) -> None:
        """Judge what waited for a provider's answer; one that ends nothing yet waits for the next, too."""
        owner = self.submissions.of_task(provider, task_id)
        if owner is None:
            return
        self.deliveries.settle_held(owner)
        poll = self.polls.find(owner.number) if verdict is Verdict.UNCONFIRMED else None
        if poll is not None:
            self.polls.put(replace(poll, held=True))
            self.submissions.hold(owner)

    # --- its submission and its poll ------------------------------------------------------------------

    def match_early(self, provider: str, task_id: str) -> bool:
        """Give early deliveries their owner now, if there are any; whoever reads next sees both or neither.

        What has to be confirmed is decided now, too: a key may have been set since they came.
        """
        rows = self.deliveries.open_of_task(provider, task_id)
        if not rows:
            return False
        now = self._options.clock.now()
        for row in rows:
            if row.submission is not None or row.verdict not in rules.OWNERLESS:
                continue
            said = rules.said_early(row)
            if said is None:
                known = rules.no_longer_early(row.verdict)
                owner, waits = self._number_of(provider, task_id), None
            else:
                # A token whose submission was in the log would not have left it early.
                known, owner = self.apply(said, rules.proof_about(said.proof, said.submission_id), now)
                waits = rules.waiting(said, known)
            self.deliveries.change(row, replace(row, verdict=known, submission=owner, waiting=waits))
            if said is not None:
                self.tell_polls(known, owner, provider, task_id, now)  # one before it may have been held
        return True

    def schedule(self, provider: str, task_id: str, since: datetime) -> None:
        """Ask about a task its provider's usual time after ``since``, unless it has ended or is asked about.

        Never where no time is given.
        """
        owner, first_seconds = self.submissions.of_task(provider, task_id), self._options.first_poll_seconds
        if owner is None or owner.fingerprint is not None or provider not in first_seconds:
            return
        if self.polls.find(owner.number) is None:
            due_at = since + timedelta(seconds=first_seconds[provider])
            self.polls.put(PollRow(number=owner.number, provider=provider, due_at=due_at))

    def tell_polls(
        self, verdict: Verdict, owner: int | None, provider: str, task_id: str | None, now: datetime
    ) -> None:
        """Have a task asked about whose end a callback holds open, and no more about one that has ended."""
        if owner is None or not task_id:
            return
        poll = self.polls.find(owner)
        submission = self.submissions.of_task(provider, task_id)
        if verdict is Verdict.UNCONFIRMED:
            self.polls.put(rules.held_poll(poll, owner, provider, now))
            if submission is not None:
                self.submissions.hold(submission)
        elif verdict is Verdict.ACCEPTED and poll is not None:
            self.polls.drop(owner)
            if poll.held and submission is not None:
                self.deliveries.settle_held(submission)
            if poll.replay_id is not None:
                self._answered.append((poll.replay_id, now))  # by a callback, before it was asked

    def _number_of(self, provider: str, task_id: str | None) -> int | None:
        owner = self.submissions.of_task(provider, task_id)
        return owner.number if owner else None
