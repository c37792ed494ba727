"""What the service and the process that draws tell each other: fixed heads, each with bytes behind it.

The service sends ``JOB`` and a file; it gets ``ANSWER`` and a WebP image, or nothing. Before the first
job the process answers once, when its limits hold.
"""

from enum import IntEnum
from struct import Struct

JOB = Struct(">HII")  # longest edge in pixels, most bytes wanted, bytes of the file
ANSWER = Struct(">BI")  # an ``Answer``, bytes of the image

START_NICE, DRAW_NICE = 10, 19  # with 19 it has 1.4 % of a core that the service wants for itself

MOST_FILE_BYTES = 32 * 1024 * 1024
MOST_PIXELS = 17_000_000
DRAW_SECONDS = 5.0  # of a processor, for one image; the system ends the process then


class Answer(IntEnum):
    """What became of a file."""

    DRAWN = 0
    TOO_MANY_PIXELS = 1
    NOT_READABLE = 2
    TOO_MUCH_MEMORY = 3
