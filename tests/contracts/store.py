"""What every store must do, whatever it is made of. A backend's test class brings ``open_store``."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from receiver.errors import Rejected, Unavailable
from receiver.models import (
    MOST_SHOWN,
    AssetState,
    EventType,
    OutboxState,
    Outcome,
    Receipt,
    Report,
    Route,
    SubmissionFilter,
    TaskFilter,
    TaskReference,
    TaskState,
    Verdict,
    WorkFilter,
)
from receiver.ports import Store
from receiver.problem_types import ProblemType
from receiver.times import to_text
from tests.contracts.replaying import requeue_dead
from tests.support.factories import (
    NOW,
    answer,
    completed,
    failed,
    indexes,
    inline,
    later,
    progress,
    recording,
    settlement,
    stored,
    submission,
    unclear,
)
from tests.support.messages import TRACEPARENT
from tests.support.settling import settle_outbox

ROUTES = (Route(sink="all"), Route(sink="failures", types=frozenset({"task.failed"})))
EARLY_LIMIT = 5

OpenStore = Callable[[], Awaitable[Store]]


async def ends(said: Awaitable[Receipt]) -> Receipt | Unavailable:
    """A receipt, or why there is none."""
    try:
        return await said
    except Unavailable as exc:
        return exc


async def log_many_deliveries(store: Store, count: int) -> None:
    """A task of which so many tokens said, one a second, that it goes on."""
    await store.log_submission(submission("t1"))
    for first in range(0, count, 100):
        token = submission(None)
        await store.log_submission(token)
        said = [
            recording(
                progress("t1"), body=str(number).encode(), received_at=later(number), submission_id=token.id
            )
            for number in range(first, min(first + 100, count))
        ]
        await asyncio.gather(*map(store.record, said))


class StoreContract:
    """Subclasses give an ``open_store`` fixture that opens the same record again and again."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    # --- one task ends once ---------------------------------------------------------------------------

    async def test_the_first_terminal_callback_of_an_owned_task_is_accepted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        receipt = await store.record(recording(completed("t1", files=2)))

        task = await store.get_task("vidgo", "t1")
        assert receipt.status is Verdict.ACCEPTED
        assert task is not None
        assert task.state is TaskState.FETCHING
        assert task.event is not None
        assert [asset.state for asset in task.event.assets] == [AssetState.PENDING] * 2

    async def test_a_repeat_changes_nothing_but_a_counter(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        before = await store.get_task("vidgo", "t1")

        receipts = [await store.record(recording(completed("t1"), received_at=later(9))) for _ in range(3)]

        after = await store.get_task("vidgo", "t1")
        assert before is not None
        assert after is not None
        assert {receipt.status for receipt in receipts} == {Verdict.DUPLICATE}
        assert after.event == before.event
        assert [(d.seen, d.last_seen_at) for d in after.deliveries] == [(4, later(9))]

    async def test_another_body_with_the_same_meaning_is_a_duplicate(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), body=b"first"))

        receipt = await store.record(recording(completed("t1"), body=b"second"))

        assert receipt.status is Verdict.DUPLICATE

    @pytest.mark.parametrize("second", [failed("t1"), completed("t1", files=3)])
    async def test_the_first_terminal_state_wins_and_the_other_is_kept(
        self, store: Store, second: object
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        before = await store.get_event("vidgo", "t1")

        receipt = await store.record(recording(second))  # type: ignore[arg-type]

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert receipt.status is Verdict.CONFLICT
        assert task.event == before
        assert [d.verdict for d in task.deliveries] == [Verdict.ACCEPTED, Verdict.CONFLICT]

    async def test_progress_ends_nothing_before_or_after_the_end(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        before = await store.record(recording(progress("t1"), body=b"1"))
        await store.record(recording(failed("t1")))
        after = await store.record(recording(progress("t1"), body=b"2"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert (before.status, after.status) == (Verdict.PROGRESS, Verdict.PROGRESS)
        assert task.state is TaskState.FAILED

    async def test_of_a_hundred_at_once_exactly_one_is_accepted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        receipts = await asyncio.gather(*(store.record(recording(completed("t1"))) for _ in range(100)))

        verdicts = [receipt.status for receipt in receipts]
        assert verdicts.count(Verdict.ACCEPTED) == 1
        assert verdicts.count(Verdict.DUPLICATE) == 99

    async def test_the_same_task_id_at_two_providers_is_two_tasks(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="vidgo"))
        await store.log_submission(submission("t1", provider="apidot"))

        first = await store.record(recording(completed("t1"), provider="vidgo"))
        second = await store.record(recording(failed("t1"), provider="apidot"))

        assert (first.status, second.status) == (Verdict.ACCEPTED, Verdict.ACCEPTED)

    async def test_a_bad_row_fails_alone(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        bad = msgspec.structs.replace(recording(completed("t1")), fingerprint=None)
        works = [store.record(bad), store.record(recording(completed("t1"))), store.ping()]

        results = await asyncio.gather(*works, return_exceptions=True)

        assert isinstance(results[0], Exception)
        assert getattr(results[1], "status", None) is Verdict.ACCEPTED
        assert results[2] is None

    async def test_what_was_answered_is_there_after_opening_again(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        await store.aclose()

        again = await open_store()

        receipt = await again.record(recording(completed("t1")))
        await again.aclose()
        assert receipt.status is Verdict.DUPLICATE

    # --- ownership ------------------------------------------------------------------------------------

    async def test_a_strangers_task_makes_no_event_and_is_not_found(self, store: Store) -> None:
        receipt = await store.record(recording(completed("stranger")))

        assert receipt.status is Verdict.EARLY
        assert await store.get_event("vidgo", "stranger") is None
        assert await store.get_task("vidgo", "stranger") is None
        assert await store.lease_assets(later(60), later(90), 10) == []

    async def test_an_early_callback_is_matched_by_the_transaction_that_logs_its_submission(
        self, store: Store
    ) -> None:
        await store.record(recording(progress("t1"), body=b"0"))
        await store.record(recording(completed("t1"), body=b"1"))
        await store.record(recording(failed("t1"), body=b"2"))

        await store.log_submission(submission("t1"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert task.state is TaskState.FETCHING
        assert [d.verdict for d in task.deliveries] == [Verdict.PROGRESS, Verdict.ACCEPTED, Verdict.CONFLICT]
        assert len(await store.lease_assets(later(1), later(60), 10)) == 1

    async def test_an_early_callback_is_matched_when_a_reservation_is_bound(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        await store.record(recording(failed("t1")))

        await store.bind_submission(reserved.id, "t1", NOW)

        event = await store.get_event("vidgo", "t1")
        assert event is not None
        assert (event.type, event.error_code, event.error_message) == (EventType.FAILED, "nsfw", "refused")

    async def test_the_same_key_finds_its_reservation_and_the_callback_that_bound_it(
        self, store: Store
    ) -> None:
        reserved = msgspec.structs.replace(submission(None), key="a-hash")
        assert await store.log_submission(reserved) == (reserved, True)
        assert await store.log_submission(msgspec.structs.replace(reserved, id="sub_2")) == (reserved, False)
        await store.bind_submission(reserved.id, "t1", NOW)

        row, is_new = await store.log_submission(msgspec.structs.replace(reserved, id="sub_3"))

        assert (row.id, row.task_id, is_new) == (reserved.id, "t1", False)

    async def test_a_key_with_another_order_is_refused(self, store: Store) -> None:
        reserved = msgspec.structs.replace(submission(None), key="a-hash")
        await store.log_submission(reserved)

        with pytest.raises(Rejected):
            await store.log_submission(msgspec.structs.replace(submission(None, owner="x"), key="a-hash"))
        assert (await store.count_stats()).submissions == 1

    async def test_a_withdrawn_reservation_is_new_once_more_by_its_key(self, store: Store) -> None:
        reserved = msgspec.structs.replace(submission(None), key="a-hash")
        await store.log_submission(reserved)
        await store.withdraw_submission(reserved.id, later(1))

        again = await store.log_submission(msgspec.structs.replace(reserved, id="sub_2", created_at=later(2)))

        assert again == (reserved, True)
        assert await store.get_submission(reserved.id) == reserved

    async def test_early_callbacks_are_bounded_but_a_known_one_may_repeat(self, store: Store) -> None:
        for number in range(EARLY_LIMIT):
            await store.record(recording(completed(f"early-{number}")))
        before = await store.count_stats()

        with pytest.raises(Unavailable):
            await store.record(recording(completed("one-too-many")))
        assert await store.count_stats() == before
        repeat = await store.record(recording(completed("early-0")))

        assert repeat.status is Verdict.EARLY

    async def test_an_early_callback_that_nobody_claims_becomes_unowned(self, store: Store) -> None:
        await store.record(recording(completed("t1")))

        assert await store.expire_early(later(-1), 10) == 0
        assert await store.expire_early(later(1), 10) == 1
        await store.log_submission(submission("t1"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.verdict, d.bytes) for d in task.deliveries] == [(Verdict.UNOWNED, 0)]
        assert task.event is None

    async def test_what_was_not_understood_and_is_nobodys_is_kept_until_retention_and_then_unowned(
        self, store: Store
    ) -> None:
        for report in (unclear("t1"), unclear(None)):
            await store.record(recording(report))

        assert await store.expire_early(later(1), 10) == 0
        assert (await store.count_stats()).deliveries == {"unrecognised": 2}
        while await store.purge(later(1), 10):
            pass
        assert (await store.count_stats()).deliveries == {"unowned": 2}
        await store.log_submission(submission("t1"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.verdict, d.bytes) for d in task.deliveries] == [(Verdict.UNOWNED, 0)]

    async def test_what_an_owner_has_does_not_become_unowned_though_it_was_not_understood(
        self, store: Store
    ) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        await store.log_submission(submission("before"))
        for task_id in ("before", "after", "bound"):
            await store.record(recording(unclear(task_id)))
        await store.log_submission(submission("after"))
        await store.bind_submission(reserved.id, "bound", NOW)

        while await store.purge(later(1), 10):
            pass

        for task_id in ("before", "after", "bound"):
            task = await store.get_task("vidgo", task_id)
            assert task is not None
            assert [(d.verdict, d.bytes > 0) for d in task.deliveries] == [(Verdict.UNRECOGNISED, True)]

    async def test_what_was_not_understood_makes_room_once_its_submission_is_logged(
        self, store: Store
    ) -> None:
        for number in range(EARLY_LIMIT):
            await store.record(recording(unclear(f"t{number}")))
        with pytest.raises(Unavailable):
            await store.record(recording(unclear("another")))

        await store.log_submission(submission("t0"))

        assert (await store.record(recording(unclear("another")))).status is Verdict.UNRECOGNISED

    async def test_what_nobody_owns_is_bounded_however_long_ago_it_came(self, store: Store) -> None:
        for number in range(EARLY_LIMIT):
            await store.record(recording(completed(f"t{number}")))

        with pytest.raises(Unavailable):
            await store.record(recording(completed("early"), received_at=later(10**8)))
        assert await store.expire_early(later(1), 1) == 1

        assert (await store.record(recording(completed("early")))).status is Verdict.EARLY

    async def test_what_nobody_understands_keeps_out_nothing_that_is_only_early(self, store: Store) -> None:
        for number in range(EARLY_LIMIT):
            await store.record(recording(unclear(f"t{number}")))

        assert (await store.record(recording(completed("early")))).status is Verdict.EARLY

    @pytest.mark.parametrize("report", [completed("t1"), unclear("t1"), progress("t1")])
    async def test_an_unowned_callback_that_comes_again_is_bounded_like_a_new_one(
        self, store: Store, report: Report
    ) -> None:
        await store.record(recording(report))
        await store.expire_early(later(1), 10)
        while await store.purge(later(1), 10):
            pass
        for number in range(EARLY_LIMIT):
            await store.record(recording(completed(f"early-{number}"), received_at=later(2)))
            await store.record(recording(unclear(f"odd-{number}"), received_at=later(2)))
        before = await store.count_stats()

        with pytest.raises(Unavailable):
            await store.record(recording(report, received_at=later(3)))

        assert await store.count_stats() == before
        await store.log_submission(submission("t1"))
        assert (await store.record(recording(report))).status in {
            Verdict.ACCEPTED,
            Verdict.UNRECOGNISED,
            Verdict.PROGRESS,
        }

    async def test_an_unowned_callback_that_was_not_understood_is_looked_at_again(self, store: Store) -> None:
        odd = recording(unclear("t1"), received_at=later(5))
        for _ in range(2):
            assert (await store.record(odd)).status is Verdict.UNRECOGNISED
            while await store.purge(later(6), 10):
                pass
            assert (await store.count_stats()).deliveries == {"unowned": 1}
        report = completed("t1")

        receipt = await store.record(recording(report, body=odd.body, received_at=later(7)))

        assert receipt.status is Verdict.EARLY
        await store.log_submission(submission("t1"))
        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.verdict, d.seen, d.received_at, d.bytes) for d in task.deliveries] == [
            (Verdict.ACCEPTED, 3, later(7), len(odd.body))
        ]

    async def test_no_more_early_callbacks_become_unowned_at_once_than_are_asked_for(
        self, store: Store
    ) -> None:
        for number in range(3):
            await store.record(recording(progress(f"t{number}")))

        assert [await store.expire_early(later(1), 2) for _ in range(3)] == [2, 1, 0]

    async def test_an_unowned_callback_that_comes_again_is_looked_at_again(self, store: Store) -> None:
        await store.record(recording(completed("t1")))
        await store.expire_early(later(1), 10)
        assert (await store.record(recording(completed("t1"), received_at=later(5)))).status is Verdict.EARLY
        assert await store.expire_early(later(4), 10) == 0
        await store.log_submission(submission("t1"))

        assert (await store.record(recording(completed("t1")))).status is Verdict.DUPLICATE
        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.seen, d.received_at, d.bytes > 0) for d in task.deliveries] == [(3, later(5), True)]

    async def test_an_unowned_callback_that_comes_again_comes_after_those_that_came_meanwhile(
        self, store: Store
    ) -> None:
        await store.record(recording(completed("t1")))
        await store.expire_early(later(1), 10)
        await store.record(recording(failed("t1"), received_at=later(2)))
        await store.record(recording(completed("t1"), received_at=later(3)))

        await store.log_submission(submission("t1"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert task.state is TaskState.FAILED
        assert [d.verdict for d in task.deliveries] == [Verdict.ACCEPTED, Verdict.CONFLICT]

    async def test_an_unowned_callback_that_comes_when_its_task_is_known_is_kept_as_what_it_is(
        self, store: Store
    ) -> None:
        for report in (completed("t1"), failed("t1")):
            await store.record(recording(report))
        await store.expire_early(later(1), 10)
        await store.log_submission(submission("t1"))

        for report in (completed("t1"), failed("t1")):
            await store.record(recording(report, received_at=later(5)))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.verdict, d.seen, d.received_at, d.bytes > 0) for d in task.deliveries] == [
            (Verdict.ACCEPTED, 2, later(5), True),
            (Verdict.CONFLICT, 2, later(5), True),
        ]

    async def test_the_first_callback_binds_the_submission_its_token_names(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)

        receipt = await store.record(recording(completed("t1"), submission_id=reserved.id))

        bound = await store.get_submission(reserved.id)
        assert receipt.status is Verdict.ACCEPTED
        assert bound is not None
        assert bound.task_id == "t1"

    async def test_a_token_used_for_another_task_is_refused_and_changes_nothing(self, store: Store) -> None:
        mine, theirs = submission("mine"), submission("theirs", owner="somebody-else")
        await store.log_submission(mine)
        await store.log_submission(theirs)

        receipt = await store.record(recording(completed("theirs"), submission_id=mine.id))

        assert receipt.status is Verdict.REFUSED
        assert await store.get_event("vidgo", "theirs") is None
        assert await store.get_event("vidgo", "mine") is None

    async def test_a_refused_body_still_counts_when_its_own_token_brings_it(self, store: Store) -> None:
        mine, theirs = submission("mine"), submission("theirs")
        await store.log_submission(mine)
        await store.log_submission(theirs)
        await store.record(recording(completed("theirs"), submission_id=mine.id))

        receipt = await store.record(recording(completed("theirs"), submission_id=theirs.id))

        assert receipt.status is Verdict.ACCEPTED

    async def test_an_unbound_token_cannot_take_a_task_that_has_a_submission(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        await store.log_submission(submission("t1", owner="somebody-else"))

        receipt = await store.record(recording(completed("t1"), submission_id=reserved.id))

        assert receipt.status is Verdict.REFUSED

    async def test_a_reserved_token_may_speak_for_its_owners_task_that_was_logged_again(
        self, store: Store
    ) -> None:
        reserved = submission(None, owner="ann")
        await store.log_submission(reserved)
        await store.log_submission(submission("t1", owner="ann"))

        receipt = await store.record(recording(completed("t1"), submission_id=reserved.id))

        assert receipt.status is Verdict.ACCEPTED

    async def test_one_token_cannot_pile_up_bodies_without_end(self, store: Store) -> None:
        mine = submission("mine")
        await store.log_submission(mine)
        await store.log_submission(submission("theirs", owner="somebody-else"))
        await store.record(recording(completed("mine"), submission_id=mine.id))

        for number in range(150):
            mine_again, theirs = f"mine {number}".encode(), f"theirs {number}".encode()
            again = await store.record(recording(failed("mine"), body=mine_again, submission_id=mine.id))
            other = await store.record(recording(failed("theirs"), body=theirs, submission_id=mine.id))
            assert (again.status, other.status) == (Verdict.CONFLICT, Verdict.REFUSED)

        task = await store.get_task("vidgo", "mine")
        assert task is not None
        assert Counter(delivery.verdict for delivery in task.deliveries) == {
            Verdict.ACCEPTED: 1,
            Verdict.CONFLICT: 100,
            Verdict.REFUSED: 100,
        }
        assert sum(delivery.seen for delivery in task.deliveries) == 301

    @pytest.mark.parametrize("together", [True, False])
    async def test_one_token_cannot_pile_up_large_bodies(self, store: Store, together: bool) -> None:
        mine = submission("mine")
        await store.log_submission(mine)
        await store.log_submission(submission("theirs", owner="somebody-else"))
        await store.record(recording(completed("mine"), submission_id=mine.id))

        reports = (failed("mine"), failed("theirs"), progress("mine"), unclear("mine"))
        said = [
            ends(
                store.record(
                    recording(report, body=f"{report} {n}".encode().ljust(70_000), submission_id=mine.id)
                )
            )
            for report in reports
            for n in range(15)
        ]
        receipts = await asyncio.gather(*said) if together else [await one for one in said]

        # What may still count is to come again; of what says nothing new it is enough that it came.
        assert sum(isinstance(receipt, Unavailable) for receipt in receipts) == 5
        small = await store.record(recording(unclear("mine"), body=b"small", submission_id=mine.id))
        assert small.status is Verdict.UNRECOGNISED
        task = await store.get_task("vidgo", "mine")
        assert task is not None
        assert Counter(row.verdict for row in task.deliveries if row.bytes > 65_536) == {
            Verdict.CONFLICT: 10,
            Verdict.REFUSED: 10,
            Verdict.PROGRESS: 10,
            Verdict.UNRECOGNISED: 10,
        }
        assert sum(delivery.seen for delivery in task.deliveries) == 2 + 3 * 15 + 10

    @pytest.mark.parametrize("report", [unclear("t1"), completed("t1", files=3)])
    async def test_no_amount_of_progress_crowds_out_what_comes_after_it(
        self, store: Store, report: Report
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        for number in range(101):
            receipt = await store.record(recording(progress("t1"), body=f"{number} %".encode()))
            assert receipt.status is Verdict.PROGRESS

        receipt = await store.record(recording(report))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert (task.deliveries[-1].verdict, task.deliveries[-1].bytes > 0) == (receipt.status, True)

    async def test_an_early_failure_ends_when_it_is_matched_not_before(self, store: Store) -> None:
        await store.record(recording(failed("t1")))
        await store.log_submission(submission("t1"))

        event = await store.get_event("vidgo", "t1")

        assert event is not None
        assert event.received_at == NOW
        assert event.ended_at is not None
        assert event.ended_at != NOW

    async def test_logging_a_task_twice_gives_the_first_row(self, store: Store) -> None:
        first, created = await store.log_submission(submission("t1"))
        again, created_again = await store.log_submission(submission("t1", owner="somebody-else"))

        assert (created, created_again) == (True, False)
        assert again == first

    async def test_binding_twice_keeps_the_first_task(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)

        first = await store.bind_submission(reserved.id, "t1", NOW)
        same = await store.bind_submission(reserved.id, "t1", later(5))
        other = await store.bind_submission(reserved.id, "t2", later(5))

        assert first == same == other
        assert other.task_id == "t1"

    async def test_reservations_that_wait_for_a_task_are_listed_and_counted_by_age(
        self, store: Store
    ) -> None:
        for id_, at in (("sub_a", NOW), ("sub_b", later(60)), ("sub_c", later(120))):
            await store.log_submission(msgspec.structs.replace(submission(None, id_=id_), created_at=at))
        await store.log_submission(submission("t1"))
        await store.bind_submission("sub_b", "t2", later(180))

        unbound = await store.list_submissions(SubmissionFilter(bound=False), 10, None)
        bound = await store.list_submissions(SubmissionFilter(bound=True), 10, None)

        assert [each.id for each in unbound.submissions] == ["sub_c", "sub_a"]
        assert {each.task_id for each in bound.submissions} == {"t1", "t2"}
        assert sum((await store.count_stats()).unbound.values()) == 2
        count, oldest = await store.list_unbound(NOW, later(120), 10)
        assert (count, [each.id for each in oldest]) == (1, ["sub_a"])

    async def test_a_withdrawn_reservation_waits_no_more_but_its_callback_counts_after_all(
        self, store: Store
    ) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)

        withdrawn = await store.withdraw_submission(reserved.id, later(5))
        again = await store.withdraw_submission(reserved.id, later(9))
        unbound = await store.list_submissions(SubmissionFilter(bound=False), 10, None)
        receipt = await store.record(recording(completed("t1"), submission_id=reserved.id))

        assert withdrawn.withdrawn_at == again.withdrawn_at == later(5)
        assert unbound.submissions == ()
        assert sum((await store.count_stats()).unbound.values()) == 0
        assert receipt.status is Verdict.ACCEPTED

    async def test_a_bound_submission_cannot_be_withdrawn(self, store: Store) -> None:
        bound = msgspec.structs.replace(submission("t1"), traceparent=TRACEPARENT)
        await store.log_submission(bound)

        for id_, kind in (
            (bound.id, ProblemType.SUBMISSION_BOUND),
            ("sub_nothing", ProblemType.UNKNOWN_SUBMISSION),
        ):
            with pytest.raises(Rejected) as refused:
                await store.withdraw_submission(id_, NOW)
            assert refused.value.kind is kind
        assert await store.get_submission(bound.id) == bound

    async def test_binding_refuses_unknown_submissions_and_taken_tasks(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        await store.log_submission(submission("taken"))

        with pytest.raises(Rejected) as unknown:
            await store.bind_submission("sub_nothing", "t1", NOW)
        with pytest.raises(Rejected) as taken:
            await store.bind_submission(reserved.id, "taken", NOW)

        assert unknown.value.kind is ProblemType.UNKNOWN_SUBMISSION
        assert taken.value.kind is ProblemType.TASK_TAKEN

    # --- what is not understood -----------------------------------------------------------------------

    async def test_what_is_not_understood_is_kept_and_ends_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        receipt = await store.record(recording(unclear("t1")))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert receipt.status is Verdict.UNRECOGNISED
        assert (task.state, task.deliveries[0].note) == (TaskState.SUBMITTED, "state 'odd' is not known")

    async def test_an_unrecognised_body_is_looked_at_again_when_it_repeats(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"same"))

        receipt = await store.record(recording(completed("t1"), body=b"same"))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert receipt.status is Verdict.ACCEPTED
        assert [(d.verdict, d.seen) for d in task.deliveries] == [(Verdict.ACCEPTED, 2)]

    async def test_what_is_not_understood_is_kept_or_not_accepted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        for number in range(100):
            await store.record(recording(unclear("t1"), body=f"odd {number}".encode()))
        before = await store.get_task("vidgo", "t1")

        with pytest.raises(Unavailable):
            await store.record(recording(unclear("t1"), body=b"one too many"))

        assert await store.get_task("vidgo", "t1") == before
        assert (await store.record(recording(unclear("t1"), body=b"odd 7"))).status is Verdict.UNRECOGNISED
        assert (await store.record(recording(failed("t1")))).status is Verdict.ACCEPTED

    async def test_what_a_provider_answers_in_odd_words_does_not_keep_it_from_being_asked(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        for number in range(120):
            receipt = await store.record(answer(unclear("t1"), body=f"odd {number}".encode()))
            assert receipt.status is Verdict.UNRECOGNISED

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert len(task.deliveries) == 100
        assert sum(delivery.seen for delivery in task.deliveries) == 120

    async def test_an_unrecognised_body_that_comes_after_retention_dropped_it_is_kept_again(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1")))
        await store.record(recording(failed("t1")))
        while await store.purge(later(1), 10):
            pass

        await store.record(recording(unclear("t1"), received_at=later(5)))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(d.seen, d.received_at, d.bytes > 0) for d in task.deliveries] == [
            (1, NOW, False),
            (2, later(5), True),
        ]
        while await store.purge(later(6), 10):
            pass
        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [delivery.bytes for delivery in task.deliveries] == [0, 0]

    # --- ends that need no file -----------------------------------------------------------------------

    async def test_a_failure_is_addressed_to_every_sink_that_wants_it_at_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        await store.record(recording(failed("t1")))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert sorted(entry.sink for entry in task.notifications) == ["all", "failures"]
        assert task.waiting_on == "sink all, failures"

    async def test_a_success_whose_result_is_no_file_is_completed_without_files(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        await store.record(recording(msgspec.structs.replace(completed("t1", files=0), is_fileless=True)))

        event = await store.get_event("vidgo", "t1")
        assert event is not None
        assert (event.type, event.error_code, event.assets) == (EventType.COMPLETED, None, ())
        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [entry.sink for entry in task.notifications] == ["all"]

    # --- assets ---------------------------------------------------------------------------------------

    async def test_the_links_that_die_first_are_leased_first(self, store: Store) -> None:
        for task_id, hours in (("slow", 9), ("urgent", 1), ("soon", 3)):
            await store.log_submission(submission(task_id))
            dies = later(hours * 3600)
            await store.record(recording(completed(task_id), links_die_at=dies))

        works = await store.lease_assets(later(1), later(60), 2)

        assert [work.task_id for work in works] == ["urgent", "soon"]

    async def test_files_that_cannot_be_had_keep_no_others_waiting(self, store: Store) -> None:
        for number in range(30):
            await store.log_submission(submission(f"dead-{number}"))
            await store.record(recording(completed(f"dead-{number}")))
        now = 0
        for now in range(1, 12):
            for work in await store.lease_assets(later(now), later(now + 60), 10):
                await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(now)))
        await store.log_submission(submission("fresh", provider="apixo"))
        fresh = recording(completed("fresh", files=2), provider="apixo", links_die_at=later(10**6))
        await store.record(fresh)

        works = await store.lease_assets(later(now), later(now + 60), 3)

        assert [work.task_id for work in works] == ["fresh", works[1].task_id, "fresh"]
        assert works[1].task_id.startswith("dead")

    async def test_a_file_that_failed_once_has_its_turn_though_new_ones_come(self, store: Store) -> None:
        await store.log_submission(submission("urgent"))
        await store.record(recording(completed("urgent"), links_die_at=later(600)))
        (work,) = await store.lease_assets(later(1), later(60), 1)
        await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(2)))
        await store.log_submission(submission("new"))
        await store.record(recording(completed("new", files=4), links_die_at=later(10**6)))

        (usual,) = await store.lease_assets(later(3), later(60), 1)
        assert usual.task_id == "new"
        first, second = await store.lease_assets(later(3), later(60), 2, retries_first=True)
        assert {first.task_id, second.task_id} == {"urgent", "new"}
        # Where nothing was tried before, the place is not left empty.
        assert len(await store.lease_assets(later(3), later(60), 2, retries_first=True)) == 2

    async def test_a_leased_file_knows_how_much_of_its_task_is_stored(self, store: Store) -> None:
        for task_id in ("t1", "t2"):
            await store.log_submission(submission(task_id))
            await store.record(recording(completed(task_id, files=3)))
        works = await store.lease_assets(later(1), later(60), 10)
        assert {work.stored_bytes for work in works} == {0}
        for work in works:
            if work.task_id == "t1" and work.index > 0:
                await store.settle_asset(work, stored(work))
        again = await store.lease_assets(later(61), later(90), 10)
        event = await store.get_event("vidgo", "t1")
        assert event is not None
        bytes_of = {"t1": sum(asset.bytes or 0 for asset in event.assets), "t2": 0}
        assert bytes_of["t1"] > 0
        assert {(work.task_id, work.stored_bytes) for work in again} == set(bytes_of.items())

    async def test_leased_files_know_how_often_in_a_row_they_ended_alike(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        seen = []
        for outcome in (Outcome.TIMEOUT, Outcome.GONE, Outcome.GONE, Outcome.TIMEOUT):
            (work,) = await store.lease_assets(later(1), later(60), 1)
            seen.append((work.last, work.alike))
            await store.settle_asset(work, settlement(outcome, retry_at=later(1)))

        assert seen == [(None, 0), (Outcome.TIMEOUT, 1), (Outcome.GONE, 1), (Outcome.GONE, 2)]

    async def test_a_file_that_was_often_tried_is_not_kept_waiting_by_those_tried_still_oftener(
        self, store: Store
    ) -> None:
        for task_id, tries, dies in (("often", 5, 9000), ("thrice", 3, 8000), ("once", 1, 9999)):
            await store.log_submission(submission(task_id))
            await store.record(recording(completed(task_id), links_die_at=later(dies)))
            for _ in range(tries):
                (work,) = await store.lease_assets(later(1), later(60), 10)
                await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(1)))
            (work,) = await store.lease_assets(later(1), later(60), 10)
            await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(100)))

        works = await store.lease_assets(later(100), later(160), 10)

        assert [(work.task_id, work.attempt) for work in works] == [("once", 3), ("thrice", 5), ("often", 7)]

    async def test_leased_work_is_nobody_elses_until_the_lease_runs_out(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))

        first = await store.lease_assets(later(1), later(60), 10)
        meanwhile = await store.lease_assets(later(30), later(90), 10)
        afterwards = await store.lease_assets(later(61), later(120), 10)

        assert (indexes(first), indexes(meanwhile), indexes(afterwards)) == ([0], [], [0])
        assert [work.attempt for work in [*first, *afterwards]] == [1, 2]

    async def test_a_late_finisher_changes_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        (late,) = await store.lease_assets(later(1), later(60), 10)
        (current,) = await store.lease_assets(later(61), later(120), 10)

        assert await store.settle_asset(late, settlement(Outcome.GONE)) is False
        assert await store.settle_asset(current, stored(current)) is True
        assert await store.settle_asset(current, settlement(Outcome.GONE)) is False

        event = await store.get_event("vidgo", "t1")
        assert event is not None
        assert event.type is EventType.COMPLETED

    @pytest.mark.parametrize(
        ("outcomes", "expected"),
        [
            ((Outcome.STORED, Outcome.STORED), EventType.COMPLETED),
            ((Outcome.STORED, Outcome.GONE), EventType.PARTIAL),
            ((Outcome.TRUNCATED, Outcome.GONE), EventType.FAILED),
        ],
    )
    async def test_the_last_asset_ends_the_event_and_only_the_last(
        self, store: Store, outcomes: tuple[Outcome, Outcome], expected: EventType
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        first, second = await store.lease_assets(later(1), later(60), 10)

        def end(work: object, outcome: Outcome) -> object:
            return stored(work) if outcome is Outcome.STORED else settlement(outcome)  # type: ignore[arg-type]

        await store.settle_asset(first, end(first, outcomes[0]))  # type: ignore[arg-type]
        assert await store.lease_outbox("all", later(2), later(60), 10) == []
        await store.settle_asset(second, end(second, outcomes[1]))  # type: ignore[arg-type]

        (entry,) = await store.lease_outbox("all", later(2), later(60), 10)
        assert entry.event.type is expected
        assert [asset.outcome for asset in entry.event.assets] == list(outcomes)
        assert entry.event.error_code == (outcomes[0] if expected is EventType.FAILED else None)

    async def test_an_asset_to_be_tried_again_waits_for_its_time(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        (work,) = await store.lease_assets(later(1), later(60), 10)

        await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(100)))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert await store.lease_assets(later(99), later(200), 10) == []
        assert await store.next_due_at("assets") == later(100)
        assert len(await store.lease_assets(later(100), later(200), 10)) == 1
        assert (task.state, task.waiting_on) == (TaskState.FETCHING, "1 of 1 files, last try: timeout")
        assert [(a.target, a.number, a.outcome) for a in task.attempts] == [("asset 0", 1, Outcome.TIMEOUT)]

    async def test_a_try_that_our_own_storage_failed_is_not_counted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        full = settlement(Outcome.STORAGE_FAILED, retry_at=later(2))
        for outcome in (full, full, settlement(Outcome.TIMEOUT, retry_at=later(2)), full):
            (work,) = await store.lease_assets(later(2), later(60), 10)
            await store.settle_asset(work, outcome)

        (work,) = await store.lease_assets(later(2), later(60), 10)

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert work.attempt == 2
        assert [(attempt.number, attempt.times, attempt.outcome) for attempt in task.attempts] == [
            (1, 2, Outcome.STORAGE_FAILED),
            (1, 1, Outcome.TIMEOUT),
            (2, 1, Outcome.STORAGE_FAILED),
        ]
        await store.settle_asset(work, settlement(Outcome.STORAGE_FAILED))
        event = await store.get_event("vidgo", "t1")
        assert event is not None
        assert event.assets[0].attempts == 2  # there is no other after it

    async def test_tries_that_end_alike_in_a_row_are_one_line_of_the_history(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        for seconds in range(1, 58):
            for work in await store.lease_assets(later(seconds), later(100), 10):
                full = settlement(Outcome.STORAGE_FAILED, at=later(seconds), retry_at=later(seconds))
                await store.settle_asset(work, msgspec.structs.replace(full, detail=f"{seconds} bytes left"))
        for seconds in (58, 59):
            for work in await store.lease_assets(later(seconds), later(100), 10):
                timeout = settlement(Outcome.TIMEOUT, at=later(seconds), retry_at=later(seconds))
                await store.settle_asset(work, timeout)

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [
            (a.target, a.outcome, a.times, a.number, a.started_at, a.last_started_at, a.detail)
            for a in task.attempts
        ] == [
            ("asset 0", Outcome.STORAGE_FAILED, 57, 1, later(1), later(57), "57 bytes left"),
            ("asset 1", Outcome.STORAGE_FAILED, 57, 1, later(1), later(57), "57 bytes left"),
            ("asset 0", Outcome.TIMEOUT, 2, 2, later(58), later(59), None),
            ("asset 1", Outcome.TIMEOUT, 2, 2, later(58), later(59), None),
        ]

    async def test_a_file_that_waits_for_room_is_due_at_its_time(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        (work,) = await store.lease_assets(later(1), later(60), 10)

        await store.settle_asset(work, settlement(Outcome.STORAGE_FAILED, retry_at=later(100)))

        assert await store.next_due_at("assets") == later(100)
        assert await store.lease_assets(later(99), later(200), 10) == []
        await store.log_submission(submission("t2"))
        await store.record(recording(completed("t2"), links_die_at=later(10**6)))
        assert await store.next_due_at("assets") == NOW
        assert len(await store.lease_assets(later(100), later(200), 10)) == 2

    # --- outbox ---------------------------------------------------------------------------------------

    async def test_each_sink_has_its_own_state(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (mine,) = await store.lease_outbox("all", later(1), later(60), 10)

        await settle_outbox(store, mine, settlement(Outcome.DELIVERED))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert {entry.sink: entry.state for entry in task.notifications} == {
            "all": OutboxState.DELIVERED,
            "failures": OutboxState.PENDING,
        }
        assert len(await store.lease_outbox("failures", later(1), later(60), 10)) == 1

    async def test_entries_have_all_that_was_logged_of_their_submissions(self, store: Store) -> None:
        logged = [
            msgspec.structs.replace(submission("t1"), traceparent=TRACEPARENT),
            msgspec.structs.replace(submission("t2"), model=None, request=None, metadata={}),
            msgspec.structs.replace(submission("t3"), traceparent=TRACEPARENT[:-2] + "00"),
        ]
        for each in logged:
            await store.log_submission(each)
            await store.record(recording(failed(each.task_id or "")))
        (alone,) = await store.lease_outbox("all", later(1), later(60), 1)
        others = await store.lease_outbox("all", later(1), later(60), 10)
        for work, each in zip((alone, *others), logged, strict=True):
            event = work.event
            assert (event.submission_id, event.task_id, event.owner) == (each.id, each.task_id, each.owner)
            assert (event.model, event.traceparent) == (each.model, each.traceparent)
            assert json.loads(event.metadata) == each.metadata
            assert event.submitted_at == to_text(each.created_at)
        traces = [await store.get_traceparent("vidgo", task_id) for task_id in ("t1", "t2", "t3", "t4")]
        assert traces == [*(each.traceparent for each in logged), None]

    async def test_an_entry_is_tried_again_or_becomes_a_dead_letter(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (first,) = await store.lease_outbox("all", later(1), later(60), 10)
        await settle_outbox(store, first, settlement(Outcome.TIMEOUT, retry_at=later(10)))

        assert await store.lease_outbox("all", later(9), later(60), 10) == []
        (second,) = await store.lease_outbox("all", later(10), later(60), 10)
        await settle_outbox(store, second, settlement(Outcome.REFUSED))

        task = await store.get_task("vidgo", "t1")
        stats = await store.count_stats()
        assert task is not None
        assert second.attempt == 2
        assert stats.outbox["all"] == {"dead": 1}
        assert {entry.state for entry in task.notifications if entry.sink == "all"} == {OutboxState.DEAD}

    async def test_a_failure_that_is_no_fault_of_the_entry_is_not_counted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        for seconds, is_probe in ((1, False), (2, True), (3, True)):
            (work,) = await store.lease_outbox("all", later(seconds), later(60), 10)
            assert work.attempt == 1
            down = settlement(Outcome.CONNECT_FAILED, at=later(seconds), retry_at=later(seconds))
            down = msgspec.structs.replace(down, uses_attempt=False, is_probe=is_probe, detail=f"{seconds} s")
            await settle_outbox(store, work, down)

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        (entry,) = [entry for entry in task.notifications if entry.sink == "all"]
        assert (entry.state, entry.attempts, entry.outcome, entry.detail, entry.due_at) == (
            OutboxState.PENDING, 0, Outcome.CONNECT_FAILED, "3 s", later(3),
        )  # fmt: skip
        assert [(attempt.times, attempt.detail) for attempt in task.attempts] == [(3, "3 s")]

    async def test_a_probe_of_a_sink_adds_no_line_to_the_history_of_its_task(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (work,) = await store.lease_outbox("all", later(1), later(60), 10)
        down = settlement(Outcome.CONNECT_FAILED, retry_at=later(1))
        await settle_outbox(store, work, msgspec.structs.replace(down, uses_attempt=False, is_probe=True))

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert task.attempts == ()

    async def test_the_entry_that_fell_due_last_can_be_had_first(self, store: Store) -> None:
        for number in range(3):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}"), received_at=later(number)))

        (newest,) = await store.lease_outbox("all", later(5), later(60), 1, newest_first=True)
        (oldest,) = await store.lease_outbox("all", later(5), later(60), 1)

        assert (newest.event.task_id, oldest.event.task_id) == ("t2", "t0")

    async def test_what_has_waited_too_long_is_given_up_with_the_reason(self, store: Store) -> None:
        for number in range(4):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}"), received_at=later(number)))
        (held,) = await store.lease_outbox("all", later(5), later(60), 1)
        down = msgspec.structs.replace(settlement(Outcome.TIMEOUT, at=later(9)), detail="no answer")

        given_up = [await store.give_up_outbox("all", later(2), down, 1) for _ in range(3)]

        stats = await store.count_stats()
        letters = (await store.list_dead(WorkFilter(), None, 10, None)).dead_letters
        assert given_up == [1, 1, 0]
        assert (stats.outbox["all"], stats.outbox["failures"]) == ({"pending": 2, "dead": 2}, {"pending": 4})
        assert [(letter.task_id, letter.outcome, letter.detail, letter.settled_at) for letter in letters] == [
            ("t2", Outcome.TIMEOUT, "no answer", later(9)),
            ("t1", Outcome.TIMEOUT, "no answer", later(9)),
        ]
        assert await settle_outbox(store, held, settlement(Outcome.DELIVERED))

    async def test_a_publish_that_lost_its_lease_settles_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (late,) = await store.lease_outbox("all", later(1), later(60), 10)
        (current,) = await store.lease_outbox("all", later(61), later(120), 10)

        assert await settle_outbox(store, late, settlement(Outcome.DELIVERED)) is False
        assert await settle_outbox(store, current, settlement(Outcome.DELIVERED)) is True

    async def test_notifications_that_ended_together_are_settled_each_as_alone(self, store: Store) -> None:
        for number in range(5):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}")))
        works = await store.lease_outbox("all", later(1), later(60), 4)
        lost = await store.lease_outbox("all", later(1), later(2), 4)
        (again,) = await store.lease_outbox("all", later(3), later(60), 4)
        assert [work.id for work in lost] == [again.id]
        ends = [
            settlement(Outcome.DELIVERED),
            settlement(Outcome.TIMEOUT, retry_at=later(100)),
            settlement(Outcome.REFUSED),
            settlement(Outcome.DELIVERED),
        ]

        ended = [*zip(works, ends, strict=True), (lost[0], ends[0]), (works[0], ends[2])]
        assert await store.settle_outbox_batch(ended) == [True, True, True, True, False, False]

        stats = (await store.count_stats()).outbox["all"]
        assert stats == {"delivered": 2, "pending": 2, "dead": 1}
        assert [work.attempt for work in await store.lease_outbox("all", later(100), later(160), 9)] == [3, 2]

    async def test_a_dead_letter_that_is_sent_after_all_is_made_anew(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (first,) = await store.lease_outbox("all", later(1), later(60), 10)
        await settle_outbox(store, first, settlement(Outcome.TIMEOUT, retry_at=later(10)))
        (second,) = await store.lease_outbox("all", later(10), later(60), 10)
        await settle_outbox(store, second, settlement(Outcome.REFUSED))

        await requeue_dead(store, WorkFilter(), [], later(10**6), 10)

        (third,) = await store.lease_outbox("all", later(10**6), later(10**7), 10)
        assert [work.created_at for work in (first, second, third)] == [NOW, NOW, later(10**6)]
        assert third.event == second.event

    # --- lists and retention --------------------------------------------------------------------------

    async def test_pages_show_every_task_once_newest_first(self, store: Store) -> None:
        logged = [(await store.log_submission(submission(f"t{n}")))[0].task_id for n in range(7)]

        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list_tasks(TaskFilter(), 3, cursor)
            seen += [task.task_id for task in page.tasks]
            cursor = page.next_cursor
            if cursor is None:
                break

        assert sorted(seen) == sorted(str(task_id) for task_id in logged)
        assert len(seen) == 7

    async def test_lists_are_filtered(self, store: Store) -> None:
        await store.log_submission(submission("mine", owner="me"))
        await store.log_submission(submission("theirs", owner="them", provider="apixo"))
        await store.record(recording(failed("mine")))

        async def ids(**wanted: object) -> list[str]:
            page = await store.list_tasks(TaskFilter(**wanted), 10, None)  # type: ignore[arg-type]
            return [task.task_id for task in page.tasks]

        assert await ids(owner="me") == ["mine"]
        assert await ids(provider="apixo") == ["theirs"]
        assert await ids(state=TaskState.FAILED) == ["mine"]
        assert await ids(state=TaskState.SUBMITTED) == ["theirs"]
        assert await ids(since=later(1)) == []
        assert sorted(await ids(until=later(1))) == ["mine", "theirs"]

    async def test_a_task_is_found_by_any_id_that_belongs_to_it(self, store: Store) -> None:
        row, _ = await store.log_submission(submission("t1", id_="sub_0a"))
        await store.log_submission(submission("t1", id_="sub_0b", provider="apixo"))
        await store.log_submission(submission(None, id_="sub_0c"))
        await store.record(recording(failed("t1")))
        await store.record(recording(failed("a-strangers")))
        task = await store.get_task("vidgo", "t1")
        assert task is not None
        (delivery,) = task.deliveries

        async def found(**ids: str) -> list[tuple[str, str]]:
            reference = TaskReference(**ids)
            page = await store.list_tasks(TaskFilter(reference=reference), 10, None)
            return [(each.provider, each.task_id) for each in page.tasks]

        mine = [("vidgo", "t1")]
        assert await found(submission_id=row.id) == await found(event_id="evt_0a") == mine
        assert await found(delivery_id=delivery.id) == mine
        assert await found(notification_id=task.notifications[0].id) == mine
        assert await found(task_id="t1", event_id="evt_0a.1") == mine
        assert await found(task_id="t1") == [("apixo", "t1"), *mine]
        for unknown in (
            {"submission_id": "sub_0c"},  # no task is bound to it
            {"event_id": "evt_0b"},  # it has not ended
            {"event_id": "evt_0a.2"},  # it was not told again
            {"event_id": "evt_"},
            {"delivery_id": "dlv_2"},  # as releases before 0.4.0 named them
            {"delivery_id": "dlv_99999999999999999999"},
            {"delivery_id": delivery.id.replace("_0a", "_0b")},  # of another task
            {"delivery_id": delivery.id[:-1]},
            {"notification_id": "out_1"},
            {"notification_id": task.notifications[0].id + "'"},
            {"notification_id": task.notifications[0].id + ".1"},  # of no replay
            {"notification_id": task.notifications[0].id.replace(".1.", ".2.")},  # it was not told again
            {"task_id": "t2"},
            {"task_id": "t1", "event_id": "evt_0b"},
        ):
            assert await found(**unknown) == []

    async def test_ids_of_deliveries_and_notifications_are_the_same_whatever_else_was_recorded(
        self, store: Store
    ) -> None:
        """Neither how much others do nor the place in this database is in them."""
        for task_id in ("t1", "t2", "t3"):
            await store.log_submission(submission(task_id, id_=f"sub_of-{task_id}"))
            await store.record(recording(failed(task_id), body=b"{}"))

            task = await store.get_task("vidgo", task_id)
            assert task is not None
            work = [(await store.lease_outbox(sink, NOW, later(60), 1))[0] for sink in ("all", "failures")]

            assert [each.id for each in task.deliveries] == [
                f"dlv_of-{task_id}.0c05bbbc53cdae0ffc5d9cb1340a1ce6"
            ]
            ids = [f"out_of-{task_id}.1.all", f"out_of-{task_id}.1.failures"]
            assert [each.id for each in task.notifications] == [each.id for each in work] == ids

    async def test_the_same_body_by_other_tokens_has_other_ids_which_lead_to_the_same_task(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1", id_="sub_logged"))
        await store.log_submission(submission(None, id_="sub_reserved"))
        for named in ("sub_logged", "sub_reserved", None):
            await store.record(recording(failed("t1"), submission_id=named))

        task = await store.get_task("vidgo", "t1")

        assert task is not None
        ids = {delivery.id for delivery in task.deliveries}
        assert len(ids) == 3
        for id_ in ids:
            assert id_.startswith("dlv_logged.")
            page = await store.list_tasks(TaskFilter(reference=TaskReference(delivery_id=id_)), 10, None)
            assert [each.task_id for each in page.tasks] == ["t1"]

    async def test_submissions_are_listed_by_when_they_were_logged(self, store: Store) -> None:
        for hours, task_id in enumerate(("t0", None, "t2", None)):
            row = submission(task_id, id_=f"sub_{hours}")
            await store.log_submission(msgspec.structs.replace(row, created_at=later(3600.0 * hours)))

        async def ids(**wanted: object) -> list[str]:
            page = await store.list_submissions(SubmissionFilter(**wanted), 10, None)  # type: ignore[arg-type]
            return [each.id for each in page.submissions]

        assert await ids(since=later(3600.0)) == ["sub_3", "sub_2", "sub_1"]
        assert await ids(until=later(3600.0 * 2)) == ["sub_1", "sub_0"]
        assert await ids(since=later(3600.0 * 2), bound=False) == ["sub_3"]
        assert await ids(until=later(3600.0 * 2), bound=False) == ["sub_1"]
        assert await ids(since=later(3600.0), until=later(3600.0 * 3), bound=True) == ["sub_2"]

    async def test_a_long_history_shows_the_first_and_the_newest_and_says_how_many_are_left_out(
        self, store: Store
    ) -> None:
        await log_many_deliveries(store, MOST_SHOWN + 30)

        task = await store.get_task("vidgo", "t1")

        assert task is not None
        shown = [delivery.received_at for delivery in task.deliveries]
        assert shown == [later(0), *(later(number) for number in range(31, MOST_SHOWN + 30))]
        assert (task.left_out.deliveries, task.left_out.attempts, task.left_out.notifications) == (30, 0, 0)

    async def test_a_history_is_paged_to_its_end_the_newest_first(self, store: Store) -> None:
        await log_many_deliveries(store, 7)
        await store.record(recording(failed("t1"), received_at=later(100)))
        for sink in ("all", "failures"):
            (work,) = await store.lease_outbox(sink, later(100), later(200), 10)
            await settle_outbox(store, work, settlement(Outcome.DELIVERED))

        seen, cursor = [], None
        while True:
            page = await store.list_deliveries("vidgo", "t1", 3, cursor)
            assert page is not None
            seen += [delivery.received_at for delivery in page.rows]
            if (cursor := page.next_cursor) is None:
                break
        notifications = await store.list_notifications("vidgo", "t1", 1, None)
        attempts = await store.list_attempts("vidgo", "t1", 2, None)

        assert seen == [later(100), *(later(number) for number in range(6, -1, -1))]
        assert notifications is not None
        assert attempts is not None
        assert ([each.sink for each in notifications.rows], bool(notifications.next_cursor)) == (
            ["failures"],
            True,
        )
        assert ([each.target for each in attempts.rows], attempts.next_cursor) == (
            ["sink failures", "sink all"],
            None,
        )
        assert await store.list_deliveries("vidgo", "stranger", 3, None) is None
        with pytest.raises(Rejected):
            await store.list_attempts("vidgo", "t1", 3, "out_1")

    async def test_a_walk_through_a_list_meets_each_task_once_while_others_are_logged(
        self, store: Store
    ) -> None:
        """However the engine orders commits: a page must not begin behind one that comes late."""
        before = [f"t{number}" for number in range(30)]
        for task_id in before:
            await store.log_submission(submission(task_id))

        async def log() -> None:
            await asyncio.gather(*(store.log_submission(submission(f"later{n}")) for n in range(30)))

        async def walk() -> list[str]:
            met: list[str] = []
            cursor = None
            while True:
                page = await store.list_tasks(TaskFilter(), 4, cursor)
                met += [task.task_id for task in page.tasks]
                if (cursor := page.next_cursor) is None:
                    return met

        _, met = await asyncio.gather(log(), walk())

        assert [task_id for task_id in met if task_id in before] == before[::-1]
        assert len(met) == len(set(met))

    async def test_a_cursor_that_is_not_ours_is_refused(self, store: Store) -> None:
        with pytest.raises(Rejected) as refused:
            await store.list_tasks(TaskFilter(), 10, "'; DROP TABLE submissions")

        assert refused.value.kind is ProblemType.BAD_CURSOR

    async def test_retention_drops_how_a_task_ended_but_a_late_repeat_is_still_a_repeat(
        self, store: Store
    ) -> None:
        for task_id in ("t1", "newest"):
            await store.log_submission(submission(task_id))
            await store.record(recording(failed(task_id)))
        for sink in ("all", "failures"):
            for work in await store.lease_outbox(sink, later(1), later(60), 10):
                await settle_outbox(store, work, settlement(Outcome.DELIVERED))
        await store.follow_deliveries(later(1), 10)

        assert await store.purge(NOW, 10) == 0
        # Of each task a delivery, a submission, two notifications and two attempts.
        assert await store.purge(later(1), 10) == 2 * 6
        assert await store.purge(later(1), 10) == 0

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert (task.deliveries, task.notifications, task.attempts) == ((), (), ())
        assert (task.state, task.submission.request) == (TaskState.FAILED, None)
        assert (await store.record(recording(failed("t1")))).status is Verdict.DUPLICATE
        assert await store.lease_outbox("all", later(9), later(60), 10) == []
        stats = await store.count_stats()
        assert stats.deliveries == {"accepted": 1, "duplicate": 1}
        assert stats.tasks == {"failed": 2}

    async def test_retention_keeps_rows_of_what_did_not_count_and_of_what_is_not_delivered(
        self, store: Store
    ) -> None:
        for task_id in ("t1", "newest"):
            await store.log_submission(submission(task_id))
            await store.record(recording(failed(task_id)))
        await store.record(recording(completed("t1")))
        for entry in await store.lease_outbox("failures", later(1), later(60), 10):
            await settle_outbox(store, entry, settlement(Outcome.REFUSED))
        await store.follow_deliveries(later(1), 10)

        while await store.purge(later(1), 10):
            pass

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert [(each.verdict, each.bytes) for each in task.deliveries] == [(Verdict.CONFLICT, 0)]
        assert {(each.sink, each.state.value) for each in task.notifications} == {
            ("all", "pending"),
            ("failures", "dead"),
        }

    async def test_retention_goes_on_when_it_has_dropped_all_that_there_was(self, store: Store) -> None:
        for number in range(4):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}"), received_at=later(number)))
            for work in await store.lease_outbox("all", later(9), later(60), 10):
                await settle_outbox(store, work, settlement(Outcome.DELIVERED))
            await store.follow_deliveries(later(9), 10)
            while await store.purge(later(99), 10):
                pass

        left = [await store.get_task("vidgo", f"t{number}") for number in range(4)]
        assert [len(task.deliveries) if task else None for task in left] == [0, 0, 0, 1]
        notifications = [len(task.notifications) if task else None for task in left]
        assert notifications == [1, 1, 1, 1]  # of the other sink, which was not told

    async def test_a_stored_files_link_goes_with_the_callback_that_it_stands_in(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), received_at=later(100)))
        (work,) = await store.lease_assets(later(100), later(160), 10)
        await store.settle_asset(work, stored(work))

        for before, links in ((50, [work.url]), (200, [""])):
            while await store.purge(later(before), 10):
                pass
            assert await store.list_links("vidgo", "t1") == links

    async def test_retention_takes_no_link_of_a_file_that_may_still_be_fetched(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        first, second = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(first, stored(first))
        while await store.purge(later(1), 10):
            pass

        assert await store.list_links("vidgo", "t1") == ["", second.url]

    async def test_a_body_is_kept_until_the_files_in_it_are_stored(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        whole, event = b"{" + b"x" * 100_000, b'{"large": "%s"}' % (b"y" * 100_000)
        await store.record(answer(inline("t1", "first", "second"), body=whole))
        assert await store.list_end_bodies("vidgo", "t1") == [whole]
        first, second = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(first, stored(first))
        while await store.purge(later(99), 10):
            pass
        assert await store.list_end_bodies("vidgo", "t1") == [whole]  # the second is still to be unpacked

        await store.settle_asset(second, stored(second))
        (left,) = await store.list_end_bodies("vidgo", "t1")
        assert json.loads(left) == {"task_id": "t1", "left_out": "its files, which are stored"}

        await store.log_submission(submission("t2"))
        await store.record(recording(completed("t2"), body=event))  # with a link
        (work,) = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(work, stored(work))
        assert await store.list_end_bodies("vidgo", "t2") == [event]

    async def test_a_late_repeat_of_an_unowned_callback_does_not_stop_retention(self, store: Store) -> None:
        await store.record(recording(completed("stranger")))
        await store.expire_early(later(1), 10)
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1"), received_at=later(2)))
        await store.record(recording(completed("stranger"), received_at=later(10**6)))

        while await store.purge(later(100), 10):
            pass

        task = await store.get_task("vidgo", "t1")
        assert task is not None
        assert task.deliveries[0].bytes == 0

    async def test_retention_takes_nothing_that_is_still_on_its_way(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        await store.record(recording(completed("early")))

        while await store.purge(later(9999), 1):
            pass

        (work,) = await store.lease_outbox("all", later(1), later(60), 10)
        assert work.event.error_message == "refused"
        await store.log_submission(submission("early"))
        assert len(await store.lease_assets(later(1), later(60), 10)) == 1

    async def test_counts_tell_how_much_there_is(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.log_submission(submission("t2"))
        await store.record(recording(completed("t1")))
        await store.record(recording(completed("early")))

        stats = await store.count_stats()

        assert stats.submissions == 2
        assert stats.tasks == {"fetching": 1, "submitted": 1}
        assert stats.deliveries == {"accepted": 1, "early": 1}
        assert stats.oldest_undownloaded_at == NOW
