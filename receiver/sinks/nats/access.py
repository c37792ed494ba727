"""How NATS servers are reached: their addresses, who we are there, and whom we trust."""

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl

OPTIONS = ("creds", "ssl_ca_certs")
PORT = 4222

_CREDENTIALS = re.compile(r"BEGIN NATS USER JWT-+\s+\S.*BEGIN USER NKEY SEED-+\s+\S", re.DOTALL)


class CredentialsError(ValueError):
    """A file holds no user's JWT and seed."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where servers are (``host:port`` each), and with what we introduce ourselves."""

    hosts: Sequence[str]
    user: str | None
    password: str | None  # None beside a user: the user is a token
    creds: Path | None  # a file with a user's JWT and seed
    tls: ssl.SSLContext
    needs_tls: bool

    def __repr__(self) -> str:
        return f"Access(needs_tls={self.needs_tls})"  # no secrets

    @classmethod
    def read(cls, urls: Sequence[SinkUrl], options: PluginOptions) -> Self:
        """Of one URL for each server. Raises Misconfigured."""
        url = urls[0]
        creds = options.data_dir / url.options["creds"] if "creds" in url.options else None
        if creds is not None:
            if url.user is not None:
                raise url.wrong("give either creds or a user in its URL")
            try:
                read_credentials(creds)
            except (OSError, CredentialsError) as exc:
                why = getattr(exc, "strerror", None) or str(exc)
                raise url.wrong(f"the file that creds names cannot be used: {why}") from exc
        return cls(
            hosts=[each.address for each in urls],
            user=url.user,
            password=url.password,
            creds=creds,
            tls=ssl.create_default_context(cafile=url.authorities(options.data_dir)),
            needs_tls=url.scheme == "tls",
        )


def read_credentials(path: Path) -> str:
    """The text of a file with a user's JWT and seed, as ``nsc`` writes it.

    Raises OSError, and CredentialsError where they are not in it: the driver would look for them for ever.
    """
    text = path.read_text(errors="replace")
    if not _CREDENTIALS.search(text):
        raise CredentialsError("it holds no JWT and seed of a user")
    return text
