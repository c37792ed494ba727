"""What a test needs and a machine may lack: a newcomer's tests skip, those that guard the project fail."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip with the reason; where ``CI`` is set, fail with it, for there everything is meant to be there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
