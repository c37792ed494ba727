"""Music: what each model makes, and how Vidgo and APIDot describe it."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from receiver.simulator.sounds import SECONDS


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``files``."""

    links: Mapping[str, str] = {}  # key -> the extension of the file that its link leads to
    texts: Mapping[str, object] = {}  # keys without a file
    inside: str | None = None  # the key whose value is JSON text with the links in it


Items = tuple[Item, ...]
_TITLE = "Peaceful Piano Meditation"
_LYRICS = "[Verse]\nHills under a sun"


# https://docs.vidgo.ai/api-manual/music-series/query-music-detail ; ``timestampe_lyrics`` is spelled so. The
# keys of cover images and those of generate-midi are assumptions.
_SONG = Item(
    links={"audio_url": "mp3", "image_url": "jpg"},
    texts={"title": _TITLE, "tags": "Classical", "duration": SECONDS, "prompt": ""},
)
_STEMS = ("bass", "drums", "piano", "guitar")
VIDGO: Mapping[str, Items] = {
    "generate-music": (_SONG, _SONG),
    "extend-music": (_SONG, _SONG),
    "upload-and-cover-audio": (_SONG, _SONG),
    "upload-and-extend-audio": (_SONG, _SONG),
    "add-instrumental": (_SONG, _SONG),
    "add-vocals": (_SONG, _SONG),
    "replace-section": (_SONG,),
    "get-timestamped-lyrics": (Item(texts={"timestampe_lyrics": "[00:00.00] Hills under a sun"}),),
    "generate-lyrics": (Item(texts={"title": _TITLE, "text": _LYRICS}),),
    "boost-music-style": (Item(texts={"style": "Calm piano, wide and slow"}),),
    "generate-persona": (Item(texts={"persona_id": "a82a7d35b6d5a6fb"}),),
    "convert-to-wav": (Item(links={"wav_url": "wav"}),),
    "create-music-video": (Item(links={"video_url": "mp4"}),),
    "generate-midi": (Item(links={"midi_url": "mid"}),),
    "separate-vocals": (
        Item(links={"vocal_url": "mp3", "instrumental_url": "mp3"}, inside="separate_vocals"),
    ),
    "upload-and-separate-vocals": (Item(links=dict.fromkeys(_STEMS, "mp3"), inside="vocal_removal"),),
    "stem-split": (Item(links=dict.fromkeys(_STEMS, "mp3"), inside="stem_split"),),
    "generate-music-cover": (Item(links={"image_1": "jpg", "image_2": "jpg"}, inside="generate_cover"),),
}

# https://github.com/coolhackboy/apidot, services/musicService.ts: the company's own site.
_APIDOT_SONG = Item(
    links={"audio_url": "mp3", "image_url": "jpg"},
    texts={"title": _TITLE, "style": "Classical", "duration": SECONDS, "prompt": ""},
)
APIDOT: Mapping[str, Items] = {
    **{name: tuple(_APIDOT_SONG for _ in items) for name, items in VIDGO.items() if items[0] is _SONG},
    "minimax-music-2.6": (_APIDOT_SONG,),
    "get-timestamped-lyrics": (
        Item(texts={"timestamped_lyrics": [{"start": 0.5, "end": 2.5, "text": "Hills under a sun"}]}),
    ),
    "generate-lyrics": (Item(texts={"title": _TITLE, "lyrics": _LYRICS}),),
    "boost-music-style": (Item(texts={"enhanced_style": "Calm piano, wide and slow"}),),
    "generate-persona": (Item(texts={"persona_id": "a82a7d35b6d5a6fb"}),),
    "convert-to-wav": (Item(links={"wav_url": "wav"}),),
    "create-music-video": (Item(links={"video_url": "mp4"}),),
    "generate-midi": (Item(links={"midi_url": "mid"}),),
    "separate-vocals": (Item(links={"vocals_url": "mp3", "instrumental_url": "mp3"}),),
    "upload-and-separate-vocals": (Item(links={"vocals_url": "mp3", "instrumental_url": "mp3"}),),
    "stem-split": (Item(links={"vocals_url": "mp3", "instrumental_url": "mp3"}),),
    "generate-music-cover": (Item(links={"image_url": "jpg"}),),
}

# Every other model works on an earlier task, and needs no prompt.
NEEDS_PROMPT = frozenset({"generate-music", "generate-lyrics", "minimax-music-2.6"})


def makes(items: Items) -> tuple[str, ...]:
    """The files of these entries, in the order of their links."""
    return tuple(extension for item in items for extension in item.links.values())


def told(items: Items, urls: Sequence[str]) -> list[dict[str, object]]:
    """The entries of a finished task's ``files``; ``urls`` are those of ``makes``."""
    left = iter(urls)
    entries: list[dict[str, object]] = []
    for item in items:
        links: dict[str, object] = {key: next(left) for key in item.links}
        if item.inside:
            links = {item.inside: msgspec.json.encode(links).decode()}
        elif audio := links.get("audio_url"):
            # In the form of a UUID, the same for the same track.
            digits = hashlib.sha256(str(audio).partition("?")[0].encode()).hexdigest()
            audio_id = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
            links = {"audio_id": audio_id, **links}
        entries.append({**links, **item.texts})
    return entries
