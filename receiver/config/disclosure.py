"""Settings as an admin may see them: without secrets, but comparable between two services.

A secret shows that it is set, and a fingerprint under a key that both sides know: equal ones look equal. A
secret that could be guessed has no fingerprint, since whoever holds the key could try. A URL shows only its
host, as passwords, paths and queries may be secret; the paths of files are shown whole.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from receiver.config import parsers
from receiver.config.fields import (
    AWS_FIELDS,
    FIELDS,
    PROVIDER_FIELDS,
    SINK_FIELDS,
    Field,
    key_variable,
    variable_of,
)
from receiver.config.guessing import is_guessable
from receiver.config.parsers import MIN_SECRET_CHARACTERS, filter_text
from receiver.config.settings import Settings, guessable_secrets

SET = "set"
HIDDEN = "…"  # in the place of what is not told of a URL
FINGERPRINT_CHARACTERS = 8

# What the command line alone goes by, or a backend.
_OF_A_SHELL = frozenset(
    {"RECEIVER_URL", "RECEIVER_ALLOW_PLAIN_HTTP", "RECEIVER_TOKEN", "RECEIVER_WEBHOOK_SECRET"}
)
_FILES = frozenset({"sqlite", "file", "jsonl"})  # behind these schemes there is a path and nothing else

Seal = Callable[[str, str], str]  # of a variable and its secret: what is shown of it


def disclose(settings: Settings, key: str | None) -> dict[str, str]:
    """What may be shown of each variable, as its text; empty where it is unset.

    Fingerprints are made with ``key``; without one there are none.
    """
    weak = {*guessable_secrets(settings)}
    accesses = settings.providers.items()
    weak |= {key_variable(name) for name, access in accesses if any(map(is_weak, access.api_keys))}
    seal = partial(_sealed, key, weak)
    shown = {
        field.variable: _shown(field, field.variable, getattr(settings, field.attribute), seal)
        for field in FIELDS
        if field.variable not in _OF_A_SHELL
    }
    for field in AWS_FIELDS:
        shown[field.variable] = _shown(field, field.variable, getattr(settings.aws, field.attribute), seal)
    for name, access in settings.providers.items():
        for field in PROVIDER_FIELDS:
            variable = variable_of(field.variable, name)
            shown[variable] = _shown(field, variable, getattr(access, field.attribute), seal)
    for sink in settings.sinks:
        for field in SINK_FIELDS:
            variable = field.variable.replace("<NAME>", sink.name.upper())
            value = filter_text(sink.route) if field.attribute == "filter" else getattr(sink, field.attribute)
            shown[variable] = _shown(field, variable, value, seal)
    return shown


def is_weak(secret: str) -> bool:
    """Whether a fingerprint would give the secret away to somebody who guesses."""
    return len(secret) < MIN_SECRET_CHARACTERS or is_guessable(secret)


def _shown(field: Field, variable: str, value: Any, seal: Seal) -> str:
    if field.accepts is parsers.LOCATION:
        url: str = value
        shown = shown_location(url)
        return shown if shown == url or _is_weak_url(url) else shown + seal(variable, url).removeprefix(SET)
    if field.secret:
        return seal(variable, value if isinstance(value, str) else ",".join(value or ()))
    return _plain(value)


def shown_location(url: str) -> str:
    """A URL of a database, store or sink as anybody may see it: the path of a file, else the host alone."""
    scheme = url.partition(":")[0]
    if scheme in _FILES:
        return url
    host = _host(url)
    return f"{scheme}://{host}/{HIDDEN}" if host else f"{scheme}:{HIDDEN}"


def _plain(value: Any) -> str:
    """As it would be written in a variable."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_plain(values)}" for name, values in sorted(value.items()))
    if isinstance(value, tuple | frozenset):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value.resolve() if isinstance(value, Path) else value)


def _host(url: str) -> str | None:
    """The host; None where it cannot be told for sure, as with a slash in a password."""
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return None
    user, _, host = netloc.rpartition("@")
    return None if "@" in user or "@" in url.replace(netloc, "", 1) else host


def _is_weak_url(url: str) -> bool:
    """Whether the hidden part could be guessed: the password, or a token in its place, else the rest."""
    try:
        parts = urlsplit(url)
        secret = parts.password or parts.username
    except ValueError:
        return True
    if secret:
        return is_weak(secret)
    return all(map(is_weak, re.split(r"[/?&=]", f"{parts.path}?{parts.query}")))


def _sealed(key: str | None, weak: Collection[str], variable: str, secret: str) -> str:
    if not secret:
        return ""
    if key is None or variable in weak:
        return SET
    message = f"receiver.settings.{variable}\n{secret}".encode("utf-8", "surrogatepass")
    digest = hmac.new(key.encode("utf-8", "surrogatepass"), message, hashlib.sha256).hexdigest()
    return f"{SET} ({digest[:FINGERPRINT_CHARACTERS]})"
