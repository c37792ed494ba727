"""Credentials: made once, for the owner alone, and only where one process is all there is."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.config.credentials import (
    credentials_path,
    ensure_credentials,
    read_credentials,
    tell_weaknesses,
    were_exposed,
)
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from tests.support.disk_faults import folders_that_cannot_be_synced

GIVEN = "given-by-the-environment"


def settings_in(folder: Path, **environ: str) -> Settings:
    return load_settings({"RECEIVER_DATA_DIR": str(folder), **environ})


def test_the_first_start_makes_three_different_secrets_for_the_owner_alone(tmp_path: Path) -> None:
    settings = ensure_credentials(settings_in(tmp_path / "data"))
    path = credentials_path(tmp_path / "data")
    made = {*settings.secrets, *settings.api_tokens, *settings.admin_tokens}
    assert len(made) == 3
    assert all(len(secret) >= 40 for secret in made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_later_starts_use_the_same(tmp_path: Path) -> None:
    first = ensure_credentials(settings_in(tmp_path))
    assert ensure_credentials(settings_in(tmp_path)).secrets == first.secrets
    kept = read_credentials(tmp_path)
    assert kept is not None
    assert (kept.secret,) == first.secrets
    assert kept.secret not in repr(kept)


def test_parallel_first_starts_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: ensure_credentials(settings_in(tmp_path / "d")), range(64)))
    assert len({settings.secrets for settings in results}) == 1
    assert len({settings.admin_tokens for settings in results}) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_links_keeps_them_and_parallel_first_starts_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: ensure_credentials(settings_in(tmp_path / "d")), range(64)))
    assert len({settings.secrets for settings in results}) == 1
    path = credentials_path(tmp_path / "d")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_synced_keeps_them(tmp_path: Path) -> None:
    with folders_that_cannot_be_synced(errno.EINVAL):
        made = ensure_credentials(settings_in(tmp_path / "data"))
    assert ensure_credentials(settings_in(tmp_path / "data")).secrets == made.secrets


def test_what_the_environment_gives_is_kept_and_the_rest_filled_in(tmp_path: Path) -> None:
    settings = ensure_credentials(settings_in(tmp_path, RECEIVER_API_TOKENS=GIVEN))
    assert settings.api_tokens == (GIVEN,)
    assert settings.secrets
    assert settings.admin_tokens


def test_nothing_is_made_when_everything_is_given(tmp_path: Path) -> None:
    names = ("RECEIVER_SECRET", "RECEIVER_API_TOKENS", "RECEIVER_ADMIN_TOKENS")
    given = {name: f"{GIVEN}-{number}" for number, name in enumerate(names)}
    settings = settings_in(tmp_path / "data", **given)
    assert ensure_credentials(settings) is settings
    assert not (tmp_path / "data").exists()


def test_beside_another_database_every_missing_secret_is_named(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings_in(tmp_path), database_url="postgres://host/db")
    with pytest.raises(Misconfigured) as caught:
        ensure_credentials(settings)
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "RECEIVER_SECRET",
        "RECEIVER_API_TOKENS",
        "RECEIVER_ADMIN_TOKENS",
    ]


def test_reading_creates_nothing(tmp_path: Path) -> None:
    assert read_credentials(tmp_path / "data") is None
    assert not (tmp_path / "data").exists()


def test_a_file_open_to_others_is_closed_to_them_and_keeps_that_it_was(tmp_path: Path) -> None:
    settings = ensure_credentials(settings_in(tmp_path))
    assert not were_exposed(settings)
    path = credentials_path(tmp_path)
    path.chmod(0o644)
    for _ in "12":
        assert ensure_credentials(settings_in(tmp_path)).secrets == settings.secrets
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert were_exposed(settings)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with capture_logs() as logged:
        tell_weaknesses(settings)
    assert [entry["event"] for entry in logged] == ["credentials.were_open"]


def test_secrets_that_were_open_are_no_trouble_once_all_of_them_are_changed(tmp_path: Path) -> None:
    old = ensure_credentials(settings_in(tmp_path))
    credentials_path(tmp_path).chmod(0o640)
    new = {"RECEIVER_API_TOKENS": f"{GIVEN}-1", "RECEIVER_ADMIN_TOKENS": f"{GIVEN}-2"}
    both = ensure_credentials(settings_in(tmp_path, RECEIVER_SECRET=f"{GIVEN},{old.secrets[0]}", **new))
    assert were_exposed(both)  # the old one is still taken
    assert not were_exposed(ensure_credentials(settings_in(tmp_path, RECEIVER_SECRET=GIVEN, **new)))


def test_a_secret_from_the_file_that_is_set_as_another_is_refused(tmp_path: Path) -> None:
    made = ensure_credentials(settings_in(tmp_path))
    with pytest.raises(Misconfigured, match="RECEIVER_SECRET and RECEIVER_API_TOKENS hold the same value"):
        ensure_credentials(settings_in(tmp_path, RECEIVER_API_TOKENS=made.secrets[0]))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b"[" * 100_000, b'{"secret":"x","api_token":"y","admin_token":"z"}'],
)
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = credentials_path(tmp_path)
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match="is damaged: restore it, or delete it"):
        ensure_credentials(settings_in(tmp_path))
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_a_problem_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match="cannot be read"):
        ensure_credentials(settings_in(tmp_path / "file" / "data"))


def test_a_link_in_their_place_is_not_followed_and_its_target_not_changed(tmp_path: Path) -> None:
    ensure_credentials(settings_in(tmp_path / "other"))
    target = credentials_path(tmp_path / "other")
    target.chmod(0o644)
    (tmp_path / "data").mkdir()
    credentials_path(tmp_path / "data").symlink_to(target)
    with pytest.raises(Misconfigured, match="it is a link, which is not followed"):
        read_credentials(tmp_path / "data")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_pipe_in_their_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(credentials_path(tmp_path))
    with pytest.raises(Misconfigured, match="it is no file"):
        read_credentials(tmp_path)


def test_what_has_another_name_too_is_not_closed(tmp_path: Path) -> None:
    ensure_credentials(settings_in(tmp_path))
    (tmp_path / "other-name").hardlink_to(credentials_path(tmp_path))
    (tmp_path / "other-name").chmod(0o644)
    with pytest.raises(Misconfigured, match="chmod 600 it as its owner"):
        read_credentials(tmp_path)
    assert stat.S_IMODE((tmp_path / "other-name").stat().st_mode) == 0o644
