"""Whether a sink is taken for dead, and when that is found out: by moments that the test makes up."""

from datetime import timedelta

import pytest

from receiver.models import Outcome
from receiver.sink_circuit import MOST_IN_BATCH, MOST_SUSPECTS, OF_THE_SINK, Circuit, Diagnosis, Failure

START = timedelta(days=3)  # an uptime begins anywhere
AMBIGUOUS = (Outcome.HTTP_ERROR, Outcome.TIMEOUT, Outcome.INTERRUPTED, Outcome.REFUSED, Outcome.CRASHED)


def later(seconds: float) -> timedelta:
    return START + timedelta(seconds=seconds)


def fail(
    circuit: Circuit,
    entry: str,
    at: float,
    outcome: Outcome = Outcome.CONNECT_FAILED,
    *,
    started: float | None = None,
    wish: float | None = None,
) -> Diagnosis:
    """A publish fails that began just before, or when the test says."""
    started_at = later(at if started is None else started)
    failure = Failure(
        entry=entry, outcome=outcome, detail="so it said", started_at=started_at, retry_after_seconds=wish
    )
    return circuit.failed(failure, later(at))


def take(circuit: Circuit, entry: str, at: float, *, started: float | None = None) -> None:
    circuit.answered([entry], later(at if started is None else started), later(at))


def probe_and_fail(circuit: Circuit, entry: str, at: float, outcome: Outcome = Outcome.TIMEOUT) -> Diagnosis:
    circuit.begin_probe(entry, later(at), 10)
    return fail(circuit, entry, at, outcome)


def opened(outcome: Outcome = Outcome.CONNECT_FAILED, *, wish: float | None = None) -> Circuit:
    circuit = Circuit()
    fail(circuit, "first", 0, outcome, wish=wish)
    return circuit


def test_a_sink_that_takes_messages_gets_as_many_as_there_is_room_for() -> None:
    circuit = Circuit()
    take(circuit, "a", 1)
    assert (circuit.room(8, later(2)), circuit.outage) == (8, None)


def test_what_spoils_its_whole_batch_is_soon_alone() -> None:
    circuit = Circuit()
    assert circuit.batch_size == MOST_IN_BATCH
    circuit.batch_ended(is_any_taken=False)
    sizes = []
    for _ in range(11):
        sizes.append(circuit.batch_size)
        circuit.batch_ended(is_any_taken=True)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512]


@pytest.mark.parametrize("outcome", sorted(OF_THE_SINK))
def test_what_says_nothing_of_the_message_is_an_outage_at_once(outcome: Outcome) -> None:
    circuit = Circuit()
    assert fail(circuit, "a", 0, outcome) == Diagnosis(uses_attempt=False)
    assert circuit.outage is not None
    assert (circuit.outage.outcome, circuit.outage.detail) == (outcome, "so it said")
    assert circuit.room(8, later(0.999)) == 0
    assert circuit.room(8, later(1)) == 1


def test_an_outage_is_probed_ever_more_rarely_and_at_least_twice_a_minute() -> None:
    circuit, seconds, waits = opened(), 0.0, []
    for number in range(9):
        assert circuit.outage is not None
        wait = (circuit.outage.until - later(seconds)).total_seconds()
        waits.append(wait)
        seconds += wait
        found = probe_and_fail(circuit, f"entry {number}", seconds)
        assert found == Diagnosis(uses_attempt=False, is_probe=True)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_while_one_message_finds_out_the_others_wait_and_not_for_ever() -> None:
    circuit = opened()
    circuit.begin_probe("b", later(1), 16)
    assert circuit.room(8, later(16.9)) == 0
    assert circuit.room(8, later(17)) == 1


def test_failures_on_their_way_together_are_one_outage() -> None:
    circuit = opened()
    for seconds in (0.1, 0.2, 0.3):
        assert fail(circuit, f"{seconds}", seconds, started=0) == Diagnosis(uses_attempt=False)
    assert circuit.room(8, later(1)) == 1


@pytest.mark.parametrize("outcome", [Outcome.CONNECT_FAILED, Outcome.TIMEOUT])
def test_the_first_message_that_is_taken_ends_it_and_the_next_outage_begins_anew(outcome: Outcome) -> None:
    circuit = opened()
    probe_and_fail(circuit, "a", 1, outcome)
    circuit.begin_probe("b", later(3), 16)
    take(circuit, "b", 3.5, started=3)
    assert (circuit.room(8, later(3.5)), circuit.outage) == (8, None)
    fail(circuit, "c", 4)
    assert circuit.room(8, later(5)) == 1


def test_old_messages_and_new_ones_find_out_by_turns() -> None:
    circuit, turns = opened(), []
    for seconds in (1, 3, 7, 15):
        turns.append(circuit.wants_newest())
        probe_and_fail(circuit, "a", seconds)
    assert turns == [False, True, False, True]
    take(circuit, "b", 31)
    assert not circuit.wants_newest()


# --- whose fault it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", AMBIGUOUS)
def test_one_message_that_a_sink_chokes_on_is_no_outage(outcome: Outcome) -> None:
    circuit, waits, seconds = Circuit(), [], 0.0
    for _ in range(7):
        found = fail(circuit, "poison", seconds, outcome)
        assert not found.uses_attempt
        waits.append(found.wait_seconds)
        seconds += found.wait_seconds
    assert waits == [1, 2, 4, 8, 16, 30, 30]  # for it may be the sink, which may be back soon
    assert (circuit.room(8, later(seconds)), circuit.outage) == (8, None)


def test_a_message_that_fails_again_after_the_sink_took_others_is_its_own_fault() -> None:
    circuit = Circuit()
    assert not fail(circuit, "poison", 0, Outcome.HTTP_ERROR).uses_attempt
    take(circuit, "good", 0.5)
    for seconds in (1, 100, 10_000):
        assert fail(circuit, "poison", seconds, Outcome.HTTP_ERROR) == Diagnosis(uses_attempt=True)
    assert circuit.room(8, later(10_000)) == 8


def test_so_it_is_where_the_sink_took_another_meanwhile() -> None:
    circuit = Circuit()
    take(circuit, "good", 5)
    assert fail(circuit, "a", 6, started=4) == Diagnosis(uses_attempt=True)
    assert circuit.outage is None
    assert not fail(circuit, "b", 7, started=6).uses_attempt
    assert circuit.outage is not None


def test_a_message_that_was_taken_after_all_is_under_no_suspicion_any_more() -> None:
    circuit = Circuit()
    fail(circuit, "a", 0, Outcome.HTTP_ERROR)
    take(circuit, "b", 1)
    take(circuit, "a", 2)
    assert not fail(circuit, "a", 3, Outcome.HTTP_ERROR).uses_attempt  # of a replay, say


def test_many_messages_that_fail_in_a_row_are_an_outage() -> None:
    circuit = Circuit()
    for number in range(MOST_SUSPECTS):
        assert fail(circuit, f"entry {number}", number, Outcome.HTTP_ERROR).wait_seconds == 1
        assert circuit.outage is None
    assert fail(circuit, "one more", 9, Outcome.HTTP_ERROR) == Diagnosis(uses_attempt=False)
    assert circuit.room(8, later(9.9)) == 0
    take(circuit, "good", 11)
    # They were no fault of theirs.
    assert not fail(circuit, "entry 0", 12, Outcome.HTTP_ERROR).uses_attempt


def test_what_is_remembered_of_single_messages_has_an_end() -> None:
    circuit = Circuit()
    for number in range(5000):
        fail(circuit, f"poison {number}", number, Outcome.HTTP_ERROR)
        take(circuit, f"good {number}", number + 0.5)
    assert not fail(circuit, "poison 0", 9000, Outcome.HTTP_ERROR).uses_attempt
    assert fail(circuit, "poison 4999", 9000, Outcome.HTTP_ERROR).uses_attempt
    circuit.forget("poison 4998")
    assert not fail(circuit, "poison 4998", 9000, Outcome.HTTP_ERROR).uses_attempt


def test_how_long_a_sink_has_failed_counts_from_the_first_failure_since_it_took_a_message() -> None:
    circuit = Circuit()
    fail(circuit, "a", 10, Outcome.HTTP_ERROR)
    fail(circuit, "a", 60, Outcome.CONNECT_FAILED)
    assert circuit.failing_for(later(100)) == timedelta(seconds=90)
    take(circuit, "b", 101)
    assert circuit.failing_for(later(200)) == timedelta()


# --- what a sink wishes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "wish", "seconds"),
    [
        (Outcome.RATE_LIMITED, 40.0, 40),
        (Outcome.RATE_LIMITED, 0.1, 1),
        (Outcome.UNAVAILABLE, 300.0, 300),
        (Outcome.UNAVAILABLE, 0.1, 1),
    ],
)
def test_a_wish_is_obeyed(outcome: Outcome, wish: float, seconds: int) -> None:
    circuit = opened(outcome, wish=wish)
    assert circuit.room(8, later(seconds - 0.001)) == 0
    assert circuit.room(8, later(seconds)) == 1


def test_too_many_messages_are_the_sinks_own_affair_whatever_it_took_meanwhile() -> None:
    circuit = Circuit()
    take(circuit, "good", 5)
    found = fail(circuit, "one too many", 6, Outcome.RATE_LIMITED, started=4, wish=20.0)
    assert found == Diagnosis(uses_attempt=False, wait_seconds=20.0)
    take(circuit, "got through", 7, started=4)
    assert circuit.room(8, later(25)) == 0
    take(circuit, "probe", 26.5, started=26)
    assert circuit.room(8, later(27)) == 8


def test_of_the_wishes_of_messages_on_their_way_together_the_longest_counts() -> None:
    circuit = opened(Outcome.RATE_LIMITED, wish=5.0)
    fail(circuit, "another", 1, Outcome.RATE_LIMITED, started=0, wish=60.0)
    assert circuit.room(8, later(60)) == 0


def test_a_sink_that_goes_on_wishing_is_asked_as_often_as_it_says() -> None:
    circuit = opened(Outcome.RATE_LIMITED, wish=2.0)
    for seconds in (2, 4, 6, 8, 10, 12):
        circuit.begin_probe("a", later(seconds), 10)
        fail(circuit, "a", seconds, Outcome.RATE_LIMITED, wish=2.0)
    assert circuit.room(8, later(14)) == 1
