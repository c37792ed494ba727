"""Which tasks the demo submits, and what shall happen to each: the same for the same number."""

from collections.abc import Mapping

import msgspec

PROVIDERS = ("vidgo", "apidot", "apixo")  # those that call back
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
    repeats: int  # how often its callback is sent
    fails: bool

    @property
    def prompt(self) -> str:
        return f"Hills under a low sun, number {self.number}"

    @property
    def metadata(self) -> Mapping[str, object]:
        return {"number": self.number}

    @property
    def simulate(self) -> Mapping[str, object]:
        """The fate in the simulator's words."""
        failure = {"outcome": "failed", "error": FAILURE} if self.fails else {}
        return {"duplicate": self.repeats, "call_before_answer": self.early, **failure}


def make_plan(count: int) -> list[Job]:
    """Jobs of every kind among the first four, and at every provider from a dozen on."""
    return [_job(number) for number in range(count)]


def _job(number: int) -> Job:
    provider, images = PROVIDERS[number % 3], 4 - number % 4
    return Job(
        number=number,
        provider=provider,
        model=_model(provider, images),
        images=images,
        owner=f"user-{number % 5 + 1}",
        early=number % 5 == 2,
        repeats=REPEATS if number % 4 == 1 else 1,
        fails=number % 24 == 3,
    )


def _model(provider: str, images: int) -> str:
    """One that makes so many images at once. Vidgo's seedream answers with ids of another form."""
    match provider, images:
        case "apixo", _:
            return "gpt-image-1"
        case _, 1:
            return "gpt-image-2"
        case "apidot", _:
            return "flux-2"
        case _:
            return "gpt-4o-image" if images > 2 else "seedream-5.0-lite"
