"""Rights: gives up root's, and gives others none to our files."""

import os
import pwd
from pathlib import Path

import msgspec

from receiver.errors import Misconfigured

MOST_NAMES = 4096  # on the way to a place: links that lead to each other end


def keep_from_others() -> None:
    """Make all files of this process its user's alone, whatever shell or host started it."""
    os.umask(0o077)


def become_owner(folder: Path) -> str | None:
    """If root runs this, become the owner of a folder for good; return that user's name.

    The service could not use files that root made in its folder, and a link planted there could make root
    change files anywhere. Does nothing (None) for other users, and for a folder that is root's or not there
    yet. Raises Misconfigured where root cannot become the owner, where that user could not run this, and
    where root would stay root in a place to which another user's link leads.
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
    return owner


def _refuse_others_links(folder: Path) -> None:
    """Refuse a way to a folder that leads over another user's link: it could lead root anywhere."""
    here, left = Path("/"), list(folder.absolute().parts)
    for _ in range(MOST_NAMES):
        if not left:
            return
        name = left.pop(0)
        there = here.parent if name == ".." else here / name
        if not there.is_symlink():
            here = there
            continue
        if owner := there.lstat().st_uid:
            raise Misconfigured(
                f"the way to {folder} is by {there}, a link of {_name_of(owner)}'s, which root does not"
                " follow: set RECEIVER_DATA_DIR to the folder itself"
            )
        left = [*there.readlink().parts, *left]


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
