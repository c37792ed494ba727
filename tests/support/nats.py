"""A NATS server of the tests' own, with JetStream in a folder, and what its streams hold."""

import base64
import json
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import nats
import nkeys
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from tests.support.missing import missing
from tests.support.sink_hosts import Child, in_thread

Result = TypeVar("Result")


class NatsServer(Child):
    """It has the stream ``events`` for the subject ``events`` as soon as it is started."""

    def __init__(
        self, folder: Path, config: str = "", *, stream: str | None = "events", **client: Any
    ) -> None:
        here = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        program = here or shutil.which("nats-server") or missing("no nats-server (the test extra has it)")
        file = folder / "nats.conf"
        file.write_text(f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n{config}')
        super().__init__(lambda port: [program, "-a", "127.0.0.1", "-p", str(port), "-c", str(file)])
        self._stream = stream
        self._client = client
        self.url = self.url_of("events")

    def url_of(self, subject: str, more: str = "") -> str:
        return f"nats://127.0.0.1:{self.port}?subject={subject}{more}"

    def start(self) -> None:
        super().start()
        if self._stream is not None:
            name = self._stream
            self.asked(lambda js: js.add_stream(name=name, subjects=[name]))  # no harm where it is there

    def clear(self) -> None:
        """Nothing but an empty ``events`` is left."""

        async def clear(js: JetStreamContext) -> None:
            for info in await js.streams_info():
                await js.delete_stream(str(info.config.name))
            await js.add_stream(name="events", subjects=["events"])

        self.asked(clear)

    def received(self) -> list[bytes]:
        return [body for body, _ in self.messages("events")]

    def messages(self, stream: str) -> list[tuple[bytes, dict[str, str]]]:
        """What a stream holds, and the headers of each."""
        return self.asked(lambda js: _messages(js, stream))

    def add(self, **config: Any) -> None:
        self.asked(lambda js: js.add_stream(StreamConfig(**config)))

    def asked(self, ask: Callable[[JetStreamContext], Coroutine[Any, Any, Result]]) -> Result:
        """What a client of JetStream is answered, on a loop of its own."""

        async def talk() -> Result:
            client = await nats.connect(f"nats://127.0.0.1:{self.port}", **self._client)
            try:
                return await ask(client.jetstream())
            finally:
                await client.close()

        return in_thread(talk())


async def _messages(js: JetStreamContext, stream: str) -> list[tuple[bytes, dict[str, str]]]:
    count = (await js.stream_info(stream)).state.messages
    if not count:
        return []
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    reader = await js.pull_subscribe(">", stream=stream, config=config)
    found: list[tuple[bytes, dict[str, str]]] = []
    while len(found) < count:
        messages = await reader.fetch(min(count - len(found), 500), timeout=5)
        found += [(each.data, each.headers or {}) for each in messages]
    return found


def operator_mode() -> tuple[str, str]:
    """A server's settings by which it believes one user's credentials, and the file that holds them."""
    operator, system, account, user = (_key(prefix) for prefix in ("OPERATOR", "ACCOUNT", "ACCOUNT", "USER"))
    names = [key.public_key.decode() for key in (operator, system, account, user)]
    unlimited = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    stored = ("mem_storage", "disk_storage", "streams", "consumer")
    none = {"limits": dict.fromkeys(unlimited, -1) | {"wildcards": True}}
    some = {"limits": none["limits"] | dict.fromkeys(stored, -1)}
    accounts = {
        names[1]: _token(operator, names[1], "account", none),
        names[2]: _token(operator, names[2], "account", some),
    }
    ours = _token(account, names[3], "user", {"subs": -1, "data": -1, "payload": -1})
    config = (
        f"operator: {_token(operator, names[0], 'operator', {'system_account': names[1]})}\n"
        f"system_account: {names[1]}\nresolver: MEMORY\nresolver_preload: {json.dumps(accounts)}\n"
    )
    return config, (
        f"-----BEGIN NATS USER JWT-----\n{ours}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


def _key(prefix: str) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), getattr(nkeys, f"PREFIX_BYTE_{prefix}")))


def _token(issuer: Any, subject: str, kind: str, more: Mapping[str, Any]) -> str:
    """A JWT of NATS's own kind, signed with a key of its own kind."""
    said = {
        "jti": subject,
        "iat": 1_700_000_000,
        "iss": issuer.public_key.decode(),
        "sub": subject,
        "name": kind,
        "nats": {"type": kind, "version": 2, **more},
    }
    parts = [_base64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, said)]
    return ".".join([*parts, _base64(issuer.sign(".".join(parts).encode()))])


def _base64(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()
