"""Finds the plug-in for a name or URL scheme; the only file that knows plug-ins' names.

Plug-ins are imported when asked for, so a missing driver hurts only those who want it. Third parties
register through the entry-point groups ``receiver.providers``, ``receiver.stores``, ``receiver.blobs``
and ``receiver.sinks``; our own names cannot be taken over.
"""

import functools
import pkgutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from receiver.errors import Misconfigured
from receiver.lazy_map import LazyMap
from receiver.ports import Provider

Kind = Literal["providers", "stores", "blobs", "sinks"]

_OURS: dict[Kind, dict[str, str]] = {
    "providers": {
        "vidgo": "receiver.providers.vidgo:Vidgo",
        "apidot": "receiver.providers.apidot:Apidot",
        "apixo": "receiver.providers.apixo:Apixo",
        "reapi": "receiver.providers.reapi:Reapi",
        "replicate": "receiver.providers.replicate:Replicate",
        "fal": "receiver.providers.fal:Fal",
        "kie": "receiver.providers.kie:Kie",
        "wavespeed": "receiver.providers.wavespeed:Wavespeed",
        "bfl": "receiver.providers:bfl.toml",
        "ideogram": "receiver.providers.ideogram:Ideogram",
        "piapi": "receiver.providers.piapi:Piapi",
        "leonardo": "receiver.providers.leonardo:Leonardo",
        "luma": "receiver.providers.luma:Luma",
        "evolink": "receiver.providers:evolink.toml",
        "apimart": "receiver.providers:apimart.toml",
        "runway": "receiver.providers:runway.toml",
        "runware": "receiver.providers.runware:Runware",
        "openai": "receiver.providers.openai:Openai",
        "kling": "receiver.providers.kling:Kling",
        "midjourney": "receiver.providers.midjourney:Midjourney",
        "runblob": "receiver.providers.runblob:Runblob",
    },
    "stores": {
        "sqlite": "receiver.stores.sqlite:SqliteStore",
        "postgres": "receiver.stores.postgres:PostgresStore",
        "postgresql": "receiver.stores.postgres:PostgresStore",
    },
    "blobs": {"file": "receiver.blobs.local:LocalBlobs", "s3": "receiver.blobs.s3:S3Blobs"},
    "sinks": {
        "jsonl": "receiver.sinks.jsonl:JsonlSink",
        "http": "receiver.sinks.http:HttpSink",
        "https": "receiver.sinks.http:HttpSink",
        "redis": "receiver.sinks.redis:RedisSink",
        "rediss": "receiver.sinks.redis:RedisSink",
        "celery+redis": "receiver.sinks.redis.celery:CelerySink",
        "celery+rediss": "receiver.sinks.redis.celery:CelerySink",
        "celery+amqp": "receiver.sinks.amqp.celery:CelerySink",
        "celery+amqps": "receiver.sinks.amqp.celery:CelerySink",
        "rq+redis": "receiver.sinks.redis.rq:RqSink",
        "rq+rediss": "receiver.sinks.redis.rq:RqSink",
        "dramatiq+redis": "receiver.sinks.redis.dramatiq:DramatiqSink",
        "dramatiq+rediss": "receiver.sinks.redis.dramatiq:DramatiqSink",
        "taskiq+redis": "receiver.sinks.redis.taskiq:TaskiqSink",
        "taskiq+rediss": "receiver.sinks.redis.taskiq:TaskiqSink",
        "arq+redis": "receiver.sinks.redis.arq:ArqSink",
        "arq+rediss": "receiver.sinks.redis.arq:ArqSink",
        "amqp": "receiver.sinks.amqp:AmqpSink",
        "amqps": "receiver.sinks.amqp:AmqpSink",
        "nats": "receiver.sinks.nats:NatsSink",
        "tls": "receiver.sinks.nats:NatsSink",
        "sqs": "receiver.sinks.sqs:SqsSink",
        "kafka": "receiver.sinks.kafka:KafkaSink",
    },
}

# Of the providers above, those whose facts say that they send no callbacks.
POLLED_ONLY = frozenset({"reapi", "apimart", "runway"})

_WORDS: dict[Kind, str] = {
    "providers": "provider",
    "stores": "database",
    "blobs": "asset store",
    "sinks": "sink",
}


def names(kind: Kind) -> list[str]:
    """Every name or scheme of a kind, ours first, then third parties'."""
    ours = _OURS[kind]
    return [*ours, *sorted(point.name for point in _third_parties(kind) if point.name not in ours)]


def complaint(kind: Kind, name: str) -> str | None:
    """Why there is no such part, in words for the operator; None where there is. Imports nothing."""
    if name in _OURS[kind] or _third_party(kind, name):
        return None
    known = ", ".join(names(kind))
    return f"{_describe(kind, name)} is not known (known: {known})"


def load(kind: Kind, name: str) -> Any:
    """The class behind a name or scheme. Raises Misconfigured when it is unknown or lacks its driver.

    A provider that is declared in TOML has no class: what comes back makes one all the same.
    """
    if path := _OURS[kind].get(name):
        return _declared(path, name) if path.endswith(".toml") else _ours(path, _describe(kind, name))
    if point := _third_party(kind, name):
        try:
            return point.load()
        except (ImportError, AttributeError) as exc:
            raise Misconfigured(
                f"{_describe(kind, name)} is registered by {point.value}, which cannot be imported: {exc}"
            ) from exc
    raise Misconfigured(complaint(kind, name) or f"{_describe(kind, name)} is not known")


def load_tracer() -> Any:
    """The class that sends spans. Raises Misconfigured when OpenTelemetry is not installed."""
    return _ours("receiver.tracing.otel:OtlpTracer", "RECEIVER_TRACING=otlp")


def load_public_key() -> Callable[[bytes], Callable[[bytes, bytes], bool]]:
    """What makes a check from an Ed25519 key's bytes. Raises Misconfigured when PyNaCl is not installed."""
    made: Callable[[bytes], Callable[[bytes, bytes], bool]] = _ours(
        "receiver.signing.ed25519:public_key", "a <PROVIDER>_WEBHOOK_KEYS_URL"
    )
    return made


def load_providers(own: Mapping[str, Provider] = MappingProxyType({})) -> LazyMap[Provider]:
    """One of every provider, by name; each is imported and made when it is first asked for.

    ``own`` are those that the operator declared, which may stand in for some of this release.
    """
    return LazyMap(
        (*names("providers"), *own),
        lambda name: own[name] if name in own else load("providers", name)(),
    )


def sends_callbacks(name: str, own: Mapping[str, Provider]) -> bool:
    """What a provider's facts say of it, known without importing those of this release."""
    if name in own or name not in _OURS["providers"]:
        return load_providers(own)[name].facts.pushes
    return name not in POLLED_ONLY


def origin(name: str) -> Literal["code", "TOML", "a package"]:
    """Where one of the ``names("providers")`` is from."""
    path = _OURS["providers"].get(name)
    if path is None:
        return "a package"
    return "TOML" if path.endswith(".toml") else "code"


def declare_providers(path: Path) -> Mapping[str, Provider]:
    """The providers of an operator's file. Raises Misconfigured with every problem in it."""
    read: Callable[..., Mapping[str, Provider]] = pkgutil.resolve_name("receiver.declared:read_file")
    return read(path, names("providers"))


def _declared(path: str, name: str) -> Callable[[], Provider]:
    folder, file = path.split(":")
    read: Callable[[Path], Mapping[str, Provider]] = pkgutil.resolve_name("receiver.declared:read_file")
    return partial(read(_folder_of(folder) / file).__getitem__, name)


def _folder_of(package: str) -> Path:
    return Path(pkgutil.resolve_name(package).__path__[0])


def _ours(path: str, described: str) -> Any:
    try:
        return pkgutil.resolve_name(path)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "receiver":
            raise  # a fault of ours, not a missing driver
        extra = path.partition(":")[0].split(".")[2]  # the plug-in's file or folder shares its name with it
        raise Misconfigured(
            f"{described} needs the {extra} extra: pip install 'callback-receiver[{extra}]'"
        ) from exc


def _third_parties(kind: Kind) -> tuple[EntryPoint, ...]:
    return _registered(f"receiver.{kind}", tuple(sys.path))


@functools.lru_cache(maxsize=len(_OURS))
def _registered(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # The metadata of all that is installed is read for them: once, while modules come from the same places.
    return tuple(entry_points(group=group))


def _third_party(kind: Kind, name: str) -> EntryPoint | None:
    return next((point for point in _third_parties(kind) if point.name == name), None)


def _describe(kind: Kind, name: str) -> str:
    return f"provider {name}" if kind == "providers" else f"{_WORDS[kind]} {name}://…"
