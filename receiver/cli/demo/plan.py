"""Which tasks the demo submits, and what happens to each: always the same for the same number of tasks."""

from collections.abc import Mapping

import msgspec

PROVIDERS = ("vidgo", "apidot", "apixo", "reapi", "replicate", "wavespeed")
SILENT = "reapi"  # sends no callbacks at all
SIGNED = ("replicate", "wavespeed")  # ordered by hand; most others through the gateway
FAILURE = "The prompt violates our content policy"
REPEATS = 3
# Half of it is for asking the provider, which must not say that the task is done by then.
LIED_ABOUT_SECONDS = 2.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One task to submit, with the fate that the simulator is asked to give it."""

    number: int
    provider: str
    model: str
    images: int
    owner: str
    early: bool  # its callback comes before its submission is logged, or its order is answered
    forged: bool  # somebody lies about it first, with a token that leaked
    lost: bool  # its callback never comes
    repeats: int  # how often its callback is sent
    fails: bool
    bad_signature: bool = False  # it is signed with another secret than the one that was agreed on
    seconds: float | None = None  # from submission to end; None: as long as the others take

    @property
    def prompt(self) -> str:
        return f"Hills under a low sun, number {self.number}"

    @property
    def metadata(self) -> Mapping[str, object]:
        return {"number": self.number}

    @property
    def by_gateway(self) -> bool:
        return self.provider not in SIGNED

    @property
    def simulate(self) -> dict[str, object]:
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
            fate["delay_seconds"] = LIED_ABOUT_SECONDS
        if self.bad_signature:
            fate["bad_signature"] = True
        if self.seconds is not None:
            fate["delay_seconds"] = self.seconds
        return fate


def make_plan(count: int) -> list[Job]:
    """Jobs of every kind among the first four, and at every provider among 24; signed ones from five on."""
    jobs = []
    for number in range(count):
        turn = number + number // len(PROVIDERS)
        provider, images = PROVIDERS[number % len(PROVIDERS)], 4 - turn % 4
        calls = provider != SILENT
        job = Job(
            number=number,
            provider=provider,
            model=_model(provider, images),
            images=images,
            owner=f"user-{number % 5 + 1}",
            early=calls and turn % 4 == 1,
            forged=calls and turn % 4 == 2 and provider not in SIGNED,
            lost=not calls or turn % 4 == 0,
            repeats=REPEATS if calls and turn % 4 == 2 else 1,
            fails=number % 24 == 3,
            bad_signature=provider in SIGNED and turn % 4 == 3,
        )
        jobs.append(job)
    return jobs


_MODELS = {
    "apixo": "gpt-image-2",
    "reapi": "gpt-image-2-official",
    "replicate": "black-forest-labs/flux-schnell",
    "wavespeed": "wavespeed-ai/flux-dev",
}


def _model(provider: str, images: int) -> str:
    """A model that makes so many images at once. Vidgo's seedream answers with ids of another form."""
    match provider, images:
        case _, _ if provider in _MODELS:
            return _MODELS[provider]
        case _, 1:
            return "gpt-image-2"
        case "apidot", _:
            return "flux-2"
        case _:
            return "gpt-4o-image" if images > 2 else "seedream-5.0-lite"
