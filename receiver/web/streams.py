"""The files that are being sent: how many at once, and whose reader gives way to another."""

import time
from collections.abc import Callable, Iterator

from receiver.errors import Unavailable

MOST_STREAMS = 256
STUCK_SECONDS = 1.0  # before a reader that takes nothing gives way to another reader

Leave = Callable[[], None]


class Stream:
    """One reader of one file: from before the file is opened until it is closed."""

    __slots__ = ("_streams", "leave", "moved_at", "shares")

    def __init__(self, streams: "Streams", shares: tuple[str, ...], leave: Leave | None) -> None:
        self._streams = streams
        self.shares = shares
        self.leave = leave
        self.moved_at = time.monotonic()

    def join(self, share: str, most: int) -> None:
        """Count it in one more share, where its file was found to be somebody's. Raises Unavailable."""
        self._streams.make_room(share, most)
        self.shares += (share,)

    def moved(self) -> None:
        """Note that its reader has taken what was there."""
        self.moved_at = time.monotonic()
        self._streams.put_last(self)

    def close(self) -> None:
        self._streams.remove(self)


class Streams:
    """Every file that is being sent, from the one whose reader has taken nothing for longest on.

    A share, of one file, one token or one owner, has half of the places at most: whoever has links or a token
    keeps out nobody else's readers.
    """

    def __init__(self, *, most: int = MOST_STREAMS, stuck_seconds: float = STUCK_SECONDS) -> None:
        self.most = most
        self.stuck_seconds = stuck_seconds
        self._open: dict[Stream, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, *shares: str, most: int, leave: Leave | None) -> Stream:
        """A place for one more, to be closed in the end.

        ``leave`` closes its connection, where that can be done. Raises Unavailable where there are ``most``,
        or half as many of one of its shares, and every reader of these takes something.
        """
        for share in shares:
            self.make_room(share, most)
        if len(self._open) >= most:
            self._make_place(iter(self._open))
        stream = Stream(self, shares, leave)
        self._open[stream] = None
        return stream

    def make_room(self, share: str, most: int) -> None:
        """See that a share of ``most`` places has one for one more. Raises Unavailable."""
        same = [each for each in self._open if share in each.shares]
        if len(same) >= max(1, most // 2):
            self._make_place(iter(same))

    def put_last(self, stream: Stream) -> None:
        if stream in self._open:  # else it gave way, and is about to be closed
            self._open[stream] = self._open.pop(stream)

    def remove(self, stream: Stream) -> None:
        self._open.pop(stream, None)

    def _make_place(self, streams: Iterator[Stream]) -> None:
        longest = next(streams)
        if longest.leave is None or longest.moved_at + self.stuck_seconds > time.monotonic():
            raise Unavailable("too many files are being sent", retry_after_seconds=1)
        self.remove(longest)
        longest.leave()


STREAMS = Streams()  # one process has one limit of descriptors
