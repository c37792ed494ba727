"""Media links that expire: each carries its end, signed, so that only a fresh one opens the path again."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

# Of a link that must be signed because another one was dead on arrival, where links live for ever otherwise.
LONG_SECONDS = 24 * 3600.0


class Links:
    """Signs links and checks them, with a key of this run. ``life_seconds`` 0 stands for a day."""

    def __init__(self, life_seconds: float) -> None:
        self.life = timedelta(seconds=life_seconds or LONG_SECONDS)
        self._key = secrets.token_bytes(32)

    def sign(self, url: str, given_at: datetime) -> str:
        """``url`` with ``?expires=UNIX_SECONDS&signature=HEX``, good for one life from ``given_at`` on."""
        expires = f"{(given_at + self.life).timestamp():.3f}"
        return f"{url}?expires={expires}&signature={self._signature(urlsplit(url).path, expires)}"

    def opens(self, path: str, query: Mapping[str, str], now: datetime) -> bool:
        """Whether a link with this path and query is ours and still alive."""
        expires = query.get("expires", "")
        given, right = query.get("signature", ""), self._signature(path, expires)
        return hmac.compare_digest(given.encode(), right.encode()) and now.timestamp() < float(expires)

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path}?{expires}".encode(), hashlib.sha256).hexdigest()[:32]
