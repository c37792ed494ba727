"""The internet as tests see it: names with made-up answers, and no address but loopback ever dialled."""

import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpcore2

from receiver.fetching.connection import SocketStream, dial_directly
from tests.support.missing import missing

PUBLIC, OTHER_PUBLIC = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


class FakeWorld:
    """A resolver with answers by name, and a dialler that reaches nothing but the test's own host.

    Each name has one answer per lookup; any other name has ``otherwise``, every time.
    """

    def __init__(
        self, names: Mapping[str, Sequence[Sequence[str]]], port: int = 0, *, otherwise: Sequence[str] = ()
    ) -> None:
        self.names = {name: iter(answers) for name, answers in names.items()}
        self.otherwise = otherwise
        self.resolved: list[str] = []
        self.dialled: list[str] = []
        self.dead: set[str] = set()
        self.port = port  # on 127.0.0.1: who stands in for every address

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append(host)
        return next(self.names[host]) if host in self.names else self.otherwise

    async def dial(self, address: str, port: int, timeout_seconds: float) -> SocketStream:
        self.dialled.append(address)
        if address in self.dead:
            raise httpcore2.ConnectTimeout
        return await dial_directly("127.0.0.1", self.port, timeout_seconds)


class Trust(NamedTuple):
    """The two ends of TLS with a certificate that only they know."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate: bytes


def make_trust(folder: Path, names: Sequence[str] = ("DNS:files.example.com",)) -> Trust:
    """Make a certificate for this run."""
    if not shutil.which("openssl"):
        missing("the openssl command is not installed")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    key, certificate = folder / "key.pem", folder / "cert.pem"
    out = ["-keyout", str(key), "-out", str(certificate)]
    given = ["-addext", f"subjectAltName={','.join(names)}"]
    subprocess.run([*command.split(), *given, *out], check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    return Trust(server=server, client=client, certificate=certificate.read_bytes())
