"""Certificates that no client should take, made for the run: each with what is wrong about it."""

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.missing import missing

HOST = "DNS:files.example.com"
NOW_ON = "20200101000000Z", "20990101000000Z"

_CONFIG = """
[ca]
default_ca = ours
[ours]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
{extensions}
[req]
distinguished_name = name
[name]
"""


class Certificate(NamedTuple):
    """What a certificate says of itself; its common name is always files.example.com."""

    names: str | None  # as a subjectAltName
    words: str = ""  # of OpenSSL, where it refuses
    valid: tuple[str, str] = NOW_ON
    trusted: bool = True  # by the authority that the client knows
    server_auth: bool = True
    names_signer: bool = True  # by its key, as RFC 5280 wants and Python 3.13 insists on


ELSEWHERE = "Hostname mismatch, certificate is not valid for it"
CERTIFICATES = {
    "good": Certificate(HOST),
    "expired": Certificate(HOST, "certificate has expired", ("20200101000000Z", "20200102000000Z")),
    "not yet valid": Certificate(
        HOST, "certificate is not yet valid", ("20980101000000Z", "20990101000000Z")
    ),
    "self-signed": Certificate(HOST, "self-signed certificate", trusted=False),
    "for another host": Certificate("DNS:other.example.com", ELSEWHERE),
    "for the host above": Certificate("DNS:example.com", ELSEWHERE),
    "for another's wildcard": Certificate("DNS:*.example.net", ELSEWHERE),
    "for a wildcard of everything": Certificate("DNS:*", ELSEWHERE),
    "for a wildcard one level up": Certificate("DNS:*.com", ELSEWHERE),
    "for an address": Certificate("IP:93.184.215.14", ELSEWHERE),
    "by its common name alone": Certificate(None, ELSEWHERE),
    "for clients only": Certificate(HOST, "purpose", server_auth=False),
    "of an old company authority": Certificate(HOST, "Missing Authority Key Identifier", names_signer=False),
}


def make_authority(folder: Path) -> ssl.SSLContext:
    """A context that trusts one authority, whose key is in the folder."""
    if not shutil.which("openssl"):
        missing("the openssl command is not installed")
    _openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority",
        *("-keyout", folder / "ca-key.pem", "-out", folder / "ca.pem"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    trust.verify_flags |= ssl.VERIFY_X509_STRICT  # as it is from Python 3.13 on
    return trust


def make_server(folder: Path, certificate: Certificate) -> ssl.SSLContext:
    """A server's end with such a certificate, signed by the authority in the folder."""
    extensions = [f"subjectAltName = {certificate.names}"] if certificate.names else []
    extensions += [] if certificate.server_auth else ["extendedKeyUsage = clientAuth"]
    extensions += [f"authorityKeyIdentifier = {'keyid' if certificate.names_signer else 'none'}"]
    (folder / "config").write_text(_CONFIG.format(folder=folder, extensions="\n".join(extensions)))
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    key, request, made = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    _openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=files.example.com",
        *("-keyout", key, "-out", request, "-config", folder / "config"),
    )
    signer = (
        ("-cert", folder / "ca.pem", "-keyfile", folder / "ca-key.pem")
        if certificate.trusted
        else ("-selfsign", "-keyfile", key)
    )
    begins, ends = certificate.valid
    _openssl(
        f"ca -batch -notext -startdate {begins} -enddate {ends}",
        *("-config", folder / "config", "-in", request, "-out", made, *signer),
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made, key)
    return server


def _openssl(command: str, *arguments: object) -> None:
    subprocess.run(["openssl", *command.split(), *map(str, arguments)], check=True, capture_output=True)
