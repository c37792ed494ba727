"""Which tasks the demo submits, and what happens to each: always the same for the same number of tasks."""

from collections.abc import Mapping

import msgspec

from receiver.cli.simulate import PROVIDERS

SILENT = "reapi"  # sends no callbacks at all
FAILURE = "The prompt violates our content policy"
REPEATS = 3


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One task to submit, with the fate that the simulator is asked to give it."""

    number: int
    provider: str
    model: str
    images: int
    owner: str
    early: bool  # its callback comes before its submission is logged
    forged: bool  # somebody lies about it first, with a token that leaked
    lost: bool  # its callback never comes
    repeats: int  # how often its callback is sent
    fails: bool
    seconds: float | None = None  # from submission to end; None: as long as the others take

    @property
    def prompt(self) -> str:
        return f"Hills under a low sun, number {self.number}"

    @property
    def metadata(self) -> Mapping[str, object]:
        return {"number": self.number}

    @property
    def simulate(self) -> Mapping[str, object]:
        """The fate in the simulator's words; where it says nothing, the faults of the run decide."""
        fate: dict[str, object] = {}
        if self.repeats > 1:
            fate["duplicate"] = self.repeats
        if self.early:
            fate["call_before_answer"] = True
        if self.fails:
            fate |= {"outcome": "failed", "error": FAILURE}
        if self.lost and self.provider != SILENT:
            fate["drop_callback"] = True
        if self.forged:
            fate["forge"] = True
        if self.seconds is not None:
            fate["delay_seconds"] = self.seconds
        return fate


def make_plan(count: int) -> list[Job]:
    """Jobs of every kind among the first four, and at every provider from sixteen on."""
    jobs = []
    for number in range(count):
        turn = number + number // 4
        provider, images = PROVIDERS[number % 4], 4 - turn % 4
        calls = provider != SILENT
        job = Job(
            number=number,
            provider=provider,
            model=_model(provider, images),
            images=images,
            owner=f"user-{number % 5 + 1}",
            early=calls and turn % 4 == 1,
            forged=calls and turn % 8 == 1,
            lost=not calls or turn % 4 == 0,
            repeats=REPEATS if calls and turn % 4 == 2 else 1,
            fails=number % 24 == 3,
        )
        jobs.append(job)
    return jobs


def _model(provider: str, images: int) -> str:
    """A model that makes so many images at once. Vidgo's seedream answers with ids of another form."""
    match provider, images:
        case "apixo", _:
            return "gpt-image-1"
        case "reapi", _:
            return "gpt-image-2-official"
        case _, 1:
            return "gpt-image-2"
        case "apidot", _:
            return "flux-2"
        case _:
            return "gpt-4o-image" if images > 2 else "seedream-5.0-lite"
