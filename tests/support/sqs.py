"""Queues of Moto's SQS, in child processes, and a consumer that takes all that they hold."""

import os
import signal
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from tests.support.sink_hosts import accepts, free_port
from tests.support.sqs_server import serve
from tests.support.waiting import wait_until

# Each server is forked from one process that has imported Moto: most of a start is that.
FORKING = get_context("forkserver")
FORKING.set_forkserver_preload(["tests.support.sqs_server"])
REGION = "eu-west-1"
KEY, SECRET_KEY = "receiver", "a-secret-key-of-some-length"


class SqsServer:
    """One with a queue, which is read from its beginning each time that it starts."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.url = sink_url(f"{self.endpoint}/123456789012/images")
        self._journal = folder / "journal.jsonl"
        self._process: ForkServerProcess | None = None
        self._queue: SqsQueue | None = None

    def start(self) -> None:
        self._process = FORKING.Process(target=serve, args=(self.port, self._journal))
        self._process.start()
        wait_until(lambda: accepts(self.port))
        self._queue = SqsQueue(self.endpoint, "images")

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
            self._process = None

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def received(self) -> list[bytes]:
        assert self._queue is not None
        return self._queue.received()

    @property
    def _pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid


class SqsQueue:
    """A queue, made where it is not there, and all that its consumer has taken out of it."""

    def __init__(self, endpoint: str, name: str, **attributes: str) -> None:
        self.client: Any = client(endpoint)
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        self.queue_url = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.url = sink_url(self.queue_url)
        self.messages: list[dict[str, Any]] = []

    def received(self) -> list[bytes]:
        while found := self._take():
            self.messages += found
        return [message["Body"].encode() for message in self.messages]

    def _take(self) -> list[dict[str, Any]]:
        answer = self.client.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        if found:
            entries = [
                {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                for place, message in enumerate(found)
            ]
            self.client.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)
        return found


def client(endpoint: str) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(proxies={}),
    )


def sink_url(queue_url: str) -> str:
    """What the sink of a queue is set to."""
    place = urlsplit(queue_url)
    return (
        f"sqs://{KEY}:{SECRET_KEY}@sqs.{REGION}.amazonaws.com{place.path}"
        f"?endpoint={place.scheme}://{place.netloc}"
    )
