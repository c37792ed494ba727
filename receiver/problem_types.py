"""Every kind of problem that the service answers with, by its RFC 9457 type."""

from enum import Enum

# A name and no address: nothing is to be fetched there, and it is the same wherever the service is reached.
NAMESPACE = "urn:receiver:problem:"


class ProblemType(Enum):
    """What clients tell problems by. A type never changes; a title is for people, and may.

    Which HTTP status each has is for ``web.problems`` to say.
    """

    BAD_BODY = "bad-body", "Bad body"
    BAD_CONTENT_LENGTH = "bad-content-length", "Bad Content-Length"
    BAD_CURSOR = "bad-cursor", "Bad cursor"
    BAD_QUERY = "bad-query", "Bad query"
    MALFORMED_REQUEST = "malformed-request", "Malformed request"
    NOT_INDEXED = "not-indexed", "Not indexed"
    NOT_JSON = "not-json", "Not JSON"
    OWNER_NEEDED = "owner-needed", "Say whose"
    UNKNOWN_PROVIDER = "unknown-provider", "Unknown provider"
    UNKNOWN_SINK = "unknown-sink", "Unknown sink"
    NOT_AUTHENTIC = "not-authentic", "Not authentic"
    NOT_AUTHORISED = "not-authorised", "Not authorised"
    BUDGET_USED_UP = "budget-used-up", "Budget is used up"
    LINK_NOT_VALID = "link-not-valid", "Link not valid"
    NOT_ALLOWED = "not-allowed", "Not allowed"
    FILE_MISSING = "file-missing", "File missing"
    FILE_NOT_STORED = "file-not-stored", "File not stored"
    NO_THUMBNAIL = "no-thumbnail", "No thumbnail"
    UNKNOWN_BUDGET = "unknown-budget", "Unknown budget"
    UNKNOWN_CHAPTER = "unknown-chapter", "Unknown chapter"
    UNKNOWN_FILE = "unknown-file", "Unknown file"
    UNKNOWN_PATH = "unknown-path", "Unknown path"
    UNKNOWN_REPLAY = "unknown-replay", "Unknown replay"
    UNKNOWN_SUBMISSION = "unknown-submission", "Unknown submission"
    UNKNOWN_TOKEN = "unknown-token", "Unknown token"
    UNKNOWN_TASK = "unknown-task", "Unknown task"
    METHOD_NOT_ALLOWED = "method-not-allowed", "Method Not Allowed"
    BODY_TOO_SLOW = "body-too-slow", "Body too slow"
    ALREADY_BOUND = "already-bound", "Already bound"
    PAGES_CLOSED = "pages-closed", "Admin pages are closed"
    PLAN_OVER = "plan-over", "Plan is over"
    REPLAY_ENDED = "replay-ended", "Replay has ended"
    SINK_SET = "sink-set", "Sink is set"
    SUBMISSION_BOUND = "submission-bound", "Submission is bound"
    TASK_LOGGED = "task-logged", "Task already logged"
    TASK_TAKEN = "task-taken", "Task has another submission"
    TOKEN_NAMED = "token-named", "Name was given before"
    TOKEN_OF_ANOTHER_TASK = "token-of-another-task", "Token of another task"
    BODY_TOO_LARGE = "body-too-large", "Body too large"
    COMPRESSED_BODY = "compressed-body", "Compressed body"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable", "Range not satisfiable"
    KEY_REUSED = "key-reused", "Key was used for something else"
    INTERNAL_ERROR = "internal-error", "Internal error"
    UNAVAILABLE = "unavailable", "Unavailable for now"

    def __init__(self, slug: str, title: str) -> None:
        self.uri = f"{NAMESPACE}{slug}"
        self.title = title
