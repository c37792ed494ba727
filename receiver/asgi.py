"""The service for any ASGI server, as ``receiver.asgi:app``.

Settings come from the environment when the server starts it. ``receiver serve`` is the same service with the
limits on connections that these servers leave to the proxy in front of them.
"""

import sys

from receiver.config.credentials import ensure_credentials, tell_weaknesses
from receiver.config.settings import Settings, load_settings
from receiver.logs import configure_logs
from receiver.privileges import keep_from_others
from receiver.web.app import Service


def _prepare() -> Settings:
    keep_from_others()
    settings = ensure_credentials(load_settings())
    configure_logs(settings.log_level, settings.log_format, sys.stderr)
    tell_weaknesses(settings)
    return settings


app = Service(_prepare)
