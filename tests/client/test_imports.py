"""What importing the client costs a backend: nothing of the service, and no driver before it is used."""

import subprocess
import sys

import pytest

LOADED = """
import sys
before = set(sys.modules)
{code}
print(*sorted({{name for name in set(sys.modules) - before}}))
"""


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import receiver.client",
        "from receiver.client import Receiver, AsyncReceiver, Submission, Task",
        "from receiver.client import run, arun",
    ],
)
def test_nothing_of_the_service_is_imported(code: str) -> None:
    ours = {name for name in loaded_by(code) if name.partition(".")[0] == "receiver"}
    assert {name for name in ours if not name.startswith("receiver.client")} == {"receiver"}


def test_a_backend_that_only_verifies_loads_msgspec_and_no_more() -> None:
    tops = {name.partition(".")[0] for name in loaded_by("from receiver.client import verify")}
    foreign = {name for name in tops if not name.startswith("_")} - set(sys.stdlib_module_names)
    assert foreign <= {"receiver", "msgspec", "typing_extensions"}


def test_the_client_of_the_service_adds_httpx2_and_no_driver() -> None:
    tops = {name.partition(".")[0] for name in loaded_by("from receiver.client import Receiver")}
    assert "httpx2" in tops
    assert not tops & {"redis", "starlette", "django", "celery", "uvicorn", "structlog", "click"}


def test_what_it_does_not_have_is_an_attribute_error() -> None:
    import receiver.client  # noqa: PLC0415 - as a backend does

    with pytest.raises(AttributeError, match="nothing_such"):
        _ = receiver.client.nothing_such  # type: ignore[attr-defined]
