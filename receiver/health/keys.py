"""What it means that a provider cannot be asked, for lack of an API key, or only slowly."""

from receiver.models import Confirm, ProviderFacts

# As many tasks a minute may well end: where fewer can be asked about, confirmation delays them.
ENOUGH_A_MINUTE = 30


def consequence(confirm: Confirm, title: str, *, pushes: bool) -> str:
    """What follows from a provider's missing key, in words that go after "no API key:"."""
    if not pushes:
        return f"{title} sends no callbacks, so its tasks never end"
    match confirm:
        case Confirm.ALWAYS:
            return "every callback is held until it can be confirmed, and a lost one stays lost"
        case Confirm.WEAK:
            return (
                "a lost callback stays lost, and one without a token of its own task is trusted"
                " on the submission log alone"
            )
        case Confirm.NEVER:
            return "a lost callback stays lost"


def bottleneck(confirm: Confirm, facts: ProviderFacts, polls_per_minute: float) -> str | None:
    """What a provider's rate limit slows down where it confirms callbacks; None for nothing."""
    if not facts.pushes or confirm is Confirm.NEVER or polls_per_minute >= ENOUGH_A_MINUTE:
        return None
    which = "all" if confirm is Confirm.ALWAYS else "provider-token"
    return f"confirmation of {which} callbacks is limited to {polls_per_minute:g} a minute"
