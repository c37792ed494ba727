"""Rights: root's are given up, and others get none to what is made here."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import msgspec

from receiver.errors import Misconfigured

MOST_NAMES = 4096  # on the way to a place: links that lead to each other end


def keep_from_others() -> None:
    """See to it that what this process makes is its user's alone, whatever shell or host started it."""
    os.umask(0o077)


def become_owner(folder: Path) -> str | None:
    """Where root runs this: become the owner of a folder, for good; who that is, if it is somebody else.

    What root made in it, the service could not use; and a link that was planted in it would have root change
    files anywhere. Nothing happens for other users, and in a folder that is root's or not there yet. Raises
    Misconfigured where root cannot become its owner, or that user could not run this, and where root would
    stay root in a place to which another user's link leads.
    """
    if os.geteuid() != 0:
        return None
    try:
        info = folder.stat()
    except OSError:  # not there; or whoever opens it says why it cannot be had
        _refuse_others_links(folder)
        return None
    if info.st_uid == 0:
        _refuse_others_links(folder)
        return None
    # Looked at from here: the user may not be able to see where it is.
    folder, owner = folder.resolve(), _name_of(info.st_uid)
    try:
        _become(info.st_uid, info.st_gid)
    except OSError as exc:
        raise Misconfigured(
            f"{folder} belongs to {owner}, whom root cannot become here ({exc.strerror}): run this as {owner}"
        ) from exc
    _refuse_unusable(folder, owner)
    return owner


def _refuse_others_links(folder: Path) -> None:
    """Whose link it is could lead root anywhere."""
    for link in _links_to(folder):
        if owner := link.lstat().st_uid:
            raise Misconfigured(
                f"the way to {folder} is by {link}, a link of {_name_of(owner)}'s, which root does not"
                " follow: set RECEIVER_DATA_DIR to the folder itself"
            )


def _links_to(place: Path) -> Iterator[Path]:
    """Every link on the way to a place, from the first folder on."""
    here, left = Path("/"), list(place.absolute().parts)
    for _ in range(MOST_NAMES):
        if not left:
            return
        name = left.pop(0)
        there = here.parent if name == ".." else here / name
        if there.is_symlink():
            yield there
            left = [*there.readlink().parts, *left]
        else:
            here = there


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _become(user: int, group: int) -> None:
    """The groups of the user first: afterwards nobody may change them."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        groups = [group]
    else:
        group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(user)


def _refuse_unusable(folder: Path, owner: str) -> None:
    """Much is imported when it is first needed, by then as this user."""
    for program in (os.__file__, __file__, msgspec.__file__):  # Python, this package, and what it needs
        if not os.access(program, os.R_OK):
            raise Misconfigured(
                f"{owner}, to whom {folder} belongs, cannot read {program}, which runs this: run the"
                " `receiver` that the service runs"
            )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise Misconfigured(
            f"{folder} belongs to {owner}, who cannot reach it from here: run this where the service runs"
            " (for systemd's DynamicUser by `systemd-run`, see deploy/README.md)"
        )
