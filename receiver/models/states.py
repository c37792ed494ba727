"""States and outcomes: one word each, the same in code, database, log, metric and manual."""

from enum import StrEnum


class Work(StrEnum):
    """What a process may do besides answering requests; each needs one process at least."""

    ASSETS = "assets"  # fetch and store files
    RELAY = "relay"  # send notifications to sinks
    POLL = "poll"  # ask providers, and judge what waits for their answers
    UPKEEP = "upkeep"  # replays, and the housekeeping of the record


class Via(StrEnum):
    """How a result reached us."""

    CALLBACK = "callback"
    POLL = "poll"


class Proof(StrEnum):
    """What showed that a callback is authentic, from strongest to weakest."""

    SUBMISSION = "submission"  # a token made for one submission
    SIGNATURE = "signature"  # the provider signed the raw bytes
    PROVIDER = "provider"  # the one token per provider
    NONE = "none"  # untokened, and the operator allows that
    POLL = "poll"  # we asked the provider ourselves


class Signing(StrEnum):
    """With what a provider's signatures are checked."""

    NONE = "none"  # it signs nothing
    TEXT = "text"  # a secret of the account's, as it is written
    BASE64 = "base64"  # a secret whose key is base64, behind ``whsec_`` or without
    KEYS = "keys"  # public keys, fetched from an address


class Verdict(StrEnum):
    """What a delivery turned out to be."""

    ACCEPTED = "accepted"  # ended its task, or was held and agreed with that end
    DUPLICATE = "duplicate"  # says what is known already
    PROGRESS = "progress"  # a known state that ends nothing
    EARLY = "early"  # authentic, but its submission is not in the log yet
    CONFLICT = "conflict"  # contradicts the terminal state that came first
    UNRECOGNISED = "unrecognised"  # authentic, but not understood; kept raw
    UNCONFIRMED = "unconfirmed"  # an end, but on weak proof: counts once the provider has confirmed it
    REFUSED = "refused"  # a submission's token used for another task
    UNOWNED = "unowned"  # was early, or not understood, and no submission ever came


class ReportState(StrEnum):
    """What a provider's document says about its task."""

    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    UNCLEAR = "unclear"  # not understood: never treated as an end


class TaskState(StrEnum):
    """Where a task stands, as a backend sees it."""

    SUBMITTED = "submitted"  # no terminal result yet
    FETCHING = "fetching"  # ended at the provider; files still to come
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"


class EventType(StrEnum):
    """What consumers are told, and the CloudEvents ``type``."""

    COMPLETED = "task.completed"
    PARTIAL = "task.partial"
    FAILED = "task.failed"


class SinkTest(StrEnum):
    """What a sink is sent so that people see what comes back; the CloudEvents ``type``, and no event."""

    TEST = "receiver.test"


class AlertChange(StrEnum):
    """What has become of a line of health; the ``type`` of an alert, and no event."""

    APPEARED = "health.appeared"
    WORSENED = "health.worsened"
    ENDED = "health.ended"


class SinkState(StrEnum):
    """How a sink takes events now."""

    OK = "ok"  # it took the last one, or got none yet
    FAILING = "failing"  # it did not take the last one; it gets the others all the same
    DOWN = "down"  # it gets one at a time, to find out whether it is back
    STOPPED = "stopped"  # it asked for no more, and gets none until a restart


class AssetState(StrEnum):
    """Where one file stands."""

    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"


class OutboxState(StrEnum):
    """Where one event stands on its way to one sink."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


NOT_SET = "not_set"  # how pending ones are counted whose sink is not set any more


class Confirm(StrEnum):
    """Which callbacks count only once the provider has confirmed them, where it can be asked."""

    WEAK = "weak"  # those that came by a mere provider token, or untokened
    ALWAYS = "always"
    NEVER = "never"


class AssetLinks(StrEnum):
    """Who serves the files behind the links in notifications and answers."""

    RECEIVER = "receiver"  # we do
    PRESIGNED = "presigned"  # the asset store, to whoever has a link that it signed
    PUBLIC = "public"  # anybody's server or CDN in front of the asset store, to everybody


class GatewayKeys(StrEnum):
    """What the gateway's callers show."""

    PASS = "pass"  # the provider's own key, one that is set here  # noqa: S105
    HOLD = "hold"  # a token of ours, for which the key that is set here goes on


class GatewayCallbacks(StrEnum):
    """What becomes of a ``callback_url`` of the caller's own."""

    RELAY = "relay"  # ours takes its place, and it is called by us once the task has ended here
    KEEP = "keep"  # it goes to the provider, and we learn of the end by asking
    DROP = "drop"  # ours takes its place, and nobody calls it


class GatewayCheck(StrEnum):
    """What becomes of an order that breaks a rule of its provider's."""

    OFF = "off"  # nobody looks
    WARN = "warn"  # it is sent, and the rule is named
    REFUSE = "refuse"  # it is not sent if the provider's own page says that it is refused
    STRICT = "strict"  # nor if it is drawn or billed otherwise than it reads


class GatewayLinks(StrEnum):
    """Whose links to files the gateway's status answers have."""

    OURS = "ours"
    THEIRS = "theirs"


class MessageFormat(StrEnum):
    """How a notification is put into an HTTP request, or a message that says what type it has."""

    STRUCTURED = "structured"  # the CloudEvent as the body, application/cloudevents+json
    JSON = "json"  # the same body as application/json, for consumers that parse nothing else
    BINARY = "binary"  # HTTP only: its data as the body, application/json, and all else in ce- headers


class SinkOrder(StrEnum):
    """Which events a sink gets one after the other."""

    NONE = "none"
    TASK = "task"  # those of one task
    OWNER = "owner"  # those of one owner


class Stage(StrEnum):
    """What a replay does again."""

    NOTIFY = "notify"  # send events to the sinks
    FETCH = "fetch"  # download files that could not be had
    REPROCESS = "reprocess"  # read kept raw deliveries with today's adapter
    POLL = "poll"  # ask the provider about tasks that have not ended


class ReplayState(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class Outcome(StrEnum):
    """How one attempt at an asset, at a sink or at a provider ended. The manual explains each in a line."""

    # good ends
    STORED = "stored"
    LINKED = "linked"  # stored, without a second copy of its bytes
    DELIVERED = "delivered"
    # what a provider said when it was asked about a task
    ANSWERED = "answered"
    IN_PROGRESS = "in_progress"
    UNKNOWN_TASK = "unknown_task"
    UNREADABLE = "unreadable"
    KEY_REFUSED = "key_refused"
    OUT_OF_CREDIT = "out_of_credit"
    NO_MODEL = "no_model"
    KEY_GONE = "key_gone"
    # the link or its host is not acceptable
    BAD_URL = "bad_url"
    PRIVATE_ADDRESS = "private_address"
    HOST_NOT_ALLOWED = "host_not_allowed"
    BAD_REDIRECT = "bad_redirect"
    # the network or the other side failed
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    TOO_SLOW = "too_slow"
    INTERRUPTED = "interrupted"
    RATE_LIMITED = "rate_limited"
    HTTP_ERROR = "http_error"
    GONE = "gone"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    # the bytes are not what they should be
    TOO_LARGE = "too_large"
    TASK_TOO_LARGE = "task_too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    # our own side
    STORAGE_FAILED = "storage_failed"
    CRASHED = "crashed"
    # ends of a task that no single attempt explains
    NO_FILES = "no_files"
    LOST = "lost"


# An attempt that ended so went well.
GOOD_OUTCOMES = frozenset(
    {Outcome.STORED, Outcome.LINKED, Outcome.DELIVERED, Outcome.ANSWERED, Outcome.IN_PROGRESS}
)
