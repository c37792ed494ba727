"""A file that stands in a kept body as base64: found there, decoded and written, with no request.

It is held to the bytes and the time of a download. What goes wrong is a FetchFailed, as there.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from receiver import forms, payload
from receiver.errors import FetchFailed, Rejected
from receiver.fetching.download import (
    Downloaded,
    DownloadLimits,
    DownloadThreads,
    Take,
    check_bytes,
    spooling,
)
from receiver.models import Outcome

T = TypeVar("T")

Bodies = Callable[[str, str], Awaitable[Sequence[bytes]]]  # of a provider's task, as far as they are kept


async def unpack(
    bodies: Sequence[bytes],
    link: str,
    target: Path,
    limits: DownloadLimits,
    *,
    take: Take,
    look: Callable[[Path], T],
    threads: DownloadThreads,
) -> tuple[Downloaded, T]:
    """Write the file that an inline link names into the new file ``target``; see ``download``.

    Raises FetchFailed: GONE where no body has it any more.
    """
    async with spooling(target, limits, threads) as spool:
        data = await asyncio.to_thread(_decoded, bodies, link, limits)
        take(len(data))
        spool.hold(data)
        return await spool.finish(look)


def _decoded(bodies: Sequence[bytes], link: str, limits: DownloadLimits) -> bytes:
    for body in bodies:
        text = _found(body, link)
        if text is not None:
            plain = "".join(text.split())  # some wrap their lines
            check_bytes(len(plain) // 4 * 3 - plain.count("=", -2), limits)
            try:
                return base64.b64decode(plain, validate=True)
            except (binascii.Error, ValueError) as exc:
                raise FetchFailed(Outcome.NOT_AN_IMAGE, "its base64 is broken") from exc
    raise FetchFailed(Outcome.GONE, "it stood in a body that is not kept any more")


def _found(body: bytes, link: str) -> str | None:
    try:
        return payload.find_base64(forms.decode(body), link)
    except Rejected:  # one that was no document is kept, too
        return None
