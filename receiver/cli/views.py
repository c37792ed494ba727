"""Whose settings doctor goes by: the running service's where it tells them, else this shell's."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from receiver.config import parsers
from receiver.config.credentials import read_credentials
from receiver.config.disclosure import HIDDEN, disclose
from receiver.config.fields import FIELDS, PROVIDER_FIELDS, SINK_FIELDS, key_variable, variable_of
from receiver.config.parsers import is_here
from receiver.config.settings import CATALOG_PLACE, PROVIDERS_FILE, Settings, SinkSettings, load_settings
from receiver.errors import Misconfigured
from receiver.health.checks import View

MOST_SHOWN = 6
_RECORD, _FILES = "RECEIVER_DATABASE_URL", "RECEIVER_ASSETS_URL"
_SINK = "RECEIVER_SINK_"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a service answers at ``GET /settings``."""

    sqlite: str
    settings: dict[str, str]
    guessable: list[str]
    were_open: bool


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One variable that is not the same here and there, as it may be shown."""

    variable: str
    shell: str
    service: str

    def __str__(self) -> str:
        ours = f"{self.variable}={self.shell}" if self.shell else f"no {self.variable}"
        return f"this shell has {ours}, the service {self.service or 'none'}"


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What doctor goes by. ``told`` is the service's answer, where it gave one."""

    settings: Settings
    shell: dict[str, str]  # every variable as it may be shown
    told: ServiceSettings | None = None
    differences: list[Difference] = []
    other_keys: frozenset[str] = frozenset()  # providers whose key only the service has
    other_sinks: tuple[str, ...] = ()  # sinks that are set otherwise here, or not at all
    is_elsewhere: bool = False  # the service's folder cannot be looked at from here
    has_other_record: bool = False  # in a server whose URL is not known here
    has_other_files: bool = False  # in a bucket likewise

    @property
    def view(self) -> View:
        return View.SERVICE if self.told else View.SHELL


def by_shell(settings: Settings) -> Outlook:
    """No service was asked: this shell's settings."""
    return Outlook(settings=settings, shell=disclose(settings, None))


def by_service(settings: Settings, told: ServiceSettings, token: str) -> Outlook:
    """The settings of the running service, with its secrets as far as this shell has the same ones.

    Host and port are the service's, and so is what follows from them, as they may have been given to `serve`
    and not by the environment. Raises Misconfigured where this release does not understand what it told.
    """
    theirs = told.settings
    ours = disclose(_beside(settings, theirs), token)
    differences = [
        Difference(variable=name, shell=ours.get(name, ""), service=theirs.get(name, ""))
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name, "") != theirs.get(name, "") and not _goes_without_saying(name, ours, theirs)
    ]
    differing = {each.variable for each in differences}
    adopted, other_keys = _adopted(settings, theirs, differing)
    same_sinks = tuple(sink for sink in settings.sinks if _leads_to(sink, ours) == _leads_to(sink, theirs))
    names = {sink.name for sink in same_sinks}
    host = urlsplit(settings.url).hostname or ""
    hidden = HIDDEN in theirs.get(_RECORD, "")  # of a server only the host is told
    if hidden:
        adopted = msgspec.structs.replace(adopted, database_url=settings.database_url)
    in_bucket = HIDDEN in theirs.get(_FILES, "")
    if in_bucket:
        adopted = msgspec.structs.replace(adopted, assets_url=settings.assets_url, aws=settings.aws)
    return Outlook(
        settings=msgspec.structs.replace(adopted, sinks=same_sinks),
        has_other_record=hidden and _RECORD in differing,
        has_other_files=in_bucket and _FILES in differing,
        shell=ours,
        told=told,
        differences=differences,
        other_keys=other_keys,
        other_sinks=tuple(name for name in _sink_names(theirs) if name not in names),
        is_elsewhere=not _is_in_reach(host, adopted.data_dir),
    )


def told_differences(differences: list[Difference]) -> str:
    """The differences in words, for a check."""
    said = "; ".join(map(str, differences[:MOST_SHOWN]))
    more = len(differences) - MOST_SHOWN
    return f"{said}; and {more} more (--json shows all)" if more > 0 else said


def _beside(settings: Settings, theirs: Mapping[str, str]) -> Settings:
    """The settings of a service started in this shell, on the host and port of the one that runs."""
    mine = load_settings(host=theirs["RECEIVER_HOST"], port=int(theirs["PORT"]))
    try:
        kept = read_credentials(settings.data_dir)
    except Misconfigured:  # told where they are looked at
        kept = None
    if kept is None:
        return mine
    return msgspec.structs.replace(
        mine,
        secrets=mine.secrets or (kept.secret,),
        api_tokens=mine.api_tokens or (kept.api_token,),
        admin_tokens=mine.admin_tokens or (kept.admin_token,),
    )


def _goes_without_saying(name: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether it is the sink that is there when none is set, or an option of one that only one side has."""
    base = "_".join(name.split("_", 3)[:3])
    if not name.startswith(_SINK) or (base in ours) == (base in theirs):
        return False
    side = ours if base in ours else theirs
    return name != base or (side[base] == SINK_FIELDS[0].default and len(_sink_names(side)) == 1)


def _leads_to(sink: SinkSettings, shown: Mapping[str, str]) -> str | None:
    return shown.get(_SINK + sink.name.upper())


def _sink_names(theirs: Mapping[str, str]) -> list[str]:
    found = [name.removeprefix(_SINK) for name in theirs if name.startswith(_SINK)]
    return [name.lower() for name in found if "_" not in name]


def _adopted(
    settings: Settings, theirs: Mapping[str, str], differing: set[str]
) -> tuple[Settings, frozenset[str]]:
    """The service's settings as far as it tells them, and the providers whose keys are not known here.

    Only what is no secret is taken over; of places, those that are files.
    """
    fields = [field for field in FIELDS if not field.secret or field.accepts is parsers.LOCATION]
    options = [field for field in PROVIDER_FIELDS if not field.secret]
    variables = [
        *(field.variable for field in fields),
        *(variable_of(field.variable, name) for name in settings.providers for field in options),
    ]
    environ = {name: theirs[name] for name in variables if HIDDEN not in theirs.get(name, HIDDEN)}
    for name in (PROVIDERS_FILE, CATALOG_PLACE):
        if not os.access(environ.get(name, ""), os.R_OK):  # on another machine
            environ.pop(name, None)
    adopted, other_keys, providers = load_settings(environ), set(), {}
    keys: tuple[str, ...]
    for name, access in adopted.providers.items():
        variable, keys = key_variable(name), ()
        if theirs.get(variable) and variable in differing:
            other_keys.add(name)
        elif theirs.get(variable):
            keys = settings.providers[name].api_keys if name in settings.providers else ()
        providers[name] = msgspec.structs.replace(access, api_keys=keys)
    adopted = msgspec.structs.replace(adopted, providers=providers, url=settings.url, token=settings.token)
    return adopted, frozenset(other_keys)


def _is_in_reach(host: str, folder: Path) -> bool:
    """Whether ``host`` is this machine, and the folder can be looked at from here."""
    try:
        if not is_here(host):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                probe.bind((host, 0))  # nobody can bind another machine's address
        return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    except OSError:
        return False
