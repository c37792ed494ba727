"""Notifications as messages of an Amazon SQS queue, standard or FIFO.

    sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE     the queue's URL with another scheme
    sqs://KEY:SECRET@…                               with keys of its own instead of those in the environment
    ?credentials=role                                with the role of the machine, pod or container
    ?endpoint=http://HOST:PORT  ?region=REGION       a VPC's endpoint, or a server that speaks SQS

The body is the event, and the attribute ``content-type`` says in which form: CloudEvents 1.0 has no binding
for SQS, and that one name is what its bindings have in common in structured mode. A FIFO queue also gets the
``dedupe_key`` as ``MessageDeduplicationId`` (SQS drops repeats for five minutes) and the task as
``MessageGroupId``.

Our user or role needs ``sqs:SendMessage`` and ``sqs:GetQueueAttributes`` on the queue; where it is encrypted
with a key of KMS, ``kms:GenerateDataKey`` and ``kms:Decrypt`` on the key.

The driver is botocore, in threads: its asynchronous twin aiobotocore pins botocore to a few releases, which
would decide which boto3 can be installed beside us, and costs 18 packages.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    MetadataRetrievalError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError
from botocore.session import Session

from receiver.envelope import content_type
from receiver.errors import Permanent, Unavailable, tls_words, wire_outcome, with_words
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl

THREADS = 16  # one for each call under way
CLOSE_SECONDS = 1.0
MOST_BYTES = 1_048_576  # body and attributes (SQS's quotas, since August 2025)
LONG_ENOUGH = 262_144  # what a queue took at most before, and still does where nobody changed it

_FORM = "sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE, which is the queue's URL with the scheme sqs"
_OPTIONS = ("region", "endpoint", "credentials")
_QUEUE = re.compile(r"([\w-]+/)+[\w-]{1,80}(\.fifo)?", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
# What group and deduplication ids may be (SQS's API reference, SendMessage).
_ID = re.compile(r"[!-~]{1,128}")
# SQS takes XML's characters only. JSON escapes all others but these two, which it may.
_NOT_IN_XML = {b"\xef\xbf\xbe": b"\\ufffe", b"\xef\xbf\xbf": b"\\uffff"}

_NEEDS = "does not permit this: sqs:SendMessage and sqs:GetQueueAttributes are needed on the queue"
_KEY = "may not or cannot use the queue's key: kms:GenerateDataKey and kms:Decrypt are needed on it"
# What SQS's codes of errors mean to whoever set it up (its API reference, "Common Errors" and SendMessage).
_ANSWERS: dict[str, tuple[Outcome, str]] = {
    "AccessDenied": (Outcome.REFUSED, _NEEDS),
    "AccessDeniedException": (Outcome.REFUSED, _NEEDS),
    "AWS.SimpleQueueService.NonExistentQueue": (Outcome.REFUSED, "has no such queue"),
    "QueueDoesNotExist": (Outcome.REFUSED, "has no such queue"),
    "InvalidAddress": (Outcome.REFUSED, "has no such queue"),
    "InvalidClientTokenId": (Outcome.REFUSED, "does not know our access key"),
    "UnrecognizedClientException": (Outcome.REFUSED, "does not know our access key"),
    "SignatureDoesNotMatch": (Outcome.REFUSED, "says that the secret key, the region or the clock is wrong"),
    "InvalidSignatureException": (
        Outcome.REFUSED,
        "says that the secret key, the region or the clock is wrong",
    ),
    "RequestExpired": (Outcome.REFUSED, "says that this machine's clock is wrong"),
    "ExpiredToken": (Outcome.REFUSED, "says that the session token has expired"),
    "ExpiredTokenException": (Outcome.REFUSED, "says that the session token has expired"),
    "InvalidSecurity": (Outcome.REFUSED, "wants https"),
    "KMS.AccessDeniedException": (Outcome.REFUSED, _KEY),
    "KMS.DisabledException": (Outcome.REFUSED, _KEY),
    "KMS.InvalidStateException": (Outcome.REFUSED, _KEY),
    "KMS.NotFoundException": (Outcome.REFUSED, _KEY),
    "KmsAccessDenied": (Outcome.REFUSED, _KEY),
    "KmsDisabled": (Outcome.REFUSED, _KEY),
    "KmsInvalidState": (Outcome.REFUSED, _KEY),
    "KmsNotFound": (Outcome.REFUSED, _KEY),
    "KMS.ThrottlingException": (Outcome.RATE_LIMITED, "asks its queue's key too often"),
    "KmsThrottled": (Outcome.RATE_LIMITED, "asks its queue's key too often"),
    "OverLimit": (Outcome.RATE_LIMITED, "is sent to too often"),
    "RequestThrottled": (Outcome.RATE_LIMITED, "is sent to too often"),
    "Throttling": (Outcome.RATE_LIMITED, "is sent to too often"),
    "ThrottlingException": (Outcome.RATE_LIMITED, "is sent to too often"),
    "TooManyRequestsException": (Outcome.RATE_LIMITED, "is sent to too often"),
}
_CODE = re.compile(r"[\w.]{1,64}", re.ASCII)


class SqsSink:
    """Sends each notification to a queue; done when SQS has given it an id.

    A standard queue may hold a repeat twice. What SQS refuses is Permanent where it says so of this message,
    else Unavailable.
    """

    def __init__(
        self,
        queue_url: str,
        *,
        region: str,
        keys: tuple[str, str, str | None] | None,
        content_type: str,
        timeout_seconds: float,
    ) -> None:
        """``keys``: access key, secret key and session token; None has the driver find a role's."""
        self._queue_url = queue_url
        self._region = region
        self._keys = keys
        self._content_type = content_type
        self._timeout_seconds = timeout_seconds
        self._places = asyncio.Semaphore(THREADS)
        self._lock = Lock()
        self._opened: Any = None

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """See the top of this file; what the URL does not say of keys and region, ``options.aws`` does."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=_OPTIONS)
        if not _QUEUE.fullmatch(where.path) or not (where.host or "endpoint" in where.options):
            raise where.wrong(f"write {_FORM}")
        endpoint = _endpoint(where)
        is_other = "endpoint" in where.options
        region = where.options.get("region") or _region_of(where.host) or options.aws.region
        if not (region or is_other):
            raise where.wrong("its URL does not name a region of AWS: write ?region= behind it")
        logging.getLogger("botocore").setLevel(logging.WARNING)  # below, it logs bodies and signed headers
        return cls(
            f"{endpoint}/{where.path}",
            region=region or "us-east-1",
            keys=_keys(where, options),
            content_type=content_type(options.format),
            timeout_seconds=options.timeout_seconds,
        )

    async def publish(self, notification: Notification) -> None:
        """Return when SQS has stored the message. Raises Permanent for one that no queue takes."""
        body = notification.body
        for raw, escape in _NOT_IN_XML.items():
            body = body.replace(raw, escape)
        values = {"content-type": self._content_type}
        if notification.traceparent:
            values["traceparent"] = notification.traceparent
        size = len(body) + sum(len(name) + len("String") + len(value) for name, value in values.items())
        if size > MOST_BYTES:
            raise Permanent(f"sqs takes no message above {MOST_BYTES} bytes, and this one has {size}")
        message: dict[str, Any] = {
            "MessageBody": body.decode(),
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in values.items()
            },
        }
        if self._queue_url.endswith(".fifo"):
            message["MessageGroupId"] = _fitting(notification.subject)
            message["MessageDeduplicationId"] = _fitting(notification.dedupe_key)
        answer = await self._asked("send_message", message)
        if not answer.get("MessageId"):
            raise _foreign()

    async def ping(self) -> str | None:
        """Prove that the queue is there and known to us. Only a publish shows whether we may send to it.

        Words where its key of KMS leaves that open, or where it takes small messages only.
        """
        answer = await self._asked("get_queue_attributes", {"AttributeNames": ["All"]})
        attributes = answer.get("Attributes")
        if not isinstance(attributes, dict) or "QueueArn" not in attributes:
            raise _foreign()
        most = attributes.get("MaximumMessageSize", "")
        if most.isdecimal() and int(most) < LONG_ENOUGH:
            return f"the queue takes no message above {most} bytes (its MaximumMessageSize)"
        if attributes.get("KmsMasterKeyId"):
            return (
                "the queue is encrypted with a key of KMS; whether we may use that (kms:GenerateDataKey and"
                " kms:Decrypt) shows with the first event"
            )
        return None

    async def aclose(self) -> None:
        """Let calls under way end, for a second at most; no other begins."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for _ in range(THREADS):
                    await self._places.acquire()
        if self._opened is not None:
            self._opened.close()

    async def _asked(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._places.acquire()
                return await self._begin(operation, arguments)
        except (BotoCoreError, ClientError, ResponseParserError, OSError) as exc:
            raise _failure(exc) from exc

    def _begin(self, operation: str, arguments: Mapping[str, Any]) -> "asyncio.Future[Mapping[str, Any]]":
        """Call in a thread, which gives its place back when it has ended, whoever still waits for it.

        The driver's deadline is for each part that it reads, so a server that trickles may hold it for
        ever: no end of ours waits for it, which an executor's threads would have the process's do.
        """
        loop = asyncio.get_running_loop()
        answer: Future[Mapping[str, Any]] = Future()
        answer.set_running_or_notify_cancel()

        def run() -> None:
            try:
                answer.set_result(self._call(operation, arguments))
            except Exception as exc:  # noqa: BLE001 - told to who waits
                answer.set_exception(exc)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._places.release)

        Thread(target=run, name="sqs", daemon=True).start()
        return asyncio.wrap_future(answer)

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
        answer: Mapping[str, Any] = getattr(self._opened, operation)(QueueUrl=self._queue_url, **arguments)
        return answer

    def _open(self) -> Any:
        """A client, in a thread: it reads files of models, and asks the network where there is a role."""
        session = Session()
        if self._keys:
            session.set_credentials(*self._keys)
        elif session.get_credentials() is None:  # a client would remember that there were none
            raise NoCredentialsError
        place = urlsplit(self._queue_url)
        config = Config(
            # The relay tries again, in its own time.
            retries={"total_max_attempts": 1},
            connect_timeout=self._timeout_seconds,
            read_timeout=self._timeout_seconds,
            max_pool_connections=THREADS,
            proxies={},  # none from the environment, as for webhooks
        )
        return session.create_client(
            "sqs",
            region_name=self._region,
            # Given, so that no variable of the environment leads elsewhere than the sink's URL.
            endpoint_url=f"{place.scheme}://{place.netloc}",
            config=config,
        )


def _endpoint(where: SinkUrl) -> str:
    """The scheme and the host to send to. Raises Misconfigured."""
    if given := where.options.get("endpoint"):
        try:
            parts = urlsplit(given)
            is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_one = False
        if not is_one or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
            raise where.wrong("endpoint must be http:// or https://, a host, and a port where it needs one")
        return f"{parts.scheme}://{parts.netloc}"
    return f"https://{where.address}"


def _region_of(host: str) -> str | None:
    """The region in a host's name: sqs.eu-west-1.amazonaws.com, or that of a VPC's endpoint."""
    return next((part for part in host.split(".") if _REGION.fullmatch(part)), None)


def _keys(where: SinkUrl, options: PluginOptions) -> tuple[str, str, str | None] | None:
    """See ``SqsSink``. Raises Misconfigured where there are none, and no role to ask for them."""
    aws, credentials = options.aws, where.options.get("credentials")
    if credentials not in (None, "role"):
        raise where.wrong("credentials must be role")
    if where.user or where.password:
        if credentials or not (where.user and where.password):
            raise where.wrong("its URL must have both keys, or none and ?credentials=role")
        return where.user, where.password, None
    if credentials:
        return None
    if aws.access_key_id and aws.secret_access_key:
        return aws.access_key_id, aws.secret_access_key, aws.session_token
    if aws.has_role:
        return None
    raise where.wrong(
        f"set {aws.lacking}, or write ?credentials=role behind its URL where the machine has a role at AWS"
    )


def _fitting(text: str) -> str:
    """An id that SQS takes: the text itself, or a digest of one that is too long or has other characters."""
    return text if _ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()


def _failure(exc: Exception) -> Unavailable | Permanent:
    """In words of ours alone: the driver's hold URLs, and may hold what the server wrote."""
    if isinstance(exc, ClientError):
        return _refusal(exc.response)
    if isinstance(exc, (TimeoutError, ConnectTimeoutError, ReadTimeoutError)):
        return Unavailable("sqs did not answer in time", outcome=Outcome.TIMEOUT)
    if isinstance(exc, NoCredentialsError):
        return Unavailable("the machine has no role at AWS to ask sqs with", outcome=Outcome.REFUSED)
    if isinstance(exc, (CredentialRetrievalError, MetadataRetrievalError)):
        return Unavailable("what hands out the role's credentials for sqs does not answer as it should")
    if isinstance(exc, ResponseParserError):
        return _foreign()
    is_early = isinstance(exc, EndpointConnectionError)
    outcome = wire_outcome(exc) or (Outcome.CONNECT_FAILED if is_early else Outcome.INTERRUPTED)
    what = with_words(f"sqs could not be reached ({outcome})", tls_words(exc))
    return Unavailable(what, outcome=outcome)


def _foreign() -> Unavailable:
    """The driver reads any document that comes with 200 as an answer, a proxy's page, too."""
    return Unavailable("what answered for sqs does not speak SQS", outcome=Outcome.HTTP_ERROR)


def _refusal(answer: Mapping[str, Any]) -> Unavailable | Permanent:
    error = answer.get("Error", {})
    code, text = str(error.get("Code", "")), str(error.get("Message", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "InvalidMessageContents" or "essage must be shorter than" in text:
        return Permanent(
            "the queue will not take this message: its MaximumMessageSize is smaller, or a"
            " character is not allowed"
        )
    if code in _ANSWERS:
        outcome, words = _ANSWERS[code]
        return Unavailable(f"sqs {words} ({code})", outcome=outcome)
    name = code if _CODE.fullmatch(code) and not code.isdecimal() else f"HTTP {status}"
    outcome = Outcome.UNAVAILABLE if status >= 500 else Outcome.REFUSED
    return Unavailable(f"sqs answered {name}", outcome=outcome)
