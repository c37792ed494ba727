"""What only the command checks without asking anybody: this shell's settings, and what a start would make."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from receiver import plugins
from receiver.cli.callback_url import provider_url
from receiver.cli.views import Outlook, ServiceSettings, told_differences
from receiver.config.credentials import credentials_path, ensure_credentials, read_credentials, were_exposed
from receiver.config.settings import Settings
from receiver.errors import Misconfigured
from receiver.health.checks import SAME_USER, Check, check_kept, existing, fail, ok, warn
from receiver.health.reachability import REMEDY, obstacles
from receiver.tokens import Tokens

OUT_OF_REACH = "is not looked at, nor what lies in it: it is on another machine, or out of this user's reach"

# --- this machine -----------------------------------------------------------------------------------


def check_new_folder(data_dir: Path) -> Check:
    """Whether the first start can make the data folder that is not there yet."""
    try:
        with tempfile.TemporaryFile(dir=existing(data_dir)):
            pass
    except OSError as exc:
        return fail(
            "data folder",
            f"{data_dir} cannot be made: {exc.strerror}",
            "set RECEIVER_DATA_DIR to a folder in which this user may write",
        )
    return ok("data folder", f"made at the first start: {data_dir}; what lies in it was tried in another")


# --- settings ---------------------------------------------------------------------------------------


def check_settings(outlook: Outlook, url: str) -> Iterator[Check]:
    """Whose settings the other checks go by, and how this shell's differ."""
    if outlook.told is None:
        yield ok("settings", f"understood; all goes by this shell's, as no service answers at {url}")
        return
    yield ok("settings", f"understood; where it says so, doctor goes by those of the service at {url}")
    if outlook.differences:
        yield warn(
            "settings differ",
            f"{told_differences(outlook.differences)}. Doctor goes by the service's",
            "start commands in the service's environment, or change what is wrong (and restart the service)",
        )


def check_untold(why: str) -> Check:
    """Warn that a service runs and did not tell its settings."""
    return warn(
        "settings",
        f"understood; all goes by this shell's, which may be others than the service's: {why}",
        "set RECEIVER_DATA_DIR to the service's data folder, or RECEIVER_TOKEN to an admin token of its own",
    )


def check_secrets(settings: Settings, told: ServiceSettings | None) -> Iterator[Check]:
    """Whether secrets are missing, or others could once read them."""
    path = credentials_path(settings.data_dir)
    todo = "set RECEIVER_SECRET, RECEIVER_API_TOKENS and RECEIVER_ADMIN_TOKENS, or mend the file"
    try:
        if told:
            yield check_kept("all are set", path, were_open=told.were_open)
        elif settings.embedded and read_credentials(settings.data_dir):
            yield check_kept(f"in {path}, for its owner alone", path, were_open=were_exposed(settings))
        elif settings.embedded and not (settings.secrets and settings.api_tokens and settings.admin_tokens):
            yield ok("secrets", f"made in {path} at the first start")
        else:
            ensure_credentials(settings)
            yield ok("secrets", "given by the environment")
    except OSError as exc:
        yield fail("secrets", f"{path}: {exc.strerror}", SAME_USER)
    except Misconfigured as exc:
        yield fail("secrets", "; ".join(exc.problems), todo)


def check_callback_urls(settings: Settings) -> Iterator[Check]:
    """The obstacles of single providers, besides those of the public URL."""
    common = obstacles(settings.public_url)
    tokens = Tokens(settings.secrets or ("a stand-in of the same length",))
    for name, provider in plugins.load_providers(settings.own_providers).items():
        own = [each for each in obstacles(provider_url(settings, tokens, name)) if each not in common]
        if not provider.facts.pushes:
            yield ok(f"callbacks {name}", f"{provider.facts.title} sends none: its tasks are polled")
        elif own:
            yield warn(f"callbacks {name}", f"the callback URL: {'; '.join(own)}", REMEDY)
