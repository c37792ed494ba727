"""A webhook receiver for asynchronous image-generation APIs.

What other programs may rely on; everything else may change with any release:

- ``receiver.asgi.app``: the service for any ASGI server, set by the environment.
- ``receiver.web.app.create_app(settings)``: the same, to be mounted in an app of your own; with
  ``receiver.config.settings.load_settings`` and ``receiver.config.credentials.ensure_credentials``.
- ``receiver.ports``: the contracts of providers, sinks, blob stores and stores, for plug-ins; with
  ``receiver.models``, ``receiver.errors`` and ``receiver.options``, and what a provider reads documents with,
  ``receiver.payload`` and ``receiver.urls``.
- ``receiver.client``: what a backend needs of a running receiver; it imports nothing of the service.
- ``receiver.testing``: a clock that tests turn, callbacks as providers send them, and fixtures for pytest.

The command line is ``receiver``, the distribution ``callback-receiver``.
"""

__version__ = "0.4.0"
