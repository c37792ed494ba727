"""A provider's pace over several processes: what each must know of the questions that others ask.

One process at a time polls a provider. New links are asked for by whichever process fetches the file: these
questions take their turns one after the other over all processes, the one that polls counts them, and where
one has been told to wait, all do.
"""

from collections import Counter
from collections.abc import Mapping

from receiver.models import Lane, poll_lane
from receiver.polling.status_client import StatusClient
from receiver.ports import SharedRecord


class SharedTurns:
    """One process's side of it."""

    def __init__(self, record: SharedRecord, status_client: StatusClient) -> None:
        self._record = record
        self._status_client = status_client
        self._polled = {poll_lane(provider): provider for provider in status_client.providers()}
        self._seen: Mapping[str, int] = {}  # on the lanes that this process has
        self._own: Counter[str] = Counter()  # turns that are among those that will be seen

    async def take(self, provider: str) -> bool:
        """Take the next turn for a question out of turn, if it has come. Raises Unavailable."""
        lane = poll_lane(provider)
        gap = self._status_client.gap_out_of_turn(provider).total_seconds()
        is_taken = await self._record.take_turn(lane, gap)
        self._own[lane] += is_taken
        return is_taken

    async def close(self, provider: str) -> None:
        """Tell the others how long this process waits before it asks again. Raises Unavailable."""
        seconds = self._status_client.closed_seconds(provider)
        if seconds > 0:
            await self._record.close_lane(poll_lane(provider), seconds)

    def closed_seconds(self, lane: str) -> float:
        """For how long nobody should ask on a lane."""
        provider = self._polled.get(lane)
        return 0.0 if provider is None else self._status_client.closed_seconds(provider)

    def learn(self, lanes: Mapping[str, Lane]) -> None:
        """Count what others asked since, and wait where they were told to."""
        before, own = self._seen, self._own
        self._seen, self._own = {name: lane.turns for name, lane in lanes.items()}, Counter()
        for name in lanes.keys() & self._polled.keys():
            turns = lanes[name].turns
            asked = turns - before.get(name, turns) - own[name]
            self._status_client.count_others(self._polled[name], max(asked, 0), lanes[name].closed_seconds)
