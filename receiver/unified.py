"""The documents that Vidgo and APIDot share: one envelope, the same states, files of images and of music.

Paths, names, states and ids (``task-unified-...``) are the same in both documentations, so what one of them
documents is read from both. The page behind each fact is named beside it: Vidgo's at
https://docs.vidgo.ai/api-manual , APIDot's in https://github.com/coolhackboy/apidot (its site) and
https://github.com/APIDotAI (its examples).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import msgspec

from receiver import payload
from receiver.models import RemoteFile, Report, ReportState, StatusRequest
from receiver.urls import path_part

# Vidgo, task-management/status; ``processing`` is APIDot's site's for most families of images. The outer
# ``code`` is 0 or 200 and says nothing about the task.
_STATES = {
    "not_started": ReportState.PROGRESS,
    "running": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "finished": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}

# Vidgo, music-series/query-music-detail, and APIDot's site: these models are asked about at another path.
_MUSIC_MODELS = frozenset(
    {
        "generate-music",
        "extend-music",
        "upload-and-cover-audio",
        "upload-and-extend-audio",
        "add-instrumental",
        "add-vocals",
        "replace-section",
        "get-timestamped-lyrics",
        "generate-lyrics",
        "boost-music-style",
        "convert-to-wav",
        "separate-vocals",
        "upload-and-separate-vocals",
        "stem-split",
        "generate-midi",
        "generate-music-cover",
        "generate-persona",
        "create-music-video",
        "minimax-music-2.6",
    }
)
_MUSIC_ID = "task-music-"  # APIDot's site; Vidgo's ids of music look like those of some images

# Vidgo, music-series/music-webhook, and APIDot's site: the keys of an item that hold one link, and what kind
# of file it is. In our order, not in the item's: callback and status answer must name the files alike.
_LINK_KEYS = {
    "audio_url": "audio",
    "image_url": "image",
    "video_url": "video",
    "wav_url": "audio",
    "vocals_url": "audio",
    "instrumental_url": "audio",
    "midi_url": "audio",
}
# The same page of Vidgo's: keys whose value is JSON text with a link for each stem or cover.
_TEXT_KEYS = {
    "separate_vocals": "audio",
    "vocal_removal": "audio",
    "stem_split": "audio",
    "generate_cover": "image",
}
_MUSIC_KEYS = _LINK_KEYS.keys() | _TEXT_KEYS.keys()
_FILE_KEYS = _MUSIC_KEYS | {"file_url", "url", "audio_id"}
# The same pages: keys of what is sold and is no file.
_WORD_KEYS = {
    "text",
    "lyrics",
    "timestampe_lyrics",  # spelled so
    "timestamped_lyrics",
    "style",
    "enhanced_style",
    "persona_id",
}


def read(document: object) -> Report:
    """What a callback or a status answer says."""
    outer = payload.mapping(document)
    data = payload.mapping(outer.get("data"))

    # Field by field, as APIDot's own receivers do: the envelope, or a part of it, may be missing.
    fields = outer | {name: inner for name, inner in data.items() if inner is not None}
    # What stands where files may be; the first place that names any counts. Vidgo and APIDot's site have them
    # in ``data.files``, APIDot's examples in ``data.output.files`` (gpt-image-2-api, curl/generate.md) and,
    # flat, in ``files`` (webhooks/express-webhook/server.mjs).
    output, flat_output = payload.mapping(data.get("output")), payload.mapping(outer.get("output"))
    places = data.get("files"), output.get("files"), outer.get("files"), flat_output.get("files")
    report = payload.build_report(
        task_id=payload.task_id(fields.get("task_id")),
        word=payload.text(fields.get("status"), 100),
        states=_STATES,
        files=_first_files(places),
        named=places,
        is_fileless=_is_fileless,
        error=payload.error_of(fields.get("error"), message=fields.get("error_message")),
    )
    return payload.with_credits(report, fields.get("credits_amount"))  # APIDot's site, in status answers


def status_request(task_id: str, model: str | None) -> StatusRequest:
    """Ask where tasks of such a model are known, otherwise at the other path: lists of models grow old."""
    usual = StatusRequest(path=f"/api/generate/status/{path_part(task_id)}")
    # The id goes into the query: APIDot's site; Vidgo's page does not show where.
    music = StatusRequest(path="/api/generate/detail/music", query={"task_id": task_id})
    if model in _MUSIC_MODELS or task_id.startswith(_MUSIC_ID):
        return msgspec.structs.replace(music, otherwise=usual)
    return msgspec.structs.replace(usual, otherwise=music)


def _first_files(places: Iterable[object]) -> Iterator[RemoteFile]:
    for place in places:
        found = (file for item in payload.items(place) for file in _files_of(item) if file is not None)
        first = next(found, None)
        if first is not None:
            return chain([first], found)
    return iter(())


def _files_of(item: object) -> Iterable[RemoteFile | None]:
    """Every link of one item: one for an image, a video or a model, several for music, none for lyrics."""
    if isinstance(item, str):  # not documented: one client reads it, and a word is no link
        return map(payload.remote_file, payload.links(item))
    fields = payload.mapping(item)
    own = (payload.file_of(fields),)
    return own if _MUSIC_KEYS.isdisjoint(fields) else (*own, *_music_of(fields))


def _music_of(fields: Mapping[str, object]) -> Iterator[RemoteFile | None]:
    for key, kind in _LINK_KEYS.items():
        yield payload.remote_file(fields.get(key), kind)
    for key, kind in _TEXT_KEYS.items():
        for link in payload.links(payload.embedded(fields.get(key))):
            yield payload.remote_file(link, kind)


def _is_fileless(place: object) -> bool:
    """Whether all items hold what is sold and is not a file, and nothing that may be one."""
    items = payload.items(place)
    for item in map(payload.mapping, items):
        given = {key for key, value in item.items() if not payload.is_empty(value)}
        if given.isdisjoint(_WORD_KEYS) or not given.isdisjoint(_FILE_KEYS) or payload.links(item):
            return False
    return bool(items)
