"""Pictures of hills under a sun, drawn from a task id: always the same for the same id.

The one module that needs Pillow (``pip install 'callback-receiver[demo]'``).
"""

import colorsys
import io
import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from receiver.simulator.model import Media

LONGEST_EDGE = 1024
SIZES = ((768, 768), (1024, 576), (576, 1024), (800, 600), (640, 800), (1024, 1024))
FORMATS = (("PNG", "image/png", "png"), ("JPEG", "image/jpeg", "jpg"), ("WEBP", "image/webp", "webp"))
_SMOOTH = 2  # everything is drawn this much larger, then shrunk: soft edges

Colour = tuple[int, int, int]


@lru_cache(maxsize=128)
def draw(task_id: str, index: int, longest_edge: int = LONGEST_EDGE, extension: str = "") -> Media:
    """Image ``index`` of a task, in one of SIZES or as much smaller as ``longest_edge`` pixels are.

    ``extension`` is that of one of FORMATS; without it the images of a task come in all of them by turns.
    Takes tens of milliseconds for large ones, so call it off the event loop.
    """
    series = random.Random(task_id)  # what the images of one task share
    hue, first_format, first_size = series.random(), series.randrange(3), series.randrange(len(SIZES))
    width, height = (
        max(1, edge * longest_edge // LONGEST_EDGE) for edge in SIZES[(first_size + index) % len(SIZES)]
    )
    by_turns = FORMATS[(first_format + index) % 3]
    name, media_type, extension = next((each for each in FORMATS if each[2] == extension), by_turns)
    chance = random.Random(f"{task_id}/{index}")
    wide, high = width * _SMOOTH, height * _SMOOTH
    ramp = Image.linear_gradient("L").resize((wide, high), Image.Resampling.BICUBIC)
    top, middle, bottom = (
        _colour(hue, 0.62, 0.42),
        _colour(hue + 0.08, 0.42, 0.82),
        _colour(hue + 0.16, 0.28, 0.98),
    )
    scene = ImageOps.colorize(ramp, black=top, mid=middle, white=bottom)  # the sky
    _sun(scene, chance, hue)
    ridges = chance.randint(4, 6)
    for number in range(ridges):
        _ridge(scene, chance, hue, depth=(number + 1) / ridges)
    image = scene.resize((width, height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, name, quality=88)  # PNG passes over ``quality``
    return Media(
        content=content.getvalue(), media_type=media_type, extension=extension, width=width, height=height
    )


def _sun(image: Image.Image, chance: random.Random, hue: float) -> None:
    wide, high = image.size
    x, y = wide * chance.uniform(0.2, 0.8), high * chance.uniform(0.18, 0.42)
    radius = min(wide, high) * chance.uniform(0.07, 0.12)
    # The glow is blurred at an eighth of the size: it has no edges to lose, and this is quick.
    glow = Image.new("L", (wide // 8, high // 8))
    _disc(ImageDraw.Draw(glow), x / 8, y / 8, radius / 4, 150)
    glow = glow.filter(ImageFilter.GaussianBlur(radius / 6)).resize(image.size, Image.Resampling.BICUBIC)
    light = _colour(hue + 0.14, 0.12, 1.0)
    image.paste(Image.new("RGB", image.size, light), mask=glow)
    _disc(ImageDraw.Draw(image), x, y, radius, light)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: Colour | int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _ridge(image: Image.Image, chance: random.Random, hue: float, *, depth: float) -> None:
    """One line of hills; the nearer (``depth`` towards 1), the lower, darker and rougher."""
    wide, high = image.size
    base, swing = high * (0.45 + 0.42 * depth), high * (0.03 + 0.05 * depth)
    waves = [(chance.uniform(0.6, 1.4) * 2.0**octave, chance.uniform(0, math.tau)) for octave in range(4)]

    def height_at(x: float) -> float:
        angle = math.tau * x / wide
        return base - swing * sum(math.sin(angle * k + shift) / 2.0**n for n, (k, shift) in enumerate(waves))

    line = [(x, height_at(x)) for x in range(0, wide + 8, 8)]
    colour = _colour(hue + 0.06 * (1 - depth), 0.30 + 0.30 * depth, 0.78 - 0.62 * depth)
    ImageDraw.Draw(image).polygon([*line, (wide, high), (0, high)], fill=colour)


def _colour(hue: float, saturation: float, brightness: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, brightness)
    return round(255 * red), round(255 * green), round(255 * blue)
