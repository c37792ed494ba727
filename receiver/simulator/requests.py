"""Read submissions strictly: what a provider would refuse is refused."""

import ipaddress
from collections.abc import Mapping

import httpx2
import msgspec

from receiver import payload
from receiver.simulator.faults import Simulate
from receiver.simulator.model import ANY_IMAGE, INVALID, Refusal

_EXTENSIONS = {"png": "png", "jpeg": "jpg", "jpg": "jpg", "webp": "webp"}


def invalid(detail: str) -> Refusal:
    """The refusal of a submission that is wrong."""
    return Refusal(400, INVALID, detail)


def read_body(body: bytes) -> Mapping[str, object]:
    """The JSON object that was sent, with its fractions and whatever else a prompt may hold."""
    try:
        return payload.mapping(payload.storable(payload.decode_whole(body)))
    except (ValueError, RecursionError) as exc:
        raise invalid("The body must be one JSON document in UTF-8.") from exc


def read_text(fields: Mapping[str, object], key: str, *, where: str = "") -> str:
    """A required text field; ``where`` is the path before it, for the refusal."""
    value = payload.text(fields.get(key))
    if value is None:
        raise invalid(f"Missing required field: {where}{key}")
    return value


def read_count(fields: Mapping[str, object], key: str, *, most: int) -> int:
    """How many images are wanted; 1 if nothing is said."""
    value = fields.get(key, 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise invalid(f"{key} must be a whole number from 1 to {most}")
    return value


def read_image_format(fields: Mapping[str, object]) -> str:
    """Which format is wanted, as an extension; ANY_IMAGE if nobody said."""
    value = fields.get("output_format")
    if value is None:
        return ANY_IMAGE
    if not isinstance(value, str) or value not in _EXTENSIONS:
        raise invalid("output_format must be png, jpeg or webp")
    return _EXTENSIONS[value]


def read_image_urls(fields: Mapping[str, object], *, most: int = 16) -> int:
    """How many source images are named; 0 for none, or for null."""
    value = fields.get("image_urls")
    if value is None:
        return 0
    named = payload.items(value)
    if not all(isinstance(url, str) and url for url in named) or not 1 <= len(named) <= most:
        raise invalid(f"image_urls must be a list of 1 to {most} URLs")
    return len(named)


def read_callback_url(fields: Mapping[str, object], key: str = "callback_url") -> str | None:
    """The callback URL; None if there is none, or null. Only loopback addresses are accepted."""
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 2048:
        raise invalid(f"{key} must be a URL of at most 2048 characters")
    elsewhere = invalid("the simulator calls only http(s) URLs on loopback addresses")
    try:
        parsed = httpx2.URL(value)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise elsewhere from exc
    # The parser lets ports pass that no socket can have.
    has_port = parsed.port is None or 0 < parsed.port < 65536
    if not (parsed.scheme in {"http", "https"} and has_port and is_loopback(parsed.host)):
        raise elsewhere
    return value


def is_loopback(host: str) -> bool:
    """Whether a host, as a name or an address, is this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_simulate(body: Mapping[str, object]) -> Simulate:
    """The fate that the submission asks for. Unknown fields are refused: a typing error must not pass."""
    try:
        asked = msgspec.convert(body.get("simulate", {}), Simulate)
    except msgspec.ValidationError as exc:
        raise invalid(f"simulate: {exc}") from exc
    read_callback_url({"forge_url": asked.forge_url}, "forge_url")
    return asked
