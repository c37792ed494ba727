"""What a call of the client can come to, named by what may be done next.

    ReceiverError
    ├── NotSent             nothing left for the provider; may be tried again
    ├── UnknownOutcome      an order may have left; must not be tried again
    ├── Unavailable         the receiver cannot do it now; may be tried again
    ├── Rejected            the receiver refuses it; trying again cannot help
    ├── StreamFailed        the stream's server refuses it; an operator must act
    ├── DownloadFailed      what came is not the file that was stored
    └── VerificationError   a message that is not to be believed

None carries a token, a callback URL or a signed link. All can be pickled, as job queues do.
"""

from enum import StrEnum


class ReceiverError(Exception):
    """Root of the tree; catching it catches every expected failure."""


class NotSent(ReceiverError):
    """Certainly nothing left for the provider: the same thing may be tried again.

    Raised where no reservation could be made. Raise it yourself inside of ``submission()`` where you know
    that your order did not leave: that withdraws the reservation.
    """


class UnknownOutcome(ReceiverError):
    """An order of this submission may have left, so it must not be sent again: it could be billed twice.

    ``task_id`` is set where it is known that it did leave, and as which task.
    """

    def __init__(self, submission_id: str, detail: str, task_id: str | None = None) -> None:
        super().__init__(submission_id, detail, task_id)
        self.submission_id = submission_id
        self.detail = detail
        self.task_id = task_id

    def __str__(self) -> str:
        return f"submission {self.submission_id}: {self.detail}"


class Unavailable(ReceiverError):
    """Nobody answered, or with 503; ``retry_after_seconds`` is the receiver's wish, if it has one."""

    def __init__(self, detail: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail, retry_after_seconds)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.detail


class Rejected(ReceiverError):
    """The receiver refuses the request, by a problem document of RFC 9457.

    Go by ``type``, such as ``urn:receiver:problem:unknown-task``; ``detail`` is for people.
    """

    def __init__(self, status: int, type_: str, detail: str) -> None:
        super().__init__(status, type_, detail)
        self.status = status
        self.type = type_
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class DownloadFailed(ReceiverError):
    """The file that came has not the length or the SHA-256 of the one that was stored; none was kept."""


class StreamFailed(ReceiverError):
    """The stream's server refuses what consuming needs: the password, a right, or another kind of key."""


class Reason(StrEnum):
    """What of a message is wrong."""

    SIGNATURE = "signature"
    TIME = "time"
    FORM = "form"


class VerificationError(ReceiverError):
    """A message that is not to be believed, or not to be understood; ``reason`` says which."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
