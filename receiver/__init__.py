"""A webhook receiver for asynchronous image-generation APIs."""

__version__ = "0.3.0"
