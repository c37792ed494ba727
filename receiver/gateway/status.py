"""A task's status in its provider's own form, from the record; the provider is asked at its pace alone."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from receiver.asset_links import LinkMaker
from receiver.clock import Clock
from receiver.errors import ReceiverError, Unavailable
from receiver.gateway.answers import with_links
from receiver.ingest import Ingest, read_report
from receiver.links import is_inline
from receiver.models import (
    Asset,
    AssetState,
    Event,
    EventType,
    OrderFacts,
    Outcome,
    Progress,
    RemoteFile,
    ReportState,
    StatusView,
    TaskStanding,
)
from receiver.polling.answers import is_stand_in
from receiver.polling.status_client import StatusClient
from receiver.ports import OrderProvider, Store

MOST_REMEMBERED = 10_000  # tasks, with what their providers said of them last
LOST_SPACING = timedelta(hours=1)  # from one question about a task that was given up to the next
LOST_WORDS = "receiver: no result within the time in which a task counts as lost"


class StatusDesk:
    """Tells tasks. Of one that has not ended its provider is asked, seldom enough and once at a time."""

    def __init__(
        self,
        *,
        store: Store,
        providers: Mapping[str, OrderProvider],
        status_client: StatusClient,
        ingest: Ingest,
        links: LinkMaker,
        clock: Clock,
        gives_own_links: bool,
    ) -> None:
        self._store = store
        self._providers = providers
        self._status_client = status_client
        self._ingest = ingest
        self._links = links
        self._clock = clock
        self._gives_own_links = gives_own_links
        self._asked: dict[tuple[str, str], _Asked] = {}

    async def find(self, provider: str, task_id: str) -> TaskStanding | None:
        """A task as the record has it, but for a stand-in of ours for a document. Raises Unavailable."""
        standing = await self._store.get_standing(provider, task_id)
        if standing is None or standing.document is None or not is_stand_in(standing.document):
            return standing
        return msgspec.structs.replace(standing, document=None)

    def may_ask(self, standing: TaskStanding) -> bool:
        """Whether telling a task may take a question to its provider: until it ends, or after it was lost."""
        return standing.event is None or standing.event.error_code == Outcome.LOST

    async def document(self, standing: TaskStanding) -> bytes:
        """What its client is told. Raises Unavailable."""
        said = None
        if self.may_ask(standing):
            said, has_changed = await self._ask(standing)
            if has_changed:
                standing = await self.find(standing.submission.provider, _task_id(standing)) or standing
        if standing.event is None:
            return said or self._unended(standing)
        if standing.event.error_code == Outcome.LOST:
            # What the record has of its end are words of ours.
            return said or self._failed(standing, standing.event)
        return await self._ended(standing, standing.event)

    # --- asking ---------------------------------------------------------------------------------------

    async def _ask(self, standing: TaskStanding) -> tuple[bytes | None, bool]:
        """What the provider said last of a task, and whether the record may say more by now."""
        provider, task_id = standing.submission.provider, _task_id(standing)
        spacing = timedelta(seconds=self._providers[provider].facts.poll_spacing_seconds)
        memory = self._asked.get((provider, task_id))
        if memory is None:
            memory = _Asked(standing.submission.created_at + spacing)
            self._remember((provider, task_id), memory)
        if memory.question is None and self._is_due(provider, memory):
            is_lost = standing.event is not None
            memory.again_at = self._clock.now() + (LOST_SPACING if is_lost else spacing)
            memory.question = asyncio.create_task(self._question(memory, standing), name="status")
        has_changed = memory.question is not None and await asyncio.shield(memory.question)
        # Of a lost one only its end counts: that it runs was said before it was given up.
        is_told = standing.event is None or memory.is_end
        return memory.document if is_told else None, has_changed

    def _is_due(self, provider: str, memory: "_Asked") -> bool:
        return (
            not memory.is_end
            and self._clock.now() >= memory.again_at
            and self._status_client.can_ask(provider)
            and not self._status_client.turns_away(provider)
            and self._status_client.room(provider) > 0
        )

    async def _question(self, memory: "_Asked", standing: TaskStanding) -> bool:
        """Ask, and record an end that comes; whether one came."""
        provider, task_id = standing.submission.provider, _task_id(standing)
        try:
            key = standing.order.upstream_key if standing.order is not None else None
            answer = await self._status_client.ask(provider, task_id, standing.submission.model, key)
            if answer.outcome is Outcome.IN_PROGRESS:
                memory.document = None if is_stand_in(answer.body) else answer.body
            if answer.report is None or answer.outcome is Outcome.IN_PROGRESS:
                return False
            if standing.event is not None and answer.outcome is Outcome.ANSWERED:
                # Its end has been told; this one goes on record beside it, and callers get it as it came.
                memory.document, memory.is_end = None if is_stand_in(answer.body) else answer.body, True
            await self._ingest.accept_answer(provider, answer.report, answer.body, self._clock.now())
        except Unavailable:
            return False
        finally:
            memory.question = None
        return True

    def _remember(self, key: tuple[str, str], memory: "_Asked") -> None:
        self._asked[key] = memory
        if len(self._asked) > MOST_REMEMBERED:
            del self._asked[next(iter(self._asked))]

    # --- telling --------------------------------------------------------------------------------------

    def _unended(self, standing: TaskStanding) -> bytes:
        if standing.document is None:
            return self._rendered(standing, Progress.BOUND)
        is_status = standing.is_answer or self._facts(standing).callback_is_status
        return standing.document if is_status else self._rendered(standing, Progress.SUBMITTED)

    async def _ended(self, standing: TaskStanding, event: Event) -> bytes:
        has_ended_well = self._has_ended_well(standing, event)
        if event.type is None:
            return self._rendered(standing, Progress.FETCHING)
        # Files that stood in the document are left out of it once they are stored: there is our link or none.
        has_inline = any(map(is_inline, standing.links))
        gives_ours = self._gives_own_links or has_inline
        ours = await self._our_links(event) if gives_ours and has_ended_well else {}
        is_status = standing.is_answer or self._facts(standing).callback_is_status
        # Retention drops links of stored files.
        is_replaceable = not has_inline and all(standing.links[index] for index in ours)
        if standing.document is not None and standing.is_end and is_status and is_replaceable:
            theirs = {standing.links[index]: link for index, link in ours.items()}
            return with_links(standing.document, theirs)
        if not has_ended_well:
            return self._failed(standing, event)
        files = [
            RemoteFile(url=link, kind=asset.kind)
            for asset in event.assets
            for link in [ours.get(asset.index) or standing.links[asset.index]]
            if not is_inline(link)
        ]
        return self._rendered(standing, Progress.FINISHED, ended_at=event.received_at, files=tuple(files))

    def _has_ended_well(self, standing: TaskStanding, event: Event) -> bool:
        """Whether its provider delivered, whatever has become of the files here."""
        if event.assets or event.type is EventType.COMPLETED:
            return True
        if standing.document is None or not standing.is_end:
            return False
        try:
            report = read_report(self._providers[event.provider], standing.document)
        except ReceiverError:
            return False
        return report.state is ReportState.COMPLETED

    async def _our_links(self, event: Event) -> dict[int, str]:
        """A link of ours for each stored file, signed now; it ends in a file's name, which tells its type."""
        links = await self._links.links(event.provider, event.task_id, event.assets, self._clock.now())
        by_index = {asset.index: asset for asset in event.assets if asset.state is AssetState.STORED}
        return {index: _named(link, by_index[index]) for index, link in links.items()}

    def _failed(self, standing: TaskStanding, event: Event) -> bytes:
        is_lost = event.error_code == Outcome.LOST
        return self._rendered(
            standing,
            Progress.FAILED,
            ended_at=event.received_at,
            error_code="LOST" if is_lost else event.error_code,
            error_message=LOST_WORDS if is_lost else event.error_message,
        )

    def _rendered(
        self,
        standing: TaskStanding,
        progress: Progress,
        *,
        ended_at: datetime | None = None,
        files: tuple[RemoteFile, ...] = (),
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> bytes:
        view = StatusView(
            task_id=_task_id(standing),
            model=standing.submission.model,
            progress=progress,
            created_at=standing.submission.created_at,
            ended_at=ended_at,
            files=files,
            error_code=error_code,
            error_message=error_message,
        )
        return msgspec.json.encode(self._facts(standing).status(view))

    def _facts(self, standing: TaskStanding) -> OrderFacts:
        return self._providers[standing.submission.provider].orders


class _Asked:
    """What a provider was asked of one task: what it said last, and a question that is on its way."""

    question: "asyncio.Task[bool] | None" = None
    document: bytes | None = None
    is_end = False  # whether that is how a task ended which was given up before

    def __init__(self, again_at: datetime) -> None:
        self.again_at = again_at  # not before


def _task_id(standing: TaskStanding) -> str:
    assert standing.submission.task_id is not None, "it was found by its task"  # noqa: S101
    return standing.submission.task_id


def _named(link: str, asset: Asset) -> str:
    """A link of ours with the file's name at its path's end, where it ends in the file's number."""
    path, mark, query = link.partition("?")
    if asset.key is None or not path.endswith(f"/{asset.index}"):
        return link
    return f"{path}/{asset.index}.{asset.key.rpartition('.')[2]}{mark}{query}"
