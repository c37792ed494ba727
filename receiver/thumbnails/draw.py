"""The process that decodes images: it has its input and output, little memory, and no way to anything else.

``receiver.thumbnails.process`` runs ``main`` in an interpreter of its own, without environment, and ends it.
Whatever a decoder can be made to do happens here.
"""

import io
import os
import resource
import sys

from PIL import (
    AvifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from receiver.thumbnails.wire import (
    ANSWER,
    DRAW_NICE,
    DRAW_SECONDS,
    JOB,
    MOST_PIXELS,
    START_NICE,
    Answer,
)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
QUALITIES = (75, 50, 30)  # the first that fits, or the last
KEPT_MODES = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"})  # that can be shrunk as they are
MOST_MEMORY_BYTES = 512 * 1024 * 1024

# Loaded by Pillow when they are first needed, which is too late: then no file can be opened any more.
_LOADED = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)


def main() -> None:
    """Draw what comes in until nothing comes any more."""
    Image.MAX_IMAGE_PIXELS = None  # ``draw`` has one bound, and looks itself
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # else one for each core, where there may be none
    _warm_up()
    _limit()
    os.nice(DRAW_NICE - START_NICE)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    target.write(ANSWER.pack(Answer.DRAWN, 0))
    target.flush()
    while len(head := source.read(JOB.size)) == JOB.size:
        edge, most_bytes, size = JOB.unpack(head)
        _give_time()
        answer, small = draw(source.read(size), edge, most_bytes)
        target.write(ANSWER.pack(answer, len(small)) + small)
        target.flush()


def _warm_up() -> None:
    """Draw one image of each format, so that all that decoders load is loaded."""
    for name in FORMATS:
        if name != "AVIF" or features.check("avif"):
            file = io.BytesIO()
            Image.new("RGB", (1, 1)).save(file, name, exif=_EXIF)
            draw(file.getvalue(), 1, 1)


_EXIF = Image.Exif()
_EXIF[0x0112] = 6  # turned by a quarter: that, too, is to be warm


def _limit() -> None:
    """No more memory, no descriptor, no file, no core dump and no thread from now on. Raises OSError."""
    limits = [
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ]
    if sys.platform == "linux":  # macOS takes no bound of memory
        limits.append((resource.RLIMIT_AS, MOST_MEMORY_BYTES))
    for kind, most in limits:
        resource.setrlimit(kind, (most, most))


def _give_time() -> None:
    """Let the system end this process if the next image takes more of a processor than it may."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + DRAW_SECONDS) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def draw(file: bytes, edge: int, most_bytes: int) -> tuple[Answer, bytes]:
    """The first frame of an image as WebP, its longer edge ``edge`` pixels at most."""
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            # Before anything is decoded, and before ``draft`` says a smaller size than there is.
            if image.width * image.height > MOST_PIXELS:
                return Answer.TOO_MANY_PIXELS, b""
            return Answer.DRAWN, _packed(_shrunk(image, edge), most_bytes)
    except MemoryError:
        return Answer.TOO_MUCH_MEMORY, b""
    except Exception:  # noqa: BLE001 - decoders raise anything at what is damaged
        return Answer.NOT_READABLE, b""


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    """The image as it is meant to be seen, smaller, and nothing of what else its file says."""
    is_turned = image.format != "WEBP"  # browsers pass over what such a file says of it
    if image.mode not in KEPT_MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if is_turned:
        ImageOps.exif_transpose(image, in_place=True)
    plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
    plain.info = {}
    return plain


def _packed(image: Image.Image, most_bytes: int) -> bytes:
    file = io.BytesIO()
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, exif=b"", icc_profile=b"", xmp=b"")
        if file.tell() < most_bytes:
            break
    return file.getvalue()
