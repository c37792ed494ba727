"""What Kafka's and librdkafka's errors mean, in words for people.

They go by name here, as both libraries write them; names that begin with ``_`` are librdkafka's own.
"""

from receiver.errors import Permanent, Unavailable
from receiver.models import Outcome

_NO_TOPIC = (Outcome.REFUSED, "has no such topic")
_LOGIN = (Outcome.REFUSED, "does not accept our user and password")
_SLOW = (Outcome.TIMEOUT, "did not answer in time")
_NO_LEADER = (Outcome.UNAVAILABLE, "has no leader for a part of the topic now")
_FEW_REPLICAS = (Outcome.UNAVAILABLE, "has too few replicas in sync to write")
_AWAY = (Outcome.CONNECT_FAILED, "could not be reached (connect_failed)")
_ANSWERS: dict[str, tuple[Outcome, str]] = {
    "UNKNOWN_TOPIC_OR_PART": _NO_TOPIC,
    "_UNKNOWN_TOPIC": _NO_TOPIC,
    "_UNKNOWN_PARTITION": _NO_TOPIC,
    "TOPIC_EXCEPTION": (Outcome.REFUSED, "says that this cannot be the name of a topic"),
    "TOPIC_AUTHORIZATION_FAILED": (
        Outcome.REFUSED,
        "does not permit this to our user, who needs Describe and Write on the topic",
    ),
    "CLUSTER_AUTHORIZATION_FAILED": (
        Outcome.REFUSED,
        "does not permit this to our user, who before Kafka 3.0 needs IdempotentWrite on the cluster",
    ),
    "SASL_AUTHENTICATION_FAILED": _LOGIN,
    "_AUTHENTICATION": _LOGIN,
    "UNSUPPORTED_SASL_MECHANISM": (Outcome.REFUSED, "does not take this sasl mechanism"),
    "POLICY_VIOLATION": (Outcome.REFUSED, "refuses this by a policy"),
    "_UNSUPPORTED_FEATURE": (Outcome.REFUSED, "is too old: idempotent producers need Kafka 0.11"),
    "LEADER_NOT_AVAILABLE": _NO_LEADER,
    "NOT_LEADER_FOR_PARTITION": _NO_LEADER,
    "NOT_ENOUGH_REPLICAS": _FEW_REPLICAS,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": _FEW_REPLICAS,
    "THROTTLING_QUOTA_EXCEEDED": (Outcome.RATE_LIMITED, "is sent to too often"),
    "_QUEUE_FULL": (Outcome.UNAVAILABLE, "has not taken yet what waits here for it"),
    "_MSG_TIMED_OUT": _SLOW,
    "_TIMED_OUT": _SLOW,
    "REQUEST_TIMED_OUT": _SLOW,
    "_RESOLVE": (Outcome.DNS_FAILED, "could not be reached (dns_failed)"),
    "_SSL": (
        Outcome.TLS_FAILED,
        "could not be reached (tls_failed): it needs TLS, and a certificate that we trust, for this name",
    ),
    "_TRANSPORT": _AWAY,
    "_ALL_BROKERS_DOWN": _AWAY,
}
_NEVER = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD"})


def failure(name: str) -> Unavailable | Permanent:
    """An error in words of ours alone: the driver's name hosts."""
    if name in _NEVER:
        what = "it is too large" if name != "INVALID_RECORD" else "its topic takes other records"
        return Permanent(f"kafka will not take this message: {what} ({name})")
    outcome, words = _ANSWERS.get(name, (Outcome.REFUSED, f"answered {name}"))
    return Unavailable(f"kafka {words}", outcome=outcome)
