"""What the samples of ``receiver.testing`` hold."""

# How many files the sample of a provider has at most, where that is not any number.
MOST_FILES = {"bfl": 1, "midjourney": 1, "runblob": 1, "luma": 2, "openai": 0}


def links_in_sample(provider: str, links: list[str]) -> list[str]:
    """Those of the links that a sample of this provider names."""
    return links[: MOST_FILES.get(provider, len(links))]
