"""Vidgo's uploads of images to work from: https://docs.vidgo.ai/api-manual/file-series .

Kept in this process's memory. Nothing is fetched from anywhere: for an upload by URL stands a drawn image.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from email import message_from_bytes
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import Request

from receiver.simulator.engine import Stage
from receiver.simulator.model import NO_PATH, Media, Refusal
from receiver.simulator.requests import invalid, read_body, read_text
from receiver.simulator.throttle import Throttle

WAYS = ("stream", "base64", "url")
LIFE = timedelta(hours=72)
MAX_BYTES = 20 << 20  # of one; the real limit was not to be had
MOST_KEPT = 100
_TYPES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}


class Uploads:
    """Takes files by stream, as base64 and by URL; ``find`` shows them."""

    def __init__(self, stage: Stage) -> None:
        self.rate = Throttle(5, at_once=5)  # a minute
        self._stage = stage
        self._files: dict[str, Media] = {}  # by path below /uploads/

    def find(self, path: str) -> Media | None:
        return self._files.get(path)

    async def take(self, request: Request) -> dict[str, object]:
        """Keep one image, and return what Vidgo answers. Raises Refusal."""
        body = await request.body()
        fields: Mapping[str, object]
        match request.path_params["way"]:
            case "stream":
                fields, content = _form(request.headers.get("content-type", ""), body)
            case "base64":
                fields = read_body(body)
                content = _decoded(fields.get("base64_data"))
            case "url":
                fields = read_body(body)
                content = (await self._stage.make(read_text(fields, "file_url"), 0)).content
            case _:
                raise Refusal(404, NO_PATH, "There is no such path.")
        kind = next((kind for start, kind in _TYPES.items() if content.startswith(start)), None)
        if kind is None or len(content) > MAX_BYTES:
            raise invalid("Only JPEG, PNG, GIF and WebP images of up to 20 MiB are taken")
        image = Media(content=content, media_type=f"image/{kind}", extension=kind.replace("jpeg", "jpg"))
        return self._keep(image, fields, f"{request.url.scheme}://{request.url.netloc}")

    def _keep(self, file: Media, fields: Mapping[str, object], origin: str) -> dict[str, object]:
        now = self._stage.now().replace(tzinfo=None)
        digest = hashlib.sha256(file.content).hexdigest()[:32]
        name = _name(fields, "file_name", "fileName") or f"{now:%Y%m%d%H%M%S}_{digest[:8]}.{file.extension}"
        folder = f"temp/{_name(fields, 'upload_path', 'uploadPath') or 'images'}"
        self._files[f"{folder}/{name}"] = file
        if len(self._files) > MOST_KEPT:
            del self._files[next(iter(self._files))]
        url = f"{origin}/uploads/{quote(f'{folder}/{name}')}"
        return {
            "success": True,
            "code": 200,
            "msg": "File uploaded successfully",
            "data": {
                "file_id": digest,
                "file_name": name,
                "original_name": name,
                "file_size": len(file.content),
                "mime_type": file.media_type,
                "upload_path": folder,
                "file_url": url,
                "download_url": url,
                "upload_time": now.isoformat(),
                "expires_at": (now + LIFE).isoformat(),
            },
        }


def _form(content_type: str, body: bytes) -> tuple[dict[str, object], bytes]:
    """The fields of a ``multipart/form-data``, and the bytes of its ``file``."""
    try:
        form = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
    except RecursionError as exc:
        raise invalid("The form is nested too deeply") from exc
    found = {str(name): part.get_payload(decode=True) for name, part in parts.items() if name}
    content = found.pop("file", None)
    if not isinstance(content, bytes):
        raise invalid("Missing required field: file")
    return {
        name: value.decode(errors="replace") for name, value in found.items() if isinstance(value, bytes)
    }, content


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or not text:
        raise invalid("Missing required field: base64_data")
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except ValueError as exc:
        raise invalid("base64_data is not base64") from exc


def _name(fields: Mapping[str, object], *keys: str) -> str:
    """The last part of the first name given, so that it cannot lead out of its folder."""
    given = next((value for key in keys if isinstance(value := fields.get(key), str)), "")
    return PurePosixPath(given).name
