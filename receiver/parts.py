"""A part as the settings want it: built, and neither opened nor connected yet."""

import httpx2

from receiver import plugins
from receiver.options import PartOptions
from receiver.ports import BlobStore, Sink
from receiver.settings import Settings, SinkSettings


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
    )
    return kind.from_url(sink.url, options)
