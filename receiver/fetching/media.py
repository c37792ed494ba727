"""What a downloaded file really is: its format by the bytes, not by name or header.

Pixels are limited by what every header in the file claims, before anything could decode it.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from receiver.errors import FetchFailed, NoFileYet
from receiver.fetching import formats, isobmff, jpegxl, meshes, sound
from receiver.fetching.formats import MAX_FRAMES, Bytes, Frames
from receiver.models import Outcome

IMAGE, VIDEO, AUDIO, MODEL = "image", "video", "audio", "model"
KINDS = frozenset({IMAGE, VIDEO, AUDIO, MODEL})

HEAD_BYTES = 512  # enough for every magic number, and for the brands of an ISO file


class MediaKind(msgspec.Struct, frozen=True, kw_only=True):
    """A format we know. ``kind`` is the word that ``RECEIVER_ASSET_TYPES`` uses."""

    kind: str
    media_type: str
    extension: str


class MediaInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a file turned out to be.

    The size, known of images only, counts the pixels as they are stored, in every format: a viewer that
    obeys a rotation or a crop which the file asks for may show it turned or smaller.
    """

    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None


PNG = MediaKind(kind=IMAGE, media_type="image/png", extension="png")
JPEG = MediaKind(kind=IMAGE, media_type="image/jpeg", extension="jpg")
WEBP = MediaKind(kind=IMAGE, media_type="image/webp", extension="webp")
GIF = MediaKind(kind=IMAGE, media_type="image/gif", extension="gif")
AVIF = MediaKind(kind=IMAGE, media_type="image/avif", extension="avif")
HEIC = MediaKind(kind=IMAGE, media_type="image/heic", extension="heic")
JXL = MediaKind(kind=IMAGE, media_type="image/jxl", extension="jxl")
MP4 = MediaKind(kind=VIDEO, media_type="video/mp4", extension="mp4")
MOV = MediaKind(kind=VIDEO, media_type="video/quicktime", extension="mov")
WEBM = MediaKind(kind=VIDEO, media_type="video/webm", extension="webm")
MKV = MediaKind(kind=VIDEO, media_type="video/matroska", extension="mkv")
M4A = MediaKind(kind=AUDIO, media_type="audio/mp4", extension="m4a")
MP3 = MediaKind(kind=AUDIO, media_type="audio/mpeg", extension="mp3")
AAC = MediaKind(kind=AUDIO, media_type="audio/aac", extension="aac")
WAV = MediaKind(kind=AUDIO, media_type="audio/wav", extension="wav")
OGG = MediaKind(kind=AUDIO, media_type="audio/ogg", extension="ogg")
OPUS = MediaKind(kind=AUDIO, media_type="audio/ogg", extension="opus")
FLAC = MediaKind(kind=AUDIO, media_type="audio/flac", extension="flac")
GLB = MediaKind(kind=MODEL, media_type="model/gltf-binary", extension="glb")
GLTF = MediaKind(kind=MODEL, media_type="model/gltf+json", extension="gltf")
OBJ = MediaKind(kind=MODEL, media_type="model/obj", extension="obj")
FBX = MediaKind(kind=MODEL, media_type="model/x-fbx", extension="fbx")
USDZ = MediaKind(kind=MODEL, media_type="model/vnd.usdz+zip", extension="usdz")
STL = MediaKind(kind=MODEL, media_type="model/stl", extension="stl")
PLY = MediaKind(kind=MODEL, media_type="model/x-ply", extension="ply")

# What a file begins with, what it has at offset 8, and what it is then. Tried in this order.
_MAGIC: tuple[tuple[bytes, bytes, MediaKind], ...] = (
    (b"\x89PNG\r\n\x1a\n", b"", PNG),
    (b"\xff\xd8\xff", b"", JPEG),
    (b"GIF87a", b"", GIF),
    (b"GIF89a", b"", GIF),
    (b"RIFF", b"WEBP", WEBP),
    (jpegxl.CODESTREAM, b"", JXL),
    (jpegxl.CONTAINER, b"", JXL),
    (b"RIFF", b"WAVE", WAV),
    (b"RF64", b"WAVE", WAV),
    (b"BW64", b"WAVE", WAV),
    (b"fLaC", b"", FLAC),
    (b"glTF", b"", GLB),
    (meshes.FBX_START, b"", FBX),
)
# Formats without a magic number of their own, each with what tells it from all others.
_SNIFFED: tuple[tuple[Callable[[Bytes], bool], MediaKind], ...] = (
    (meshes.is_usdz, USDZ),
    (meshes.is_ply, PLY),
    (meshes.is_text_fbx, FBX),
    (meshes.is_binary_stl, STL),
    (meshes.is_text_stl, STL),
    (meshes.is_gltf, GLTF),
    (meshes.is_obj, OBJ),
)
_FRAMES: dict[MediaKind, Callable[[Bytes], Frames]] = {
    PNG: formats.png_frames,
    JPEG: formats.jpeg_frames,
    GIF: formats.gif_frames,
    WEBP: formats.webp_frames,
    AVIF: isobmff.image_frames,
    HEIC: isobmff.image_frames,
    JXL: jpegxl.image_frames,
}
# As far as formats that are no images can tell.
_WHOLE: dict[MediaKind, Callable[[Bytes], None]] = {
    MP4: isobmff.check_film,
    MOV: isobmff.check_film,
    M4A: isobmff.check_film,
    WAV: sound.check_wav,
    GLB: meshes.check_glb,
    GLTF: meshes.check_gltf,
    OBJ: meshes.check_obj,
    FBX: meshes.check_fbx,
    USDZ: meshes.check_usdz,
    STL: meshes.check_stl,
    PLY: meshes.check_ply,
}
_BRANDS: dict[bytes, MediaKind] = {
    b"avif": AVIF,
    b"avis": AVIF,
    b"heic": HEIC,
    b"heix": HEIC,
    b"heim": HEIC,
    b"heis": HEIC,
    b"hevc": HEIC,
    b"hevx": HEIC,
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


def _identify_box(head: bytes) -> MediaKind | None:
    """Of files made of boxes; QuickTime's older ones name no brand, and may begin with any of five."""
    if head[4:8] == b"ftyp":
        # The main brand, and after the version the compatible ones, as far as the box goes.
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12], *(head[place : place + 4] for place in range(16, end, 4))]
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    is_text = min(head, default=0) > 8
    return MOV if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") and not is_text else None


def _identify_magic(head: bytes) -> MediaKind | None:
    for start, form, kind in _MAGIC:
        if head.startswith(start) and head[8 : 8 + len(form)] == form:
            return kind
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return MKV if b"matroska" in head[:64] else WEBM
    if head.startswith(b"OggS"):
        return OPUS if head[28:36] == b"OpusHead" else OGG
    return None


def _identify_sound(data: Bytes, head: bytes) -> MediaKind | None:
    """Of recordings that begin with their first frame, or with a tag before it."""
    start = sound.end_of_id3(head)
    if start and data.some(start, 4) == b"fLaC":
        return FLAC
    if sound.is_aac(data, start):
        return AAC
    return MP3 if start or sound.is_mp3(head) else None


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
            data = Bytes(file)
            if data.size == 0:
                raise FetchFailed(Outcome.TRUNCATED, "the file is empty")
            head = data.some(0, HEAD_BYTES)
            kind = (
                _identify_box(head)
                or _identify_magic(head)
                or _identify_sound(data, head)
                or next((kind for is_it, kind in _SNIFFED if is_it(data)), None)
            )
            if kind is None and is_page(head):
                raise NoFileYet(Outcome.NOT_AN_IMAGE, "a page or a text came in place of the file")
            if kind is None or kind.kind not in allowed_kinds:
                raise FetchFailed(Outcome.NOT_AN_IMAGE, "the bytes are of no allowed format")
            if kind.kind != IMAGE:
                if kind in _WHOLE:
                    _WHOLE[kind](data)
                return MediaInfo(media_type=kind.media_type, extension=kind.extension)
            width, height = _check_image(data, kind, max_pixels)
            return MediaInfo(media_type=kind.media_type, extension=kind.extension, width=width, height=height)
    except OSError as exc:
        detail = f"the download cannot be read back: {exc.strerror}"
        raise FetchFailed(Outcome.STORAGE_FAILED, detail) from exc


def _check_image(data: Bytes, kind: MediaKind, max_pixels: int) -> tuple[int, int]:
    """The size as stored; every frame is judged, down to the last byte."""
    size = None
    for count, frame in enumerate(_FRAMES[kind](data)):
        width, height = frame
        if width * height > max_pixels:
            raise FetchFailed(Outcome.TOO_MANY_PIXELS, f"{width} x {height} pixels, {max_pixels} are allowed")
        if count > MAX_FRAMES:
            raise FetchFailed(Outcome.TOO_MANY_PIXELS, f"more than {MAX_FRAMES} frames")
        size = size or frame
    if size is None or 0 in size:
        raise formats.malformed("it has no size in pixels")
    return size
