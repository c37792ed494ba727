"""What a plug-in is opened with, besides its URL."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from receiver.clock import Clock
from receiver.models import CreditPrice, MessageFormat, Proof, Route

if TYPE_CHECKING:
    import httpx2


# To a database server: one that writes, one for wake-ups, and one at least for each purpose of reads.
LEAST_CONNECTIONS = 7
CONNECTIONS = 8  # a host's small plans have twenty


class AwsAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How buckets and queues are reached, as AWS's own tools and hosts name it in the environment."""

    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str | None = None
    endpoint: str | None = None  # of buckets; None: AWS itself
    bucket: str | None = None  # for a URL that names none
    has_role: bool = False  # the environment names another way to credentials: a web identity, a container

    def __repr__(self) -> str:
        return f"AwsAccess(region={self.region!r})"  # no secrets

    @property
    def lacking(self) -> str:
        """The variables to set where there is no pair of keys."""
        return (
            "AWS_SECRET_ACCESS_KEY" if self.access_key_id else "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a blob store or a sink is opened with."""

    name: str  # the sink's own name; the scheme for a blob store
    data_dir: Path  # relative paths in URLs are taken from here
    http: "httpx2.AsyncClient"  # for parts that speak HTTP: no redirects, no proxy from the environment
    secret: str | None = None
    timeout_seconds: float = 10.0
    format: MessageFormat = MessageFormat.STRUCTURED  # for sinks whose messages say what type they have
    aws: AwsAccess = AwsAccess()  # for parts that are in a cloud of that kind


def never(_provider: str, _proof: Proof) -> bool:
    """Ask for no confirmation."""
    return False


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is opened with."""

    data_dir: Path  # relative paths in URLs are taken from here
    clock: Clock
    routes: Sequence[Route] = ()  # the sinks that events are addressed to
    first_poll_seconds: Mapping[str, float] = {}  # by provider: the usual time of a task
    link_life_seconds: Mapping[str, float] = {}  # by provider: for files that are fetched once more
    # Whether a task's end in a callback of this provider with this proof counts only once the provider's
    # status answer says the same. Called in the transaction, on any thread.
    confirms: Callable[[str, Proof], bool] = never
    unpolled: Mapping[str, str] = {}  # providers that cannot be asked, and why: for ``Task.waiting_on``
    connections: int = CONNECTIONS  # to a database server, at most
    early_limit: int = 10_000  # of deliveries without an owner: early and unrecognised ones each
    link_copies: bool = False  # remember what is in files, for ``find_copy``
    metadata_keys: Sequence[str] | None = None  # tasks are found by these; None leaves them as they are
    credit_prices: Mapping[str, CreditPrice] = {}  # by provider: of orders that it names its own charge for
    observe: Callable[[int, float], None] | None = None  # told of every commit: rows, seconds


def why_not_asked(options: StoreOptions, provider: str) -> str | None:
    """Why a provider is not asked about its tasks; None where it is."""
    if options.first_poll_seconds and provider not in options.first_poll_seconds:
        return "no adapter for it is installed"
    return options.unpolled.get(provider)
