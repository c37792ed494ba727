"""A part as the settings want it: built, and neither opened nor connected yet."""

import httpx2

from receiver import plugins
from receiver.config.settings import Settings, SinkSettings
from receiver.errors import Misconfigured
from receiver.options import PartOptions
from receiver.ports import BlobStore, Sink


def check_drivers(settings: Settings) -> None:
    """Import what the settings name. Raises Misconfigured naming every part without its driver at once."""
    wanted: list[tuple[plugins.Kind, str]] = [
        ("stores", settings.database_scheme),
        ("blobs", settings.assets_scheme),
        *(("sinks", sink.scheme) for sink in settings.sinks),
    ]
    problems: list[str] = []
    for kind, scheme in dict.fromkeys(wanted):
        try:
            plugins.load(kind, scheme)
        except Misconfigured as exc:
            problems += exc.problems
    if problems:
        raise Misconfigured(*problems)


def make_blobs(settings: Settings, http: httpx2.AsyncClient) -> BlobStore:
    """The asset store. Raises Misconfigured."""
    kind: type[BlobStore] = plugins.load("blobs", settings.assets_scheme)
    options = PartOptions(name=settings.assets_scheme, data_dir=settings.data_dir, http=http)
    return kind.from_url(settings.assets_url, options)


def make_sink(settings: Settings, sink: SinkSettings, http: httpx2.AsyncClient) -> Sink:
    """One sink. Raises Misconfigured."""
    kind: type[Sink] = plugins.load("sinks", sink.scheme)
    options = PartOptions(
        name=sink.name,
        data_dir=settings.data_dir,
        http=http,
        secret=sink.secret,
        timeout_seconds=sink.timeout_seconds,
        format=sink.format,
    )
    return kind.from_url(sink.url, options)
