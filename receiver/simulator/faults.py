"""What can go wrong: asked for by one submission or by shares of a whole run, decided once for each task."""

import random
from typing import Annotated, Literal

import msgspec

from receiver.errors import Misconfigured
from receiver.simulator.lost_answers import AnswerFault

SHARES = ("drop", "duplicate", "reorder", "fail", "forge", "dead_links", "error_in_200", "bad_signatures")

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong in a whole run. Shares are of tasks, from 0 to 1; explained in the package's docstring.

    Whom a share hits depends on ``seed``, on the task's number in the run and on the fault alone, so a run
    can be repeated, and raising one share leaves all else as it was. Raises Misconfigured.
    """

    seed: int = 0
    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0  # seconds, at most
    reorder: float = 0.0
    fail: float = 0.0
    forge: float = 0.0
    dead_links: float = 0.0
    error_in_200: float = 0.0
    bad_signatures: float = 0.0
    dying_links: float = 0.0  # seconds; 0: links live for ever
    rate_limit: int = 0  # status questions a minute, for each provider; 0: no limit

    def __post_init__(self) -> None:
        problems = [f"{name} must be from 0 to 1" for name in SHARES if not 0 <= getattr(self, name) <= 1]
        amounts = ("delay", "dying_links", "rate_limit")
        problems += [f"{name} must not be below 0" for name in amounts if not getattr(self, name) >= 0]
        if problems:
            raise Misconfigured(*problems)


class Simulate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one submission asks for; None: as the run decides. Explained in the package's docstring."""

    outcome: Literal["completed", "failed"] | None = None
    error: str | None = None
    error_code: str | int | None = None
    duplicate: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    delay_seconds: Seconds | None = None
    late_seconds: Seconds | None = None
    drop_callback: bool | None = None
    reorder: bool | None = None
    forge: bool | None = None
    forge_url: str | None = None
    dead_links: bool | None = None
    error_in_200: bool | None = None
    bad_signature: bool | None = None
    refuse: Literal[400, 402, 429, 500, 503] | None = None
    call_before_answer: bool = False
    answer: AnswerFault | None = None
    late_answer: Seconds = 0.0
    same_id_again: bool = False


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's words for a task that failed; ``code`` is None where it has none."""

    code: str | int | None
    message: str


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one task: what its submission asks for, and else what was drawn by lot."""

    outcome: Literal["completed", "failed"]
    error: str | None  # both None unless it fails
    error_code: str | int | None
    duplicate: int  # how many times its callback is sent in all
    repeated_later: int  # so many of them not at once
    delay_seconds: float  # from submission to end
    late_seconds: float  # from end to callback
    drop_callback: bool
    reorder: bool
    forge: bool
    dead_links: bool
    error_in_200: bool
    bad_signature: bool
    call_before_answer: bool


def decide(asked: Simulate, faults: Faults, number: int, task_seconds: float, failure: Failure) -> Fate:
    """The fate of task ``number`` of the run.

    ``task_seconds`` and ``failure`` hold where the submission does not ask for others.
    """
    early = asked.call_before_answer
    dice = _Dice(faults.seed, number)
    outcome = asked.outcome or ("failed" if dice.roll("fail") < faults.fail else "completed")
    copies, later = _copies(asked, faults, dice)
    late = 0.0 if early else dice.roll("delay") * faults.delay
    seconds = 0.0 if early else task_seconds
    failed = outcome == "failed"
    has_no_codes = failure.code is None  # the provider's failures
    code = failure.code if has_no_codes or asked.error_code is None else asked.error_code
    return Fate(
        outcome=outcome,
        error=(asked.error or failure.message) if failed else None,
        error_code=code if failed else None,
        duplicate=copies,
        repeated_later=later,
        delay_seconds=seconds if asked.delay_seconds is None else asked.delay_seconds,
        late_seconds=late if asked.late_seconds is None else asked.late_seconds,
        # Whoever asks for an early callback asks for a callback.
        drop_callback=dice.hits("drop", faults.drop, False if early else asked.drop_callback),
        reorder=dice.hits("reorder", faults.reorder, asked.reorder),
        forge=dice.hits("forge", faults.forge, True if asked.forge_url else asked.forge),
        dead_links=dice.hits("dead_links", faults.dead_links, asked.dead_links),
        error_in_200=dice.hits("error_in_200", faults.error_in_200, asked.error_in_200),
        bad_signature=dice.hits("bad_signatures", faults.bad_signatures, asked.bad_signature),
        call_before_answer=early,
    )


def _copies(asked: Simulate, faults: Faults, dice: "_Dice") -> tuple[int, int]:
    """How often the callback is sent, and how many of these times not at once."""
    if asked.duplicate is not None:
        return asked.duplicate, 0
    if dice.roll("duplicate") >= faults.duplicate:
        return 1, 0
    copies = 2 if dice.roll("copies") < 0.5 else 3
    return copies, int(dice.roll("later") * copies)


class _Dice:
    """One roll for each fault of one task, always the same."""

    def __init__(self, seed: int, number: int) -> None:
        self._name = f"{seed}/{number}"

    def roll(self, fault: str) -> float:
        """In [0, 1)."""
        return random.Random(f"{self._name}/{fault}").random()

    def hits(self, fault: str, share: float, asked: bool | None) -> bool:
        return self.roll(fault) < share if asked is None else asked
