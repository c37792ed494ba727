"""The suite itself is tested: each plausible mistake, made on purpose, must be caught by tests it has.

A flawed part takes the place of the real one in a test module, and tests of that module are run: each named
here must fail with it, and pass without.
"""

import contextlib
import importlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from receiver.record.store import RecordStore
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.support import flawed
from tests.support.engines import ENGINES, Place, PostgresPlace, SqlitePlace
from tests.support.places import ROOT
from tests.test_record_model import record_at

pytestmark = pytest.mark.slow  # runs a good part of the suite once more

INGEST = "tests/test_ingest.py"
RELAY = "tests/test_relay.py"
BLOBS = "tests/plugins/test_local_blobs.py"


class Engine(NamedTuple):
    """A store, and where the contracts are that it is held to."""

    store: type[RecordStore]
    suites: dict[str, str]


ON_ENGINES = {
    "sqlite": Engine(
        SqliteStore,
        {
            "Store": "tests/plugins/test_sqlite.py::TestSqliteStore",
            "Polls": "tests/plugins/test_sqlite.py::TestSqlitePolls",
            "Kills": "tests/plugins/test_sqlite_kills.py::TestSqliteKills",
        },
    ),
    "postgres": Engine(
        PostgresStore,
        {
            suite: f"tests/plugins/test_postgres.py::TestPostgres{suite}"
            for suite in ("Store", "Polls", "Kills")
        },
    ),
}


class Flaw(NamedTuple):
    """A flawed part, and the tests that must catch it."""

    part: type
    caught_by: tuple[str, ...]
    by_the_model: tuple[str, ...] = ()  # and where soon, that is: it would find more of them in a minute

    @property
    def name(self) -> str:
        return self.part.__name__

    @property
    def replaces(self) -> str:
        return self.part.__bases__[-1].__name__

    def on(self, engine: Engine) -> "Flaw":
        """The flawed record on an engine."""
        suites = [test.partition("::") for test in self.caught_by]
        return self._replace(
            part=type(self.name, (self.part, engine.store), {}),
            caught_by=tuple(f"{engine.suites[suite]}::{test}" for suite, _, test in suites),
        )


FLAWS_OF_RECORDS = [
    Flaw(
        flawed.ChecksThenInserts,
        ("Store::test_of_a_hundred_at_once_exactly_one_is_accepted",),
        by_the_model=("sqlite",),
    ),
    Flaw(
        flawed.AnswersBeforeCommit,
        ("Kills::test_what_was_answered_is_in_what_a_kill_leaves_at_that_instant",),
    ),
    Flaw(
        flawed.DedupesInMemory,
        ("Store::test_what_was_answered_is_there_after_opening_again",),
    ),
    Flaw(
        flawed.LetsTheLastEndWin,
        ("Store::test_the_first_terminal_state_wins_and_the_other_is_kept",),
        by_the_model=ENGINES,
    ),
    Flaw(
        flawed.TrustsWhatIsHeld,
        (
            "Polls::test_an_end_that_must_be_confirmed_is_held_and_asked_about_at_once",
            "Polls::test_a_forged_callback_is_a_conflict_and_only_the_providers_files_are_fetched",
        ),
    ),
    Flaw(
        flawed.ForgetsWhatWasEarly,
        (
            "Store::test_an_early_callback_is_matched_by_the_transaction_that_logs_its_submission",
            "Store::test_an_early_callback_is_matched_when_a_reservation_is_bound",
            "Kills::test_a_kill_between_any_two_commits_leaves_a_record_that_agrees_with_itself",
        ),
    ),
    Flaw(
        flawed.SettlesWithoutLooking,
        (
            "Store::test_a_late_finisher_changes_nothing",
            "Store::test_a_publish_that_lost_its_lease_settles_nothing",
        ),
    ),
    Flaw(
        flawed.LeasesForEver,
        ("Store::test_leased_work_is_nobody_elses_until_the_lease_runs_out",),
    ),
    Flaw(
        flawed.AddressesAfterwards,
        ("Kills::test_a_kill_between_any_two_commits_leaves_a_record_that_agrees_with_itself",),
    ),
]

FLAWS = [
    Flaw(
        flawed.VerifiesAfterRecording,
        (
            f"{INGEST}::test_missing_and_wrong_tokens_get_the_same_answer_and_leave_nothing",
            f"{INGEST}::test_without_a_right_token_no_body_is_asked_for",
        ),
    ),
    Flaw(
        flawed.AnswersBeforeRecording,
        (f"{INGEST}::test_every_providers_callback_is_accepted_once",),
    ),
    Flaw(
        flawed.SettlesBeforePublishing,
        (
            f"{RELAY}::test_after_an_outage_the_entry_arrives_with_the_same_bytes",
            f"{RELAY}::test_a_cancelled_run_settles_nothing_and_the_lease_runs_out",
        ),
    ),
    Flaw(
        flawed.WritesInPlace,
        (f"{BLOBS}::TestLocalBlobs::test_a_reader_sees_the_old_bytes_or_the_new_ones",),
    ),
]


ALL = [(flaw.name, flaw) for flaw in FLAWS] + [
    (f"{flaw.name}-{name}", flaw.on(engine))
    for flaw in FLAWS_OF_RECORDS
    for name, engine in ON_ENGINES.items()
]


class Results:
    """Listens to a run of pytest: from each test, without its parameters, to how it and its likes ended."""

    def __init__(self) -> None:
        self.ends: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            self.ends.setdefault(report.nodeid.partition("[")[0], set()).add(report.outcome)


def run(*tests: str) -> Mapping[str, set[str]]:
    """Run tests of this suite within this process, quietly."""
    results = Results()
    # The outer run has imported plug-ins that this one would want to rewrite first.
    rewritten = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    alone = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
    arguments = ["-q", "-s", *alone, f"--rootdir={ROOT}", *rewritten]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*arguments, *(str(ROOT / test) for test in tests)], plugins=[results])
    return results.ends


def test_without_a_flaw_all_of_these_tests_pass() -> None:
    wanted = sorted({test for _, flaw in ALL for test in flaw.caught_by})

    assert run(*wanted) == {test: {"passed"} for test in wanted}


@pytest.mark.parametrize("flaw", [pytest.param(flaw, id=name) for name, flaw in ALL])
def test_a_flaw_is_caught_by_each_test_that_is_there_for_it(
    flaw: Flaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in {test.partition("::")[0] for test in flaw.caught_by}:
        name = module.removesuffix(".py").replace("/", ".")
        monkeypatch.setattr(importlib.import_module(name), flaw.replaces, flaw.part)

    ends = run(*flaw.caught_by)

    assert {test: "failed" in ends.get(test, ()) for test in flaw.caught_by} == dict.fromkeys(
        flaw.caught_by, True
    )


def walk_at_random(place: Place) -> None:
    """The model of the record, without the search for the shortest way to a contradiction."""
    once = settings(
        max_examples=200,
        stateful_step_count=50,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        run_state_machine_as_test(record_at(place), settings=once)


@pytest.mark.parametrize(
    ("flaw", "engine"),
    [
        pytest.param(flaw, engine, id=f"{flaw.name}-{engine}")
        for flaw in FLAWS_OF_RECORDS
        for engine in flaw.by_the_model
    ],
)
def test_a_flaw_is_caught_by_random_walks_through_the_model(
    flaw: Flaw, engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    part = flaw.on(ON_ENGINES[engine]).part
    place: Place
    if engine == "sqlite":
        place = SqlitePlace(tmp_path, part)
    else:
        place = PostgresPlace(request.getfixturevalue("postgres_record"), part)

    with pytest.raises(AssertionError):
        walk_at_random(place)
