"""Our own URLs, and values as parts of any URL."""

import re
from urllib.parse import quote

CALLBACKS = "/callbacks/"
GATEWAY = "/gateway/"
_PLAIN = re.compile(r"[\w-]+", re.ASCII)

ASSET_PATH = "/assets/{provider}/{task_id:path}/{index}"


def path_part(value: str) -> str:
    """``value`` as one segment of a path: slashes are encoded, and dots alone cannot climb."""
    if _PLAIN.fullmatch(value):  # as nearly all are, and asking costs a tenth of encoding
        return value
    encoded = quote(value, safe="", errors="replace")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")


def callback_url(public_url: str, provider: str, token: str | None = None) -> str:
    """Where a provider sends its callbacks; ``public_url`` ends without a slash."""
    url = f"{public_url}{CALLBACKS}{path_part(provider)}"
    return url if token is None else f"{url}/{token}"


def asset_url(public_url: str, provider: str, task_id: str, index: int) -> str:
    """Where the file of a task is read; ``public_url`` ends without a slash."""
    return f"{public_url}/assets/{path_part(provider)}/{path_part(task_id)}/{index}"
