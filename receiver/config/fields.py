"""Every variable in one table: what it may hold, its default, what it means."""

import functools
import re

import msgspec

from receiver.config import parsers
from receiver.config.parsers import Accepts
from receiver.models import (
    AssetLinks,
    Confirm,
    GatewayCallbacks,
    GatewayCheck,
    GatewayKeys,
    GatewayLinks,
    MessageFormat,
    SinkOrder,
)
from receiver.options import CONNECTIONS, LEAST_CONNECTIONS


class Field(msgspec.Struct, frozen=True):
    """One variable; positional, so that the table below reads as one."""

    variable: str
    accepts: Accepts
    default: str
    help: str
    secret: bool = False  # its value never appears in a message
    shown: str | None = None  # how the default reads where it is worked out from others
    name: str | None = None

    @property
    def attribute(self) -> str:
        return self.name or self.variable.removeprefix("RECEIVER_").lower()

    @property
    def summary(self) -> str:
        """For a terminal: what it means, and its default."""
        return f"{self.help} [default: {self.shown or self.default}]"


DAY_SECONDS = 86_400
MAX_BODY_BYTES = 2**23  # of the memory for bodies that wait, an eighth

FIELDS = (
    Field("RECEIVER_DATA_DIR", parsers.FOLDER, "receiver-data", "folder of everything that is kept"),
    Field(
        "RECEIVER_DATABASE_URL",
        parsers.LOCATION,
        "sqlite:receiver.db",
        "the record, a file in the data folder, or `postgresql://…`; unset, a host's `DATABASE_URL` is taken",
        secret=True,
    ),
    Field(
        "RECEIVER_DATABASE_CONNECTIONS",
        parsers.whole(LEAST_CONNECTIONS, 100),
        str(CONNECTIONS),
        "how many connections to PostgreSQL each process has at most; each has one that writes and one for"
        " wake-ups, all others read",
    ),
    Field(
        "RECEIVER_ASSETS_URL",
        parsers.LOCATION,
        "file:assets",
        "where files are stored, a folder in the data folder or anywhere (`file:///…`), or `s3://bucket/prefix`",
        secret=True,
    ),
    Field(
        "RECEIVER_PUBLIC_URL",
        parsers.WEB_ADDRESS,
        "",
        "how providers and consumers reach this service; its path is passed over before every door",
        shown="http://HOST:PORT",
    ),
    Field(
        "RECEIVER_HOST",
        parsers.HOST,
        "127.0.0.1",
        "address to listen on; `::` is every address of both families",
        shown="127.0.0.1; 0.0.0.0 when PORT is set",
    ),
    Field("PORT", parsers.whole(1, 65_535), "8080", "port to listen on"),
    Field(
        "RECEIVER_SECRET",
        parsers.SECRETS,
        "",
        "keys of callback tokens, asset links and cursors; the first signs, all are accepted",
        secret=True,
        shown="generated",
        name="secrets",
    ),
    Field(
        "RECEIVER_API_TOKENS",
        parsers.TOKENS,
        "",
        "bearer tokens of backends; a name shows in logs, and behind it `@OWNER` binds the token to an owner,"
        " `@tenant-7*` to all that begin so",
        secret=True,
        shown="generated",
    ),
    Field(
        "RECEIVER_ADMIN_TOKENS",
        parsers.ADMIN_TOKENS,
        "",
        "bearer tokens of admins; a name shows in logs",
        secret=True,
        shown="generated",
    ),
    Field(
        "RECEIVER_VIEWER_TOKENS",
        parsers.ADMIN_TOKENS,
        "",
        "tokens with which people may look at the admin pages, and do nothing; a name shows in logs",
        secret=True,
        shown="none",
    ),
    Field("RECEIVER_PAGES", parsers.FLAG, "true", "have the admin pages, at `/admin/`"),
    Field(
        "RECEIVER_PROVIDERS",
        parsers.FILE,
        "",
        "providers of your own, declared in TOML: one table makes one (see `receiver docs extending`)",
        shown="none",
        name="providers_file",
    ),
    Field(
        "RECEIVER_VIEWER_IMAGES", parsers.FLAG, "true", "let viewers see small pictures of the stored images"
    ),
    Field("RECEIVER_ALLOW_UNTOKENED", parsers.FLAG, "false", "take callbacks without a token"),
    Field("RECEIVER_MAX_BODY_BYTES", parsers.whole(1024, MAX_BODY_BYTES), "2097152", "largest callback"),
    Field(
        "RECEIVER_BODY_TIMEOUT_SECONDS", parsers.seconds(1, 300), "10", "longest wait for a callback's body"
    ),
    Field(
        "RECEIVER_IDLE_TIMEOUT_SECONDS",
        parsers.seconds(5, 7200),
        "620",
        "how long a connection may pause between requests: longer than the proxy in front keeps it",
    ),
    Field(
        "RECEIVER_EARLY_TTL_SECONDS",
        parsers.seconds(1, 30 * DAY_SECONDS),
        "86400",
        "how long before its submission is logged a callback may come",
    ),
    Field(
        "RECEIVER_EARLY_LIMIT",
        parsers.whole(0, 100_000),
        "10000",
        "how many such callbacks are kept at most",
    ),
    Field(
        "RECEIVER_CONFIRM",
        parsers.one_of(*Confirm),
        Confirm.WEAK,
        "which callbacks count only once their provider, asked with our key, says the same:"
        " weak are those without a token of their own task",
    ),
    Field(
        "RECEIVER_LOST_AFTER_SECONDS",
        parsers.seconds(60, 30 * DAY_SECONDS),
        "86400",
        "how long after its submission a task without an end is given up as lost",
    ),
    Field(
        "RECEIVER_ALLOW_NETWORKS",
        parsers.NETWORKS,
        "",
        "private networks that files may come from, by http and on any port too",
        shown="none",
    ),
    Field(
        "RECEIVER_ASSET_TYPES",
        parsers.some_of("image", "video", "audio", "model"),
        "image",
        "kinds of files to store, known by their bytes: image (png, jpg, webp, gif, avif, heic, jxl),"
        " video (mp4, mov, webm, mkv), audio (mp3, aac, m4a, wav, ogg, opus, flac),"
        " model (glb, gltf, obj, fbx, usdz, stl, ply)",
    ),
    Field(
        "RECEIVER_ASSET_HOSTS",
        parsers.HOSTS,
        "",
        "the only hosts that a provider's files may come from",
        shown="any public host",
    ),
    Field("RECEIVER_ASSET_MAX_BYTES", parsers.whole(1024, 2**40), "104857600", "largest file"),
    Field(
        "RECEIVER_TASK_MAX_BYTES",
        parsers.optional(parsers.whole(1024, 2**43)),
        "",
        "all files of one task together",
        shown="5 times `RECEIVER_ASSET_MAX_BYTES`",
    ),
    Field(
        "RECEIVER_ASSET_MAX_PIXELS", parsers.whole(1, 2**40), "100000000", "largest image, width times height"
    ),
    Field("RECEIVER_ASSET_TIMEOUT_SECONDS", parsers.seconds(1, 3600), "120", "longest download"),
    Field("RECEIVER_ASSET_CONCURRENCY", parsers.whole(1, 256), "8", "downloads at a time"),
    Field(
        "RECEIVER_ASSET_LINK_COPIES",
        parsers.FLAG,
        "true",
        "link a file whose bytes its owner has stored already to those, instead of storing them again:"
        " a second name in a folder, the first one's object in a bucket",
    ),
    Field(
        "RECEIVER_LINK_TTL_SECONDS",
        parsers.whole(60, 3650 * DAY_SECONDS),
        "604800",
        "life of the signed asset links in notifications",
    ),
    Field(
        "RECEIVER_ASSET_LINKS",
        parsers.one_of(*AssetLinks),
        AssetLinks.RECEIVER,
        "links to files in notifications and answers: signed by us and served by us, presigned by the asset"
        " store (at most 7 days), or under `RECEIVER_ASSET_BASE_URL`",
    ),
    Field(
        "RECEIVER_ASSET_BASE_URL",
        parsers.WEB_ADDRESS,
        "",
        "with `RECEIVER_ASSET_LINKS=public`: where everybody finds the asset store's keys, a CDN say",
        shown="none",
    ),
    Field(
        "RECEIVER_RETENTION_DAYS",
        parsers.whole(1, 36_500),
        "30",
        "how long raw bodies, requests and attempts are kept",
    ),
    Field(
        "RECEIVER_METADATA_INDEX",
        parsers.KEYS,
        "",
        "keys of submissions' `metadata` by which tasks are found (`GET /tasks?metadata.KEY=VALUE`);"
        " each has an index, made at the next start",
        shown="none",
    ),
    Field(
        "RECEIVER_METRICS_PRIVATE",
        parsers.optional(parsers.FLAG),
        "",
        "ask for an admin token at /metrics",
        shown="true, but false where only this machine is listened to, under no public URL",
    ),
    Field(
        "RECEIVER_ALLOW_EPHEMERAL", parsers.FLAG, "false", "start on a disk that is wiped at every restart"
    ),
    Field(
        "RECEIVER_LOG_LEVEL",
        parsers.one_of("debug", "info", "warning", "error"),
        "info",
        "least level that is logged",
    ),
    Field(
        "RECEIVER_LOG_FORMAT",
        parsers.one_of("auto", "json", "text"),
        "auto",
        "auto is text on a terminal and json elsewhere",
    ),
    Field(
        "RECEIVER_GATEWAY",
        parsers.FLAG,
        "false",
        "take orders at `/gateway/PROVIDER/…` in the provider's own form, and pass them on",
    ),
    Field(
        "RECEIVER_GATEWAY_HOSTS",
        parsers.HOSTS,
        "",
        "host names of ours at whose root a provider is, for clients that drop the path of a base URL",
        shown="none",
    ),
    Field(
        "RECEIVER_GATEWAY_KEYS",
        parsers.one_of(*GatewayKeys),
        GatewayKeys.PASS,
        "what its callers show: pass is the provider's own key, one of `<PROVIDER>_API_KEY`; hold is"
        " a gateway token or one of `RECEIVER_API_TOKENS`, for which the first of them goes on",
    ),
    Field(
        "RECEIVER_GATEWAY_OWNER",
        parsers.OWNER,
        "default",
        "whose an order is that names no owner",
    ),
    Field(
        "RECEIVER_GATEWAY_OWNER_HEADERS",
        parsers.HEADERS,
        "",
        "headers that name the owner, besides `X-Receiver-Owner`",
        shown="none",
    ),
    Field(
        "RECEIVER_GATEWAY_CALLBACKS",
        parsers.one_of(*GatewayCallbacks),
        GatewayCallbacks.RELAY,
        "what becomes of an order's own `callback_url`: relay has us call it once the task has ended here;"
        " keep leaves it to the provider, and the end is learnt by asking; drop has nobody call it",
    ),
    Field(
        "RECEIVER_GATEWAY_CALLBACK_SECRET",
        parsers.SECRET,
        "",
        "what relayed callbacks are signed with, as webhooks are: `whsec_` and the base64 of 24 random bytes"
        " or more",
        secret=True,
        shown="unsigned",
    ),
    Field(
        "RECEIVER_GATEWAY_LINKS",
        parsers.one_of(*GatewayLinks),
        GatewayLinks.OURS,
        "links to files in its status answers: to our copies, or the provider's",
    ),
    Field(
        "RECEIVER_GATEWAY_CHECK",
        parsers.one_of(*GatewayCheck),
        GatewayCheck.WARN,
        "what becomes of an order that breaks a rule of its provider's: warn sends it and names the rule;"
        " refuse does not send what the provider says it refuses, nor strict what it draws or bills otherwise"
        " than asked; off does not look",
    ),
    Field(
        "RECEIVER_GATEWAY_CATALOG",
        parsers.PLACE,
        "",
        "rules and prices of your own in place of those that came with this release:"
        " `vidgo.toml` or the like, or a folder of such files",
        shown="none",
    ),
    Field(
        "RECEIVER_GATEWAY_COST_HEADER",
        parsers.HEADER,
        "",
        "a header that tells an order's cost in US dollars, besides `X-Receiver-Cost-Usd`, to a proxy in"
        " front that books by it: `x-litellm-response-cost`",
        shown="none",
    ),
    Field(
        "RECEIVER_GATEWAY_ANSWER_SECONDS",
        parsers.seconds(1, 120),
        "25",
        "how long the caller of an order waits at most; the order itself goes on for up to 120 seconds",
    ),
    Field(
        "RECEIVER_GATEWAY_MAX_BODY_BYTES",
        parsers.whole(1024, 64 * 2**20),
        "33554432",
        "largest order; all that wait at a time have 64 MiB together",
    ),
    Field(
        "RECEIVER_GATEWAY_KEEP_REQUESTS",
        parsers.FLAG,
        "true",
        "keep what was ordered (64 KiB at most, without images in it) as long as raw bodies; false keeps only"
        " what its price goes by",
    ),
    Field(
        "RECEIVER_ALERT_URL",
        parsers.HOOK,
        "",
        "who is told by POST when something goes wrong, worsens or is over; nobody where it is unset",
        secret=True,
        shown="unset",
    ),
    Field(
        "RECEIVER_ALERT_SECRET",
        parsers.SECRET,
        "",
        "what alerts are signed with, as webhooks are: `whsec_` and the base64 of 24 random bytes or more",
        secret=True,
        shown="unsigned",
    ),
    Field(
        "RECEIVER_ALERT_FORMAT",
        parsers.one_of("json", "slack"),
        "json",
        "what an alert is: a JSON document with all of it, or one text as Slack takes it",
    ),
    Field(
        "RECEIVER_TRACING",
        parsers.one_of("off", "otlp"),
        "off",
        "send spans to a collector by OTLP over HTTP, as the standard variables `OTEL_…` say;"
        " needs `pip install 'callback-receiver[otel]'`",
    ),
    Field(
        "RECEIVER_URL",
        parsers.WEB_ADDRESS,
        "",
        "the running service, for the command line",
        shown="http://127.0.0.1:PORT",
    ),
    Field(
        "RECEIVER_ALLOW_PLAIN_HTTP",
        parsers.FLAG,
        "false",
        "let the command line's token go by http to another machine or through a tunnel, where others see it",
    ),
    Field(
        "RECEIVER_TOKEN",
        parsers.SECRET,
        "",
        "bearer token for the command line",
        secret=True,
        shown="an admin token from here or the data folder",
    ),
    Field(
        "RECEIVER_WEBHOOK_SECRET",
        parsers.OTHERS,
        "",
        "what `receiver.client` verifies webhooks by, in a backend's environment; the service does without",
        secret=True,
        shown="none",
    ),
)

# How buckets and queues are reached. Hosts and AWS's own tools set them, so their names are not ours.
AWS_FIELDS = (
    Field(
        "AWS_ACCESS_KEY_ID",
        parsers.KEY,
        "",
        "key for `s3://…` and `sqs://…`; unset, Heroku's `BUCKETEER_AWS_…` and `BUCKETEER_BUCKET_NAME` are"
        " taken",
        secret=True,
        shown="none",
        name="access_key_id",
    ),
    Field(
        "AWS_SECRET_ACCESS_KEY",
        parsers.KEY,
        "",
        "secret key for `s3://…` and `sqs://…`",
        secret=True,
        shown="none",
        name="secret_access_key",
    ),
    Field(
        "AWS_SESSION_TOKEN",
        parsers.KEY,
        "",
        "with temporary keys, their token",
        secret=True,
        shown="none",
        name="session_token",
    ),
    Field(
        "AWS_REGION",
        parsers.KEY,
        "",
        "region of the bucket, and of a queue whose URL names none; unset, `AWS_DEFAULT_REGION` is taken",
        shown="us-east-1; auto where an endpoint is set",
        name="region",
    ),
    Field(
        "AWS_ENDPOINT_URL_S3",
        parsers.WEB_ADDRESS,
        "",
        "an S3 server that is not AWS's; unset, `AWS_ENDPOINT_URL` is taken",
        shown="AWS's own",
        name="endpoint",
    ),
    Field(
        "BUCKET_NAME",
        parsers.KEY,
        "",
        "bucket where `RECEIVER_ASSETS_URL` is `s3:` and names none",
        shown="none",
        name="bucket",
    ),
)

# One provider's variables, written for a provider called <PROVIDER>; unset ones are as its adapter says.
PROVIDER_FIELDS = (
    Field(
        "<PROVIDER>_API_KEY",
        parsers.API_KEYS,
        "",
        "with what a provider's API is asked about tasks, as in `VIDGO_API_KEY`, `APIDOT_API_KEY`,"
        " `APIXO_API_KEY`, `REAPI_API_KEY`; of several, the first asks about all that none of the others"
        " ordered through the gateway",
        secret=True,
        shown="none: it is not asked",
        name="api_keys",
    ),
    Field(
        "<PROVIDER>_BASE_URL",
        parsers.API_ADDRESS,
        "",
        "where its API is",
        shown="the provider's own",
        name="base_url",
    ),
    Field(
        "<PROVIDER>_POLLS_PER_MINUTE",
        parsers.optional(parsers.whole(1, 6000)),
        "",
        "how often it is asked at most, about all tasks together",
        shown="by provider",
        name="polls_per_minute",
    ),
    Field(
        "<PROVIDER>_FIRST_POLL_SECONDS",
        parsers.optional(parsers.seconds(0, DAY_SECONDS)),
        "",
        "how long after its submission a task is asked about for the first time",
        shown="by provider",
        name="first_poll_seconds",
    ),
    Field(
        "<PROVIDER>_WEBHOOK_SECRET",
        parsers.SECRETS,
        "",
        "with what a provider signs its callbacks; where it is set, all of them must be signed, whether their"
        " URL has a token or not; several count at a time, so that one can replace another",
        secret=True,
        shown="none: only the URL's token counts",
        name="webhook_secrets",
    ),
    Field(
        "<PROVIDER>_WEBHOOK_KEYS_URL",
        parsers.WEB_ADDRESS,
        "",
        "the same for a provider that signs with a private key: where its public ones are (see `receiver docs"
        " providers`); needs `pip install 'callback-receiver[ed25519]'`",
        shown="none: only the URL's token counts",
        name="webhook_keys_url",
    ),
)

# One sink's variables, written for a sink called <NAME>.
SINK_FIELDS = (
    Field(
        "RECEIVER_SINK_<NAME>",
        parsers.LOCATION,
        "jsonl:events.jsonl",
        "a sink: where notifications go",
        secret=True,
        shown="with no sink at all: jsonl:events.jsonl",
        name="url",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_FILTER",
        parsers.FILTER,
        "",
        "which notifications it gets",
        shown="all",
        name="filter",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_ORDER",
        parsers.one_of(*SinkOrder),
        SinkOrder.NONE,
        "which notifications it gets one after the other: those of one task, or of one owner",
        name="order",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_SECRET",
        parsers.SECRET,
        "",
        "what its notifications are signed with; webhooks want `whsec_` and the base64 of 24 random bytes or"
        " more, several separated by commas",
        secret=True,
        shown="unsigned",
        name="secret",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_FORMAT",
        parsers.one_of(*MessageFormat),
        MessageFormat.STRUCTURED,
        "what a webhook or a queue gets: the event as `application/cloudevents+json`, the same as"
        " `application/json`, or, webhooks only, CloudEvents' binary mode",
        name="format",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_TIMEOUT_SECONDS",
        parsers.seconds(1, 300),
        "10",
        "longest publish",
        name="timeout_seconds",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_CONCURRENCY",
        parsers.whole(1, 256),
        "8",
        "publishes at a time; `amqp`, `jsonl`, `nats` and `redis` get up to 512 events in each, and two at a "
        "time at most",
        name="concurrency",
    ),
    Field(
        "RECEIVER_SINK_<NAME>_MAX_AGE_SECONDS",
        parsers.seconds(1, 2_592_000),
        "86400",
        "how old a notification is when a failure makes it a dead letter",
        name="max_age_seconds",
    ),
)


ALL_FIELDS = (*FIELDS, *AWS_FIELDS, *PROVIDER_FIELDS, *SINK_FIELDS)


def variable_of(template: str, provider: str) -> str:
    """A variable of ``PROVIDER_FIELDS`` as it is written for one provider."""
    return template.replace("<PROVIDER>", _prefix_of(provider))


@functools.cache
def _prefix_of(provider: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", provider.upper())


def key_variable(provider: str) -> str:
    """The variable that holds a provider's API key."""
    return variable_of("<PROVIDER>_API_KEY", provider)


def settings_table() -> str:
    """Every variable as a Markdown table, for the manual."""
    rows = [
        f"| `{field.variable}` | {default} | {field.accepts.words} | {field.help} |"
        for field in ALL_FIELDS
        for default in [field.shown or f"`{field.default}`"]
    ]
    return "\n".join(["| variable | default | accepts | meaning |", "|---|---|---|---|", *rows]) + "\n"
