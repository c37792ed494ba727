"""A provider that is data: what a table of TOML says, with the promises of ``receiver.ports.Provider``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import msgspec

from receiver import payload
from receiver.declared.json_paths import Path, first_at, values_at
from receiver.declared.signatures import Signature
from receiver.models import (
    Callback,
    ProviderFacts,
    RemoteFile,
    Report,
    ReportState,
    SigningKeys,
    StatusRequest,
)
from receiver.urls import path_part

TASK_ID, MODEL = "{task_id}", "{model}"
MOST_WORD_CHARS = 100

_FILLED = re.compile(r"\{(?:task_id|model)\}")


class Find(StrEnum):
    """What of the value at a place is a file."""

    LISTED = "listed"  # a link, an object with ``url`` or ``file_url``, or an array of these
    BASE64 = "base64"  # the file itself, or an array of such
    NAMED = "named"  # whatever is named as a link, however deep: see ``payload.named_files``
    LINKS = "links"  # every web link, however deep


class FilePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where files are."""

    at: Path
    find: Find = Find.LISTED
    kind: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a task is asked about; paths and values may have ``{task_id}`` and ``{model}`` in them."""

    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    otherwise: str | None = None  # the path to ask at where there is no such task
    most_bytes: int = 0  # of an answer, where it may have more than others

    @property
    def needs_model(self) -> bool:
        return any(MODEL in text for text in (self.path, self.otherwise or "", *self.query.values()))


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """All that a table says."""

    facts: ProviderFacts
    id: tuple[Path, ...]
    state: tuple[Path, ...]
    states: Mapping[str, ReportState]
    files: tuple[FilePlace, ...]
    files_optional: bool = False
    error: tuple[Path, ...] = ()
    error_code: tuple[Path, ...] = ()
    error_message: tuple[Path, ...] = ()
    status: Status
    signature: Signature | None = None
    replaces: bool = False  # a provider of this release


class DeclaredProvider:
    """Reads a provider's documents by what was declared of it."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.facts = declaration.facts

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        signature = self.declaration.signature
        return signature is not None and signature.fault(callback, keys) is None

    def parse(self, document: object) -> Report:
        told = self.declaration
        found = [(place, list(values_at(document, place.at))) for place in told.files]
        values = [value for _, each in found for value in each]
        return payload.build_report(
            task_id=payload.task_id(first_at(document, told.id)),
            word=word_of(first_at(document, told.state)),
            states=told.states,
            files=_files(found),
            # Where there always are files, their absence is not understood, either: see ``build_report``.
            named=values if told.files_optional else [values or [None]],
            error=lambda: payload.error_of(
                first_at(document, told.error),
                number=first_at(document, told.error_code),
                message=first_at(document, told.error_message),
            ),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest | None:
        status = self.declaration.status
        if model is None and status.needs_model:
            return None
        query = {name: _filled(text, task_id, model or "") for name, text in status.query.items()}
        otherwise = status.otherwise and StatusRequest(
            path=_filled_path(status.otherwise, task_id, model or ""),
            headers=status.headers,
            most_bytes=status.most_bytes,
        )
        return StatusRequest(
            path=_filled_path(status.path, task_id, model or ""),
            query=query,
            headers=status.headers,
            otherwise=otherwise or None,
            most_bytes=status.most_bytes,
        )


def word_of(value: object) -> str | None:
    """A state as the provider spelled it; one that is a number or a boolean as JSON writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return payload.text(value, MOST_WORD_CHARS) or payload.code(value)


def _files(found: Iterable[tuple[FilePlace, Iterable[object]]]) -> Iterator[RemoteFile | None]:
    for place, values in found:
        for value in values:
            match place.find:
                case Find.LISTED:
                    for item in payload.items(value) or [value]:
                        yield payload.file_of(item, place.kind)
                case Find.BASE64:
                    for item in payload.items(value) or [value]:
                        yield payload.base64_file(item, place.kind)
                case Find.NAMED:
                    yield from payload.named_files(value)
                case Find.LINKS:
                    yield from (payload.remote_file(link, place.kind) for link in payload.links(value))


def _filled(text: str, task_id: str, model: str) -> str:
    values = {TASK_ID: task_id, MODEL: model}
    return _FILLED.sub(lambda place: values[place[0]], text)


def _filled_path(text: str, task_id: str, model: str) -> str:
    return _filled(text, path_part(task_id), path_part(model))
