"""The only reader of the environment: variables in, one frozen value or every problem out."""

import difflib
import os
import pkgutil
import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from receiver import plugins
from receiver.config.bearer import parse_bearer
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
from receiver.config.parsers import HOSTS, Network, is_here, parse_route
from receiver.errors import Misconfigured
from receiver.models import (
    Access,
    AssetLinks,
    Confirm,
    GatewayCallbacks,
    GatewayCheck,
    GatewayKeys,
    GatewayLinks,
    MessageFormat,
    ProviderFacts,
    Route,
    Signing,
    SinkOrder,
)
from receiver.options import AwsAccess
from receiver.ports import Provider
from receiver.signing import whsec_key


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One sink: where it is, what it wants and how hard to try."""

    name: str
    url: str
    route: Route
    secret: str | None
    format: MessageFormat
    timeout_seconds: float
    concurrency: int
    max_age_seconds: float

    @property
    def scheme(self) -> str:
        return _scheme(self.url)

    @property
    def order(self) -> SinkOrder:
        return self.route.order

    def __repr__(self) -> str:
        return f"SinkSettings(name={self.name!r}, scheme={self.scheme!r})"  # the URL may hold a password


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can change; ``receiver.config.fields`` says what each one means."""

    data_dir: Path
    database_url: str
    database_connections: int
    assets_url: str
    public_url: str  # without a slash at its end
    host: str
    port: int
    secrets: tuple[str, ...]
    api_tokens: tuple[str, ...]
    admin_tokens: tuple[str, ...]
    viewer_tokens: tuple[str, ...]
    pages: bool
    providers_file: Path | None
    viewer_images: bool
    allow_untokened: bool
    max_body_bytes: int
    body_timeout_seconds: float
    idle_timeout_seconds: float
    early_ttl_seconds: float
    early_limit: int
    confirm: Confirm
    lost_after_seconds: float
    allow_networks: tuple[Network, ...]
    asset_types: frozenset[str]
    asset_hosts: Mapping[str, tuple[str, ...]]  # provider -> the only hosts its files may come from
    asset_max_bytes: int
    task_max_bytes: int
    asset_max_pixels: int
    asset_timeout_seconds: float
    asset_concurrency: int
    asset_link_copies: bool
    asset_links: AssetLinks
    asset_base_url: str | None  # without a slash at its end; of public links
    link_ttl_seconds: int
    retention_days: int
    metadata_index: tuple[str, ...]
    metrics_private: bool
    gateway: bool
    gateway_hosts: Mapping[str, tuple[str, ...]]  # provider -> names under which it is at the root
    gateway_keys: GatewayKeys
    gateway_owner: str
    gateway_owner_headers: tuple[str, ...]  # in lower case
    gateway_callbacks: GatewayCallbacks
    gateway_callback_secret: str | None
    gateway_links: GatewayLinks
    gateway_check: GatewayCheck
    gateway_catalog: Path | None  # the operator's own, a file or a folder
    gateway_cost_header: str | None
    gateway_answer_seconds: float
    gateway_max_body_bytes: int
    gateway_keep_requests: bool
    alert_url: str | None
    alert_secret: str | None
    alert_format: str
    allow_ephemeral: bool
    log_level: str
    log_format: str
    tracing: str
    url: str  # of the running service, for the command line
    allow_plain_http: bool
    token: str | None
    webhook_secret: str | None  # a backend's, which may share a shell with the service
    aws: AwsAccess
    sinks: tuple[SinkSettings, ...]
    providers: Mapping[str, Access]  # every provider there is, with a key or without
    own_providers: Mapping[str, Provider]  # those that the operator declared, by name
    ephemeral_disk: bool  # the host wipes its disk at every restart

    @property
    def database_scheme(self) -> str:
        return _scheme(self.database_url)

    @property
    def embedded(self) -> bool:
        """The record is a file of our own, so this process is the only one there is."""
        return self.database_scheme == "sqlite"

    @property
    def assets_scheme(self) -> str:
        return _scheme(self.assets_url)

    def __repr__(self) -> str:
        return f"Settings(data_dir={str(self.data_dir)!r}, public_url={self.public_url!r})"  # no secrets


# So many files of the largest size fit into a task; paid tasks have at most fifteen, hardly any of that size.
LARGE_FILES = 5

MOST_PRESIGNED_SECONDS = 604_800  # S3's own limit

PROVIDERS_FILE = "RECEIVER_PROVIDERS"
CATALOG_PLACE = "RECEIVER_GATEWAY_CATALOG"
_SINK = "RECEIVER_SINK_"
# Of sinks whose messages say what type they have.
_FORMATS = dict.fromkeys(("http", "https"), tuple(MessageFormat)) | dict.fromkeys(
    ("amqp", "amqps", "nats", "tls", "kafka", "sqs"), (MessageFormat.STRUCTURED, MessageFormat.JSON)
)

# Other names for what reaches a bucket: AWS's general ones, and Heroku's add-on Bucketeer, whose are one set.
_ELSE = {"AWS_REGION": "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL"}
_BUCKETEER = {
    "AWS_ACCESS_KEY_ID": "BUCKETEER_AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY": "BUCKETEER_AWS_SECRET_ACCESS_KEY",
    "AWS_REGION": "BUCKETEER_AWS_REGION",
    "BUCKET_NAME": "BUCKETEER_BUCKET_NAME",
}
# Where one of these is set, the driver finds credentials by itself.
_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

# Variables that Kubernetes sets in every pod for a Service whose name begins with "receiver" (its
# documentation, "Discovering services"; the forms are those of Docker's old links): name and value.
_INJECTED = tuple(
    (re.compile(rf"RECEIVER_(?:[A-Z0-9_]+_)?{name}"), re.compile(value))
    for name, value in (
        (r"SERVICE_HOST", r"[0-9a-fA-F.:]+"),
        (r"SERVICE_PORT(?:_[A-Z0-9_]+)?", r"[0-9]+"),
        (r"PORT", r"(?:tcp|udp|sctp)://\S+:[0-9]+"),
        (r"PORT_[0-9]+_(?:TCP|UDP|SCTP)", r"(?:tcp|udp|sctp)://\S+:[0-9]+"),
        (r"PORT_[0-9]+_(?:TCP|UDP|SCTP)_PROTO", r"tcp|udp|sctp"),
        (r"PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT", r"[0-9]+"),
        (r"PORT_[0-9]+_(?:TCP|UDP|SCTP)_ADDR", r"[0-9a-fA-F.:]+"),
    )
)
_ANY = "0.0.0.0"  # noqa: S104 - a container host routes to no other address


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    providers_file: Path | None = None,
) -> Settings:
    """Read the environment (the process's own by default); what is given besides wins over it.

    Raises Misconfigured with every problem at once. Empty variables count as unset.
    """
    stripped = {name: text.strip() for name, text in (os.environ if environ is None else environ).items()}
    given = {
        name: text
        for name, text in stripped.items()
        # Kubernetes' word about a Service is no setting, and no misspelt one.
        if text and not any(names.fullmatch(name) and values.fullmatch(text) for names, values in _INJECTED)
    }
    if "DATABASE_URL" in given:
        given.setdefault("RECEIVER_DATABASE_URL", given["DATABASE_URL"])
    if providers_file is not None:
        given[PROVIDERS_FILE] = str(providers_file)
    problems: list[str] = []
    own = _own_providers(given, problems)
    names = list(plugins.load_providers(own))
    problems += _unknown(given, names) + _misspelt(given, names)
    values = {field.attribute: _read(field, field.variable, given, problems) for field in FIELDS}
    values |= _addresses(values, given, host, port)
    values["task_max_bytes"] = values["task_max_bytes"] or LARGE_FILES * values["asset_max_bytes"]
    settings = Settings(
        **values,
        aws=_aws(given, problems),
        sinks=_sinks(given, names, problems),
        providers=_providers(given, plugins.load_providers(own), own, problems),
        own_providers=own,
        ephemeral_disk="DYNO" in given,
    )
    problems += (
        _missing_parts(settings, given)
        + _wrong_hosts(settings)
        + _wrong_links(settings)
        + _wrong_alerts(settings)
        + _wrong_catalogs(settings)
    )
    problems += _vanishing_disk(settings) + shared_secrets(settings)
    if problems:
        raise Misconfigured(*problems)
    return settings


# What a backend naturally calls what it needs to reach us, and what we call it.
_OF_A_BACKEND = {
    "RECEIVER_API_TOKEN": "RECEIVER_API_TOKENS",
    "RECEIVER_API_KEY": "RECEIVER_API_TOKENS",
    "RECEIVER_ADMIN_TOKEN": "RECEIVER_ADMIN_TOKENS",
    "RECEIVER_BASE_URL": "RECEIVER_PUBLIC_URL",
    "RECEIVER_CALLBACK_URL": "RECEIVER_PUBLIC_URL",
    "RECEIVER_WEBHOOK_SECRET": "RECEIVER_SINK_<NAME>_SECRET",
}


def _unknown(given: Mapping[str, str], providers: Sequence[str]) -> list[str]:
    known = [field.variable for field in FIELDS]
    # Some variables are not ours alone and have no prefix: PORT, VIDGO_API_KEY.
    unprefixed = {*known, *_variables_of_providers(providers)}
    problems = []
    for name in sorted(given):
        if not name.startswith("RECEIVER_") or name in known or name.startswith(_SINK):
            continue
        bare = name.removeprefix("RECEIVER_")
        if name in _OF_A_BACKEND:
            advice = (
                f"did you mean {_OF_A_BACKEND[name]}? If it is your backend's own, and both read one"
                " environment, give it a name that does not begin with RECEIVER_"
            )
        elif near := [bare] if bare in unprefixed else difflib.get_close_matches(name, known, 1, 0.75):
            advice = f"did you mean {near[0]}?"
        else:
            advice = "unset it, or see `receiver docs settings`"
        problems.append(f"{name} is not a setting; {advice}")
    return problems


def _variables_of_providers(providers: Sequence[str]) -> dict[str, str]:
    """Every variable of a provider by its name, with the part behind the provider's prefix."""
    return {
        variable_of(field.variable, provider): field.variable.removeprefix("<PROVIDER>_")
        for provider in providers
        for field in PROVIDER_FIELDS
    }


def _misspelt(given: Mapping[str, str], providers: Sequence[str]) -> list[str]:
    """Variables of providers that nearly have our name, where the one with our name is not set.

    Other programs read variables of such names, too, so all others are left alone.
    """
    known = _variables_of_providers(providers)
    others = sorted(given.keys() - known.keys())
    return [
        f"{name} is not a setting; did you mean {variable}?"
        for provider in providers
        for prefix in [variable_of("<PROVIDER>_", provider)]
        for name in others
        if name.startswith(prefix)
        for field in PROVIDER_FIELDS
        for variable in [variable_of(field.variable, provider)]
        if variable not in given and _means(name.removeprefix(prefix), variable.removeprefix(prefix))
    ]


def _means(written: str, option: str) -> bool:
    if (written, option) == ("KEY", "API_KEY"):  # far off by its letters, and the likeliest of all
        return True
    return difflib.SequenceMatcher(None, written, option).ratio() >= 0.85


def _read(field: Field, variable: str, given: Mapping[str, str], problems: list[str]) -> Any:
    text = given.get(variable, field.default)
    try:
        return field.accepts.parse(text)
    except (ValueError, KeyError):
        hidden = field.secret or "@" in text  # a URL's password is a secret wherever it was put
        problems.append(f"{variable} must be {field.accepts.words}" + ("" if hidden else f", not {text!r}"))
        return field.accepts.parse(field.default)


def _addresses(
    values: Mapping[str, Any], given: Mapping[str, str], host: str | None, port: int | None
) -> dict[str, Any]:
    """Where to listen, and our own URLs, from outside and inside: they follow from it unless they are set."""
    port = port or values["port"]
    # A host that hands out PORT reaches us from outside; a person's machine stays closed to its network.
    outside = "PORT" in given and "RECEIVER_HOST" not in given
    given_private: bool | None = values["metrics_private"]
    host = host or (_ANY if outside else values["host"])
    if host == _ANY or (host == "::" and socket.has_dualstack_ipv6()):
        reached_at = "127.0.0.1"  # ``::`` is both families, where the machine has both
    elif host == "::":
        reached_at = "[::1]"
    else:
        reached_at = f"[{host}]" if ":" in host else host
    own = f"http://{reached_at}:{port}"
    public_url = values["public_url"] or own
    # Only this machine is listened to behind a proxy on it, too, which hands on what everybody asks.
    is_reached = not (is_here(host) and is_here(urlsplit(public_url).hostname or ""))
    return {
        "host": host,
        "port": port,
        "public_url": public_url,
        "metrics_private": is_reached if given_private is None else given_private,
        "url": values["url"] or own,
    }


def _aws(given: Mapping[str, str], problems: list[str]) -> AwsAccess:
    names = _ELSE
    if "AWS_ACCESS_KEY_ID" not in given and _BUCKETEER["AWS_ACCESS_KEY_ID"] in given:
        names = _ELSE | _BUCKETEER
    values = {}
    for field in AWS_FIELDS:
        other = names.get(field.variable, field.variable)
        variable = other if field.variable not in given and other in given else field.variable
        values[field.attribute] = _read(field, variable, given, problems)
    if names is not _ELSE:
        values["session_token"] = None  # it would be of other keys
    return AwsAccess(**values, has_role=any(name in given for name in _ROLES))


def _own_providers(given: Mapping[str, str], problems: list[str]) -> Mapping[str, Provider]:
    if (path := given.get(PROVIDERS_FILE)) is None:
        return {}
    try:
        return plugins.declare_providers(Path(path))
    except Misconfigured as exc:
        problems += exc.problems
        return {}


def _providers(
    given: Mapping[str, str], providers: Mapping[str, Provider], own: Collection[str], problems: list[str]
) -> dict[str, Access]:
    """What is set of each; made are only others' and those of which something needs to be known."""
    accesses = {}
    for name in providers:
        values: dict[str, Any] = {
            field.attribute: _read(field, variable, given, problems)
            for field in PROVIDER_FIELDS
            if (variable := variable_of(field.variable, name)) in given
        }
        accesses[name] = Access(**values)
        try:
            if name not in own and plugins.origin(name) == "a package":
                _ = providers[name]  # somebody else's may not even be there to be imported
            if values.keys() & {"webhook_secrets", "webhook_keys_url"}:
                problems += _wrong_signing(providers[name].facts, accesses[name])
        except Misconfigured as exc:
            problems += exc.problems
    return accesses


def _wrong_signing(facts: ProviderFacts, access: Access) -> list[str]:
    """A setting that would check nothing, though it looks as if it did."""
    secret = variable_of("<PROVIDER>_WEBHOOK_SECRET", facts.name)
    address = variable_of("<PROVIDER>_WEBHOOK_KEYS_URL", facts.name)
    by_secret = facts.signing in {Signing.TEXT, Signing.BASE64}
    problems = []
    if access.webhook_secrets and not by_secret:
        instead = f"; set {address}" if facts.signing is Signing.KEYS else ""
        problems.append(f"{secret} is of no use: {facts.title} signs nothing with a secret{instead}")
    elif facts.signing is Signing.BASE64 and None in map(whsec_key, access.webhook_secrets):
        problems.append(f"{secret} must be base64, behind whsec_ or without, as {facts.title} shows it")
    if access.webhook_keys_url and facts.signing is not Signing.KEYS:
        instead = f"; set {secret}" if by_secret else ""
        problems.append(f"{address} is of no use: {facts.title} publishes no keys{instead}")
    return problems


def _sinks(
    given: Mapping[str, str], providers: Sequence[str], problems: list[str]
) -> tuple[SinkSettings, ...]:
    names: dict[str, str] = {}  # as used -> as written
    for variable in sorted(given):
        if variable.startswith(_SINK):
            written, underscore, option = variable.removeprefix(_SINK).partition("_")
            problem = _sink_problem(variable, written, underscore + option, names)
            if problem:
                problems.append(problem)
            else:
                names[written.lower()] = written
    problems += [
        f"{_SINK}{written} is not set, though options of that sink are"
        for written in names.values()
        if _SINK + written not in given
    ]
    sinks = tuple(_sink(name, written, given, providers, problems) for name, written in names.items())
    return sinks or (_sink("jsonl", "", {}, providers, problems),)


def _sink_problem(variable: str, written: str, option: str, names: Mapping[str, str]) -> str | None:
    known = [field.variable.removeprefix("RECEIVER_SINK_<NAME>") for field in SINK_FIELDS]
    if not (written.isascii() and written.isalnum()):
        return f"{variable} does not name a sink; a sink's name is made of letters and digits"
    if option == "_MAX_ATTEMPTS":
        return (
            f"{variable} is no setting any more: what ends a notification is its age;"
            f" set {_SINK}{written}_MAX_AGE_SECONDS, or nothing for a day"
        )
    if option not in known:
        options = ", ".join(name for name in known if name)
        return f"{variable} is not a setting; a sink's name has no underscore, its options are {options}"
    if names.get(written.lower(), written) != written:
        return f"{variable} and {_SINK}{names[written.lower()]} name the same sink; case tells none apart"
    return None


def _sink(
    name: str, written: str, given: Mapping[str, str], providers: Sequence[str], problems: list[str]
) -> SinkSettings:
    values = {
        field.attribute: _read(field, field.variable.replace("<NAME>", written), given, problems)
        for field in SINK_FIELDS
    }
    formats = _FORMATS.get(_scheme(values["url"]), (MessageFormat.STRUCTURED,))
    if values["format"] not in formats:
        problems.append(
            f"{_SINK}{written}_FORMAT: this kind of sink gets {' or '.join(formats)}, not {values['format']}"
        )
    order = values.pop("order")
    try:
        route = parse_route(name, values.pop("filter") or "", providers=providers)
    except Misconfigured as exc:
        problems += exc.problems
        route = Route(sink=name)
    return SinkSettings(name=name, route=msgspec.structs.replace(route, order=order), **values)


def _missing_parts(settings: Settings, given: Mapping[str, str]) -> list[str]:
    """Complaints about databases, asset stores and sinks that this release does not have."""
    problems = []
    if complaint := plugins.complaint("stores", settings.database_scheme):
        by_host = given.get("DATABASE_URL") == given.get("RECEIVER_DATABASE_URL")
        problems.append(
            f"{'DATABASE_URL' if by_host else 'RECEIVER_DATABASE_URL'}: {complaint};"
            " set RECEIVER_DATABASE_URL=sqlite:receiver.db to keep the record in the data folder"
        )
    if complaint := plugins.complaint("blobs", settings.assets_scheme):
        problems.append(f"RECEIVER_ASSETS_URL: {complaint}")
    problems += [
        f"{_SINK}{sink.name.upper()}: {complaint}"
        for sink in settings.sinks
        if (complaint := plugins.complaint("sinks", sink.scheme))
    ]
    return problems


def _wrong_hosts(settings: Settings) -> list[str]:
    """Complaints about hosts of providers that there are not: a misspelt one leaves the real one's open."""
    known = ", ".join(settings.providers)
    return [
        f"RECEIVER_ASSET_HOSTS must be {HOSTS.words}; provider {name} is not known (known: {known})"
        for name in settings.asset_hosts
        if name not in settings.providers
    ]


def _wrong_catalogs(settings: Settings) -> list[str]:
    """Complaints about catalogs of the operator's own."""
    if settings.gateway_catalog is None:
        return []
    check: Callable[[Path], list[str]] = pkgutil.resolve_name("receiver.gateway.catalog:check_catalogs")
    return check(settings.gateway_catalog)


def _wrong_links(settings: Settings) -> list[str]:
    """Complaints about links to files that nobody could follow."""
    problems = []
    if settings.asset_links is AssetLinks.PUBLIC and settings.asset_base_url is None:
        problems.append("RECEIVER_ASSET_LINKS=public needs RECEIVER_ASSET_BASE_URL: where the files are read")
    if settings.asset_links is not AssetLinks.PUBLIC and settings.asset_base_url is not None:
        problems.append("RECEIVER_ASSET_BASE_URL is for RECEIVER_ASSET_LINKS=public: set both or none")
    if settings.asset_links is AssetLinks.PRESIGNED and settings.link_ttl_seconds > MOST_PRESIGNED_SECONDS:
        problems.append(
            "RECEIVER_LINK_TTL_SECONDS must be at most 604800 with RECEIVER_ASSET_LINKS=presigned:"
            " no asset store signs for longer than 7 days"
        )
    return problems


def _wrong_alerts(settings: Settings) -> list[str]:
    if settings.alert_secret is not None and settings.alert_url is None:
        return ["RECEIVER_ALERT_SECRET is for RECEIVER_ALERT_URL: set both or none"]
    return []


def shared_secrets(settings: Settings) -> list[str]:
    """Complaints about one value used for secrets of different kinds: whoever has one has the other, too."""
    found = {
        (first, second)
        for (first, mine), (second, other) in combinations(_secrets(settings), 2)
        if mine == other and _kind(first) != _kind(second) and {first, second} not in _MAY_BE_EQUAL
    }
    return [f"{first} and {second} hold the same value: give each its own" for first, second in sorted(found)]


def guessable_secrets(settings: Settings) -> list[str]:
    """Our variables whose secret could be guessed."""
    keys = {key_variable(name) for name in settings.providers}
    return sorted({name for name, value in _secrets(settings) if name not in keys and is_guessable(value)})


def _secrets(settings: Settings) -> list[tuple[str, str]]:
    """Every secret, with the variable that holds it."""
    return [
        *(("RECEIVER_SECRET", secret) for secret in settings.secrets),
        *(("RECEIVER_API_TOKENS", parse_bearer(text).token) for text in settings.api_tokens),
        *(("RECEIVER_ADMIN_TOKENS", parse_bearer(text).token) for text in settings.admin_tokens),
        *(("RECEIVER_VIEWER_TOKENS", parse_bearer(text).token) for text in settings.viewer_tokens),
        *([("RECEIVER_TOKEN", settings.token)] if settings.token else []),
        *(
            (f"{_SINK}{sink.name.upper()}_SECRET", secret)
            for sink in settings.sinks
            for secret in (sink.secret or "").split(",")
            if secret
        ),
        *(
            ("RECEIVER_GATEWAY_CALLBACK_SECRET", each)
            for each in (settings.gateway_callback_secret or "").split(",")
            if each
        ),
        *(("RECEIVER_ALERT_SECRET", each) for each in (settings.alert_secret or "").split(",") if each),
        *([("AWS_SECRET_ACCESS_KEY", key)] if (key := settings.aws.secret_access_key) else []),
        *(
            (key_variable(name), key)
            for name, access in settings.providers.items()
            for key in access.api_keys
        ),
        *(
            (variable_of("<PROVIDER>_WEBHOOK_SECRET", name), secret)
            for name, access in settings.providers.items()
            for secret in access.webhook_secrets
        ),
    ]


# The command line's own token is one of the service's.
_MAY_BE_EQUAL = (
    {"RECEIVER_TOKEN", "RECEIVER_API_TOKENS"},
    {"RECEIVER_TOKEN", "RECEIVER_ADMIN_TOKENS"},
)


def _kind(variable: str) -> str:
    """The kind of a secret. All sinks are one, all providers one: two may share a consumer or an account."""
    if variable.startswith(_SINK):
        return "sink"
    return variable if variable.startswith("RECEIVER_") else "provider"


def _vanishing_disk(settings: Settings) -> list[str]:
    on_disk = settings.embedded or settings.assets_scheme == "file"
    if not (settings.ephemeral_disk and on_disk) or settings.allow_ephemeral:
        return []
    problem = (
        "DYNO is set: this host wipes its disk at every restart, and with it the data folder;"
        " run where a disk stays, or accept the loss with RECEIVER_ALLOW_EPHEMERAL=true"
    )
    return [problem]


def _scheme(url: str) -> str:
    return url.partition(":")[0]
