"""What a downloaded file really is: its format by the bytes, not by name or header.

Pixels are limited by what every header in the file claims, before anything could decode it.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from receiver import formats
from receiver.errors import FetchFailed, NoFileYet
from receiver.formats import Bytes, Frames
from receiver.words import Outcome

IMAGE, VIDEO, AUDIO, MODEL = "image", "video", "audio", "model"
KINDS = frozenset({IMAGE, VIDEO, AUDIO, MODEL})

HEAD_BYTES = 512  # enough for every magic number, and for the brands of an ISO file
MAX_FRAMES = 2_000  # of one animation


class MediaKind(msgspec.Struct, frozen=True, kw_only=True):
    """A format we know. ``kind`` is the word that ``RECEIVER_ASSET_TYPES`` uses."""

    kind: str
    media_type: str
    extension: str


class MediaInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a file turned out to be; the size in pixels is known of images only."""

    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None


PNG = MediaKind(kind=IMAGE, media_type="image/png", extension="png")
JPEG = MediaKind(kind=IMAGE, media_type="image/jpeg", extension="jpg")
WEBP = MediaKind(kind=IMAGE, media_type="image/webp", extension="webp")
GIF = MediaKind(kind=IMAGE, media_type="image/gif", extension="gif")
AVIF = MediaKind(kind=IMAGE, media_type="image/avif", extension="avif")
MP4 = MediaKind(kind=VIDEO, media_type="video/mp4", extension="mp4")
MOV = MediaKind(kind=VIDEO, media_type="video/quicktime", extension="mov")
WEBM = MediaKind(kind=VIDEO, media_type="video/webm", extension="webm")
M4A = MediaKind(kind=AUDIO, media_type="audio/mp4", extension="m4a")
MP3 = MediaKind(kind=AUDIO, media_type="audio/mpeg", extension="mp3")
WAV = MediaKind(kind=AUDIO, media_type="audio/wav", extension="wav")
OGG = MediaKind(kind=AUDIO, media_type="audio/ogg", extension="ogg")
FLAC = MediaKind(kind=AUDIO, media_type="audio/flac", extension="flac")
GLB = MediaKind(kind=MODEL, media_type="model/gltf-binary", extension="glb")

# What a file begins with, what it has at offset 8, and what it is then. Tried in this order.
_MAGIC: tuple[tuple[bytes, bytes, MediaKind], ...] = (
    (b"\x89PNG\r\n\x1a\n", b"", PNG),
    (b"\xff\xd8\xff", b"", JPEG),
    (b"GIF87a", b"", GIF),
    (b"GIF89a", b"", GIF),
    (b"RIFF", b"WEBP", WEBP),
    (b"RIFF", b"WAVE", WAV),
    (b"\x1a\x45\xdf\xa3", b"", WEBM),
    (b"OggS", b"", OGG),
    (b"fLaC", b"", FLAC),
    (b"ID3", b"", MP3),
    (b"\xff\xfb", b"", MP3),
    (b"\xff\xf3", b"", MP3),
    (b"\xff\xf2", b"", MP3),
    (b"glTF", b"", GLB),
)
_FRAMES: dict[str, Callable[[Bytes], Frames]] = {
    "png": formats.png_frames,
    "jpg": formats.jpeg_frames,
    "gif": formats.gif_frames,
    "webp": formats.webp_frames,
    "avif": formats.avif_frames,
}
_BRANDS: dict[bytes, MediaKind] = {
    b"avif": AVIF,
    b"avis": AVIF,
    b"qt  ": MOV,
    b"M4A ": M4A,
    b"isom": MP4,
    b"iso2": MP4,
    b"iso4": MP4,
    b"iso5": MP4,
    b"iso6": MP4,
    b"mp41": MP4,
    b"mp42": MP4,
    b"avc1": MP4,
    b"dash": MP4,
    b"M4V ": MP4,
}


# The bytes of any text that extends ASCII. In the first half thousand of other files there are more.
_TEXT = bytes({*b"\t\n\f\r", *range(0x20, 0x7F), *range(0x80, 0x100)})


def identify(head: bytes) -> MediaKind | None:
    """The format that a file's first bytes (HEAD_BYTES of them) announce, or None."""
    if head[4:8] == b"ftyp":
        return _identify_iso(head)
    for start, form, kind in _MAGIC:
        if head.startswith(start) and head[8 : 8 + len(form)] == form:
            return kind
    return None


def _identify_iso(head: bytes) -> MediaKind | None:
    # The main brand, and after the version the compatible ones, as far as the box goes.
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end, 4))]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def is_page(head: bytes) -> bool:
    """Whether a file begins like a page or a message: text, and none that draws something (SVG)."""
    return not head.translate(None, _TEXT) and b"<svg" not in head.lower()


def inspect(path: Path, *, allowed_kinds: frozenset[str], max_pixels: int) -> MediaInfo:
    """Say what the file is. Blocking: belongs in a thread.

    Raises FetchFailed: NOT_AN_IMAGE for anything but the allowed kinds, TOO_MANY_PIXELS for a frame of
    more than ``max_pixels`` (or an animation of too many frames), TRUNCATED for one that ends early. Of
    NOT_AN_IMAGE it is NoFileYet where a page stands in for the file.
    """
    try:
        with path.open("rb") as file:
            return _inspect(Bytes(file), allowed_kinds, max_pixels)
    except OSError as exc:
        detail = f"the download cannot be read back: {exc.strerror}"
        raise FetchFailed(Outcome.STORAGE_FAILED, detail) from exc


def _inspect(data: Bytes, allowed_kinds: frozenset[str], max_pixels: int) -> MediaInfo:
    if data.size == 0:
        raise FetchFailed(Outcome.TRUNCATED, "the file is empty")
    head = data.some(0, HEAD_BYTES)
    kind = identify(head)
    if kind is None and is_page(head):
        raise NoFileYet(Outcome.NOT_AN_IMAGE, "a page or a text came in place of the file")
    if kind is None or kind.kind not in allowed_kinds:
        raise FetchFailed(Outcome.NOT_AN_IMAGE, "the bytes are of no allowed format")
    if kind.kind != IMAGE:
        _check_whole(data, kind)
        return MediaInfo(media_type=kind.media_type, extension=kind.extension)
    width, height = _check_image(data, kind, max_pixels)
    return MediaInfo(media_type=kind.media_type, extension=kind.extension, width=width, height=height)


def _check_image(data: Bytes, kind: MediaKind, max_pixels: int) -> tuple[int, int]:
    """The size as stored, before any rotation; every frame is judged, down to the last byte."""
    size = None
    for count, frame in enumerate(_FRAMES[kind.extension](data)):
        _check_pixels(frame, max_pixels)
        if count > MAX_FRAMES:
            raise FetchFailed(Outcome.TOO_MANY_PIXELS, f"more than {MAX_FRAMES} frames")
        size = size or frame
    if size is None or 0 in size:
        raise formats.malformed("it has no size in pixels")
    return size


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise FetchFailed(Outcome.TOO_MANY_PIXELS, f"{width} x {height} pixels, {max_pixels} are allowed")


def _check_whole(data: Bytes, kind: MediaKind) -> None:
    """As far as formats that are no images can tell."""
    if kind in (MP4, MOV, M4A):
        if b"moov" not in {name for name, _, _ in formats.boxes(data)}:
            raise FetchFailed(Outcome.TRUNCATED, "the file ends before its index")
    elif kind is WAV and data.at(4, 4) not in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        formats.check_riff(data)  # unless it was written as a stream, of a length not known then
    elif kind is GLB:
        data.at(int.from_bytes(data.at(8, 4), "little"), 0)
