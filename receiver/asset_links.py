"""Links to stored files, as consumers get them: through us, presigned by the asset store, or public ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from receiver.clock import Clock
from receiver.models import AnnouncedAsset, Asset, AssetState
from receiver.ports import SigningBlobs
from receiver.tokens import Tokens
from receiver.urls import asset_url


class LinkMaker(Protocol):
    """Makes the links of one task's files."""

    async def links(
        self, provider: str, task_id: str, assets: Sequence[Asset | AnnouncedAsset], made_at: datetime
    ) -> Mapping[int, str]:
        """The link of every stored file, by its index, for what was made at ``made_at``.

        Raises Unavailable where the asset store cannot sign now.
        """


class SignedLinks:
    """Links through us that die ``life_seconds`` after the notification was made.

    One that is sent late, to a sink that was stopped for long, still has half of that life before it: it is
    signed anew whenever half a life has passed, so that a retry names the same link as the try before it.
    """

    def __init__(self, tokens: Tokens, public_url: str, *, life_seconds: float, clock: Clock) -> None:
        self._tokens = tokens
        self._root = public_url.rstrip("/")
        self._life_seconds = life_seconds
        self._clock = clock

    async def links(
        self, provider: str, task_id: str, assets: Sequence[Asset | AnnouncedAsset], made_at: datetime
    ) -> Mapping[int, str]:
        half_life = self._life_seconds / 2
        halves_gone = max(0, (self._clock.now() - made_at).total_seconds() // half_life)
        expires = int(made_at.timestamp() + self._life_seconds + halves_gone * half_life)
        return {
            asset.index: f"{asset_url(self._root, provider, task_id, asset.index)}?expires={expires}"
            f"&signature={self._tokens.sign_link(provider, task_id, asset.index, expires)}"
            for asset in _stored(assets)
        }


class PresignedLinks:
    """Links that the asset store itself serves, signed anew each time that they are told."""

    def __init__(self, blobs: SigningBlobs, *, life_seconds: float) -> None:
        self._blobs = blobs
        self._life_seconds = life_seconds

    async def links(
        self,
        provider: str,  # noqa: ARG002 - a key names the file
        task_id: str,  # noqa: ARG002
        assets: Sequence[Asset | AnnouncedAsset],
        made_at: datetime,  # noqa: ARG002 - the store counts from now
    ) -> Mapping[int, str]:
        stored = _stored(assets)
        links = await self._blobs.sign([asset.key or "" for asset in stored], self._life_seconds)
        return dict(zip((asset.index for asset in stored), links, strict=True))


class PublicLinks:
    """Links that anybody may follow for ever, under the address where the asset store's keys are served."""

    def __init__(self, base_url: str) -> None:
        self._root = base_url.rstrip("/")

    async def links(
        self,
        provider: str,  # noqa: ARG002 - a key names the file
        task_id: str,  # noqa: ARG002
        assets: Sequence[Asset | AnnouncedAsset],
        made_at: datetime,  # noqa: ARG002 - they do not die
    ) -> Mapping[int, str]:
        return {
            asset.index: f"{self._root}/{quote(asset.key or '', safe='/!~')}" for asset in _stored(assets)
        }


def _stored(assets: Sequence[Asset | AnnouncedAsset]) -> list[Asset | AnnouncedAsset]:
    return [asset for asset in assets if asset.state is AssetState.STORED]
