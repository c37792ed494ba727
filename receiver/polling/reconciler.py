"""One due poll: ask the provider, record its answer or plan the next question; renews dead links, too.

A poll result enters by the same door as a callback, so that both at once make one event.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from receiver.clock import Clock, Leaps
from receiver.ingest import Ingest, links_die_at
from receiver.links import match_links
from receiver.models import (
    AssetWork,
    Confirm,
    KeptDelivery,
    Outcome,
    PollWork,
    Proof,
    Renewal,
    Settlement,
    Verdict,
)
from receiver.polling.answers import Answer
from receiver.polling.circuit import PROVIDER_FAILURES
from receiver.polling.status_client import StatusClient
from receiver.polling.turns import SharedTurns
from receiver.ports import Provider, Store
from receiver.replay import read_again
from receiver.times import to_text

log = structlog.get_logger()

GROWTH = 1.5  # from one wait to the next
LONGEST_WAIT_SECONDS = 900.0
JITTER = 0.1  # of a wait, either way: tasks that were submitted together are not asked about together
# Where only a new release, or a model, will help, the waits grow with the task's age up to a day: many such
# tasks must not use up a provider's rate.
RARE_WAIT_OF_AGE = 1 / 4
LONGEST_RARE_WAIT_SECONDS = 86_400.0
NO_MODEL_WAIT_SECONDS = 3600.0  # nobody is even asked
FILES_SPACING_SECONDS = 60.0  # a provider that reports success is soon asked for the files again
JUDGED_AT_ONCE = 50
JUDGING_SECONDS = 60.0
# Those who were sent away come again one after the other, in this part of their own wait.
SPREAD = 1 / 15

# The provider says that the task has ended; what is more, the record goes on from here.
_TOLD = frozenset({Outcome.ANSWERED, Outcome.NO_FILES})
_ENDED = frozenset({Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.CONFLICT})
# What the operator can mend: while it stands, no task is given up for it.
MENDABLE = frozenset({Outcome.KEY_REFUSED, Outcome.OUT_OF_CREDIT})
# What only a new release, or a model, makes better: so long after its submission a task waits for that.
NOT_UNDERSTOOD = frozenset({Outcome.UNREADABLE, Outcome.NO_MODEL, Outcome.CRASHED})
MENDING_TIME = timedelta(days=7)
# Nobody asked about a task, for the provider was away: for less than this it is not given up.
UNASKED_LOSS = timedelta(hours=1)

# A provider that cannot be asked now is no reason to give up a file; but some time its event has to end.
MOST_ATTEMPTS_UNASKED = 50

_WEAK = frozenset({Proof.PROVIDER, Proof.NONE})


def told_in_parts(providers: Mapping[str, Provider], status_client: StatusClient) -> frozenset[str]:
    """The providers whose callbacks have a part of a result, and that can be asked for the whole."""
    asked = filter(status_client.can_ask, providers)
    return frozenset(name for name in asked if not providers[name].facts.tells_all)


def confirmation(
    policy: Confirm, status_client: StatusClient, in_parts: Collection[str] = ()
) -> Callable[[str, Proof], bool]:
    """Whether a callback with some proof counts only once the provider's status answer says the same.

    Where the provider cannot be asked, ``weak`` trusts the callback; ``always`` holds it until it can. What
    providers ``in_parts`` say is never all, whatever proves it: they can be asked.
    """

    def confirms(provider: str, proof: Proof) -> bool:
        if provider in in_parts:
            return True
        if policy is Confirm.WEAK:
            return proof in _WEAK and status_client.can_ask(provider)
        return policy is Confirm.ALWAYS

    return confirms


class Reconciler:
    """Asks about leased tasks, and says in one line of the log how each question ended."""

    def __init__(
        self,
        *,
        store: Store,
        status_client: StatusClient,
        ingest: Ingest,
        providers: Mapping[str, Provider],
        clock: Clock,
        lost_after_seconds: float,
        turns: SharedTurns | None = None,
    ) -> None:
        self._turns = turns
        self._store = store
        self._status_client = status_client
        self._ingest = ingest
        self._providers = providers
        self._clock = clock
        self._leaps = Leaps(clock)
        self._lost_after = timedelta(seconds=lost_after_seconds)

    async def lease(self, provider: str, now: datetime, until: datetime, limit: int) -> list[PollWork]:
        """Take up to ``limit`` due tasks, no more than the provider's pace allows now.

        While the provider cannot be asked for long, all due tasks are taken and told so at once.
        """
        room = (
            limit
            if self._status_client.turns_away(provider)
            else min(limit, self._status_client.room(provider))
        )
        return await self._store.lease_polls(provider, now, until, room) if room else []

    async def next_due_at(self, provider: str) -> datetime | None:
        """When ``lease`` will have something to take: a task is due, and the pace allows a question."""
        due_at = await self._store.next_due_at("polls", provider)
        if due_at is None or self._status_client.turns_away(provider):
            return due_at
        return max(due_at, self._status_client.free_at(provider))

    async def run(self, work: PollWork) -> Settlement:
        """Ask about one task, record what that means for it, and settle the question.

        Raises nothing about the provider. Raises Unavailable when the store cannot record or settle: the
        lease runs out and the provider is asked again, as it is after a cancellation.
        """
        started_at = self._clock.now()
        if work.held and await self._counts(await self._store.list_held(work)):
            return await self._settle_judged(work, started_at)
        answer = await self._status_client.ask(work.provider, work.task_id, work.model, work.upstream_key)
        now = self._clock.now()
        settlement = Settlement(
            outcome=answer.outcome,
            started_at=started_at,
            settled_at=now,
            retry_at=None if answer.outcome is Outcome.ANSWERED else self._retry_at(work, answer, now),
            detail=answer.detail,
        )
        settled = False
        try:
            settlement = await self._conclude(work, answer, settlement)
            settled = await self._store.settle_poll(work, settlement)
        finally:
            _log(work, settlement, asked=answer.asked, settled=settled)
        return settlement

    async def _conclude(self, work: PollWork, answer: Answer, settlement: Settlement) -> Settlement:
        """Record what an answer means for its task: an end, a task that is lost, or another question."""
        now = settlement.settled_at
        is_late = now >= work.submitted_at + self._lost_after
        # A callback may have come while we asked: an end, or one that asks for another question.
        came = await self._store.get_verdicts(work.provider, work.task_id) if is_late else frozenset()
        is_unread = answer.outcome in NOT_UNDERSTOOD or (came is not None and Verdict.UNRECOGNISED in came)
        patience = max(self._lost_after, MENDING_TIME) if is_unread else self._lost_after
        is_over = self._is_over(work, answer, patience, now)
        if is_over and came is not None and (work.held or Verdict.UNCONFIRMED not in came):
            reason = (
                f"no result within {patience.total_seconds():g} s and {work.attempt}"
                f" attempts to ask the provider, the last with the outcome {settlement.outcome}"
            )
            if is_unread:
                reason += "; something came that is not understood"
            if work.held:
                reason += "; a callback came, which it did not confirm"
            await self._ingest.mark_lost(work.provider, work.task_id, reason, settlement.settled_at)
            return msgspec.structs.replace(settlement, outcome=Outcome.LOST, detail=reason, retry_at=None)
        if answer.report is not None and answer.outcome is not Outcome.IN_PROGRESS:
            receipt = await self._ingest.accept_answer(work.provider, answer.report, answer.body, now)
            if receipt.status in _ENDED:
                return msgspec.structs.replace(settlement, retry_at=None)
        if is_unread and answer.outcome not in _TOLD:
            return msgspec.structs.replace(settlement, retry_at=self._rare_retry_at(work, answer, now))
        return settlement

    async def judge_unasked(self) -> None:
        """Judge held callbacks of providers that cannot be asked as if they came now; look again later.

        Raises Unavailable when the store cannot.
        """
        for provider in self._providers:
            if self._status_client.can_ask(provider):
                continue
            now = self._clock.now()
            until = now + timedelta(seconds=JUDGING_SECONDS)
            while (due_at := await self._store.next_due_at("held", provider)) is not None and due_at <= now:
                works = await self._store.lease_polls(provider, now, until, JUDGED_AT_ONCE, held_only=True)
                for work in works:
                    judged_at = self._clock.now()
                    found = await self._store.list_held(work)
                    if await self._counts(found):
                        await self._settle_judged(work, judged_at)
                        continue
                    # Either it waits for its files, or for somebody to set a key.
                    outcome = Outcome.NO_FILES if found else Outcome.KEY_REFUSED
                    seconds = FILES_SPACING_SECONDS if found else LONGEST_RARE_WAIT_SECONDS
                    again = Settlement(
                        outcome=outcome,
                        started_at=judged_at,
                        settled_at=judged_at,
                        retry_at=judged_at + timedelta(seconds=seconds),
                    )
                    await self._store.settle_poll(work, again)

    async def _counts(self, found: Sequence[KeptDelivery]) -> bool:
        """Whether one of the held callbacks ends the task now.

        It may: the key was taken away since, the policy changed, or its files were waited for long enough.
        """
        if not found:
            return False
        read = await read_again(self._providers, found, self._ingest.in_parts)
        return await self._ingest.judge_held(read, self._clock.now())

    async def _settle_judged(self, work: PollWork, started_at: datetime) -> Settlement:
        settlement = Settlement(
            outcome=Outcome.ANSWERED,
            started_at=started_at,
            settled_at=self._clock.now(),
            detail="a callback that was held counts now",
        )
        settled = await self._store.settle_poll(work, settlement)
        _log(work, settlement, asked=False, settled=settled)
        return settlement

    def _retry_at(self, work: PollWork, answer: Answer, now: datetime) -> datetime:
        lost_at = work.submitted_at + self._lost_after
        spacing = self._providers[work.provider].facts.poll_spacing_seconds
        seconds = wait_seconds(work.attempt, spacing, self._clock.random())
        wish = answer.retry_after_seconds or 0.0
        if not answer.asked:
            # The newest first: an old one may be what the provider stumbles over.
            seconds = max(seconds, min(wish, LONGEST_WAIT_SECONDS) + seconds * SPREAD)
        elif answer.outcome is Outcome.NO_FILES:
            seconds = max(min(seconds, FILES_SPACING_SECONDS), wish)
        elif answer.outcome not in MENDABLE:  # those are over once somebody has mended them
            seconds = max(seconds, wish)
        retry_at = now + timedelta(seconds=seconds)
        return min(retry_at, lost_at) if lost_at > now else retry_at

    def _rare_retry_at(self, work: PollWork, answer: Answer, now: datetime) -> datetime:
        """When to ask again where only somebody's work will bring another answer."""
        age = now - work.submitted_at
        spacing = self._providers[work.provider].facts.poll_spacing_seconds
        seconds = rare_wait_seconds(work.attempt, spacing, age.total_seconds(), self._clock.random())
        if answer.outcome is Outcome.NO_MODEL:
            seconds = max(seconds, NO_MODEL_WAIT_SECONDS)
        retry_at = now + timedelta(seconds=max(seconds, answer.retry_after_seconds or 0.0))
        given_up_at = work.submitted_at + max(self._lost_after, MENDING_TIME)
        return min(retry_at, given_up_at) if given_up_at > now else retry_at

    def _is_over(self, work: PollWork, answer: Answer, patience: timedelta, now: datetime) -> bool:
        """Whether a task was waited for long enough, and nobody can make the next answer a better one."""
        # After a leap of the clock a task has as long again: it may be no older than a minute. Looked at each
        # time, as leaps are told from one look to the next.
        if not self._leaps.lived(patience) or now < work.submitted_at + patience:
            return False
        if answer.outcome in _TOLD or answer.outcome is Outcome.KEY_GONE:
            return False
        lasting, key = self._status_client.lasting, work.upstream_key
        if answer.outcome in MENDABLE:  # by the operator
            return lasting(work.provider, MENDABLE, key) is None
        # A provider that was not asked may answer in a little while.
        away_for = None if answer.asked else lasting(work.provider, {answer.outcome}, key)
        return away_for is None or away_for >= UNASKED_LOSS

    async def renew(self, work: AssetWork) -> Renewal | None:
        """Ask for an asset's link anew; None where its provider cannot be asked, or could not for long."""
        if not self._status_client.can_ask(work.provider) or work.attempt > MOST_ATTEMPTS_UNASKED:
            return None
        again_at = self._status_client.out_of_turn(work.provider)
        if again_at is None and self._turns and not await self._turns.take(work.provider):
            gap = self._status_client.gap_out_of_turn(work.provider)
            again_at = self._clock.now() + gap * (1 + self._clock.random())  # not all at once
        if again_at is not None:
            detail = "a new link will be asked for when the provider's pace allows"
            return Renewal(at=self._clock.now(), detail=detail, retry_at=again_at)
        key = None
        if self._status_client.has_several_keys(work.provider):
            standing = await self._store.get_standing(work.provider, work.task_id)
            key = standing.order.upstream_key if standing is not None and standing.order is not None else None
        answer = await self._status_client.ask(work.provider, work.task_id, work.model, key)
        if answer.outcome in PROVIDER_FAILURES:
            if self._turns:
                await self._turns.close(work.provider)
            detail = f"a new link could not be asked for: {answer.outcome}"
            again_at = self._status_client.free_at(work.provider)
            return Renewal(at=self._clock.now(), detail=detail, retry_at=again_at)
        now = self._clock.now()
        files = answer.report.files if answer.report is not None else ()
        known = await self._store.list_links(work.provider, work.task_id) if files else []
        links = match_links(known, [file.url for file in files])
        is_new = links.get(work.index, work.url) != work.url
        return Renewal(
            at=now,
            detail="link renewed" if is_new else f"the provider has no other link: {answer.outcome}",
            links=links,
            links_die_at=links_die_at(self._providers[work.provider], now),
        )


def wait_seconds(asked: int, spacing_seconds: float, chance: float) -> float:
    """How long to wait after question number ``asked`` (from 1); pure. ``chance`` is in [0, 1)."""
    # The exponent is bounded, lest a number that is asked for years overflow.
    growing = spacing_seconds * GROWTH ** min(asked - 1, 40)
    return min(growing, LONGEST_WAIT_SECONDS) * (1 - JITTER + 2 * JITTER * chance)


def rare_wait_seconds(asked: int, spacing_seconds: float, age_seconds: float, chance: float) -> float:
    """How long to wait where the next answer will hardly be another; pure. ``chance`` is in [0, 1)."""
    growing = spacing_seconds * GROWTH ** min(asked - 1, 40)
    longest = min(max(LONGEST_WAIT_SECONDS, age_seconds * RARE_WAIT_OF_AGE), LONGEST_RARE_WAIT_SECONDS)
    return min(growing, longest) * (1 - JITTER + 2 * JITTER * chance)


def _log(work: PollWork, settlement: Settlement, *, asked: bool, settled: bool) -> None:
    retry_at = settlement.retry_at
    unusual = settlement.outcome not in {Outcome.ANSWERED, Outcome.IN_PROGRESS}
    write = log.warning if unusual else log.info
    if not asked and retry_at:  # the provider's state has a line of its own
        write = log.debug
    write(
        "poll.settled",
        provider=work.provider,
        task_id=work.task_id,
        outcome=settlement.outcome.value,
        detail=settlement.detail,
        attempt=work.attempt,
        asked=asked,
        seconds=round((settlement.settled_at - settlement.started_at).total_seconds(), 3),
        retry_at=to_text(retry_at) if retry_at else None,
        # False: the lease was lost, to a callback or to somebody else, or the store is away.
        settled=settled,
    )
