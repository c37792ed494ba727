"""Whether a provider could reach a URL of ours, judged without asking anybody."""

from urllib.parse import urlsplit

from receiver.errors import FetchFailed
from receiver.fetching.addresses import check_url

REMEDY = "set RECEIVER_PUBLIC_URL to the https URL that providers reach"
MAX_URL_CHARACTERS = 2048  # Vidgo's limit; the others state none


def obstacles(url: str) -> list[str]:
    """What would keep a provider from calling ``url``, as far as is known here."""
    parts = urlsplit(url)
    found = []
    if parts.scheme != "https":
        found.append("it is not https")
    host = parts.hostname or ""
    try:
        check_url(f"https://[{host}]/" if ":" in host else f"https://{host}/")
    except FetchFailed:
        found.append("its host cannot be reached from the internet")
    if len(url) > MAX_URL_CHARACTERS:
        found.append(f"it has more than {MAX_URL_CHARACTERS} characters")
    return found
