"""A file of a task, in the format that was ordered: always the same for the same task."""

from collections.abc import Callable
from typing import Protocol

from receiver.simulator import films, sounds
from receiver.simulator.model import ANY_IMAGE, Media

# What has no pixels: its media type, and how it is made.
_SOUNDS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "mp3": ("audio/mpeg", sounds.mp3),
    "wav": ("audio/wav", sounds.wav),
    "mid": ("audio/midi", sounds.midi),
}


class Draw(Protocol):
    """Draws image ``index`` of a task, as the one module with Pillow does."""

    def __call__(self, task_id: str, index: int, longest_edge: int, extension: str = "", /) -> Media: ...


def make(draw: Draw, task_id: str, index: int, makes: str, longest_edge: int) -> Media:
    """File ``index`` of a task; ``makes`` is ANY_IMAGE or an extension. Slow: call it in a thread."""
    if makes in _SOUNDS:
        media_type, sound = _SOUNDS[makes]
        return Media(content=sound(f"{task_id}/{index}"), media_type=media_type, extension=makes)
    if makes == "mp4":
        picture = draw(task_id, index, longest_edge, "jpg")
        width, height = picture.width or 0, picture.height or 0
        content = films.mp4(picture.content, width, height)
        return Media(content=content, media_type="video/mp4", extension="mp4", width=width, height=height)
    return draw(task_id, index, longest_edge, "" if makes == ANY_IMAGE else makes)
