"""Every kind of problem that the service answers with, by its RFC 9457 type."""

from enum import Enum

# A name and no address: nothing is to be fetched there, and it is the same wherever the service is reached.
NAMESPACE = "urn:receiver:problem:"


class ProblemType(Enum):
    """What clients tell problems by. A type never changes; a title is for people, and may.

    The status is the usual one: of a name that is not known it is 404 where the path has the name.
    """

    BAD_BODY = "bad-body", 400, "Bad body"
    BAD_CONTENT_LENGTH = "bad-content-length", 400, "Bad Content-Length"
    BAD_CURSOR = "bad-cursor", 400, "Bad cursor"
    BAD_QUERY = "bad-query", 400, "Bad query"
    MALFORMED_REQUEST = "malformed-request", 400, "Malformed request"
    NOT_INDEXED = "not-indexed", 400, "Not indexed"
    NOT_JSON = "not-json", 400, "Not JSON"
    OWNER_NEEDED = "owner-needed", 400, "Say whose"
    UNKNOWN_PROVIDER = "unknown-provider", 400, "Unknown provider"
    UNKNOWN_SINK = "unknown-sink", 400, "Unknown sink"
    NOT_AUTHENTIC = "not-authentic", 401, "Not authentic"
    NOT_AUTHORISED = "not-authorised", 401, "Not authorised"
    LINK_NOT_VALID = "link-not-valid", 403, "Link not valid"
    NOT_ALLOWED = "not-allowed", 403, "Not allowed"
    FILE_MISSING = "file-missing", 404, "File missing"
    FILE_NOT_STORED = "file-not-stored", 404, "File not stored"
    UNKNOWN_CHAPTER = "unknown-chapter", 404, "Unknown chapter"
    UNKNOWN_FILE = "unknown-file", 404, "Unknown file"
    UNKNOWN_PATH = "unknown-path", 404, "Unknown path"
    UNKNOWN_REPLAY = "unknown-replay", 404, "Unknown replay"
    UNKNOWN_SUBMISSION = "unknown-submission", 404, "Unknown submission"
    UNKNOWN_TASK = "unknown-task", 404, "Unknown task"
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "Method Not Allowed"
    BODY_TOO_SLOW = "body-too-slow", 408, "Body too slow"
    ALREADY_BOUND = "already-bound", 409, "Already bound"
    REPLAY_ENDED = "replay-ended", 409, "Replay has ended"
    SINK_SET = "sink-set", 409, "Sink is set"
    SUBMISSION_BOUND = "submission-bound", 409, "Submission is bound"
    TASK_LOGGED = "task-logged", 409, "Task already logged"
    TASK_TAKEN = "task-taken", 409, "Task has another submission"
    TOKEN_OF_ANOTHER_TASK = "token-of-another-task", 409, "Token of another task"
    BODY_TOO_LARGE = "body-too-large", 413, "Body too large"
    COMPRESSED_BODY = "compressed-body", 415, "Compressed body"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable", 416, "Range not satisfiable"
    INTERNAL_ERROR = "internal-error", 500, "Internal error"
    UNAVAILABLE = "unavailable", 503, "Unavailable for now"

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.uri = f"{NAMESPACE}{slug}"
        self.status = status
        self.title = title
