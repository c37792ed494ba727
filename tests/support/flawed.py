"""The real parts, each with one plausible mistake: what the suite has to catch.

A flawed record is one on either engine: ``type(name, (Flawed, SqliteStore), {})``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from receiver.blobs.local import LocalBlobs
from receiver.ingest import Admission, Ingest, read_report
from receiver.models import (
    NO_LOAD,
    AssetWork,
    AuditEntry,
    FetchLoad,
    OutboxWork,
    Outcome,
    Proof,
    Receipt,
    Recording,
    ReportState,
    Settlement,
    Submission,
    Verdict,
)
from receiver.options import never
from receiver.record import assets, outbox, submissions
from receiver.record.cursor import Cursor
from receiver.record.store import RecordStore
from receiver.record.tasks import Submissions
from receiver.relay import Relay
from receiver.tokens import TokenClaim
from tests.support.one_by_one import record_one

FAR = datetime.fromisoformat("9999-01-01T00:00:00+00:00")
ENDS = frozenset({ReportState.COMPLETED, ReportState.FAILED})


class ChecksThenInserts(RecordStore):
    """Looks for the event in one transaction and writes it in another."""

    async def record(self, record: Recording) -> Receipt:
        if record.report.state in ENDS and await self._writer.write(lambda c: event_of(c, record)) is None:
            return await self._writer.write(lambda c: self._insert(c, record))
        return await super().record(record)

    def _insert(self, db: Cursor, record: Recording) -> Receipt:
        forget(db, record)  # INSERT OR REPLACE, so that the key does not get in the way
        return record_one(db, record, self._options)


class AnswersBeforeCommit(RecordStore):
    """Knows what it will write, says so, and writes it a moment later."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._later: set[asyncio.Task[Receipt]] = set()

    async def record(self, record: Recording) -> Receipt:
        receipt = await self._writer.write(lambda c: self._rehearse(c, record))
        self._later.add(asyncio.create_task(super().record(record)))
        return receipt

    def _rehearse(self, db: Cursor, record: Recording) -> Receipt:
        db.execute("SAVEPOINT rehearsal")
        try:
            return record_one(db, record, self._options)
        finally:
            db.execute("ROLLBACK TO rehearsal")
            db.execute("RELEASE rehearsal")

    async def aclose(self) -> None:
        await asyncio.gather(*self._later)
        await super().aclose()


class DedupesInMemory(RecordStore):
    """Knows a repeat by what this process has seen."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seen: set[tuple[str, str | None, bool]] = set()

    async def record(self, record: Recording) -> Receipt:
        key = (record.provider, record.report.task_id, record.report.state in ENDS)
        is_new = key not in self._seen and record.report.state in ENDS
        self._seen.add(key)
        return await self._writer.write(lambda c: self._record(c, record, is_new=is_new))

    def _record(self, db: Cursor, record: Recording, *, is_new: bool) -> Receipt:
        if is_new:
            forget(db, record)
        return record_one(db, record, self._options)


class LetsTheLastEndWin(RecordStore):
    """Takes a later terminal state for the better one."""

    async def record(self, record: Recording) -> Receipt:
        return await self._writer.write(lambda c: self._overwrite(c, record))

    def _overwrite(self, db: Cursor, record: Recording) -> Receipt:
        known = event_of(db, record)
        if known is not None and known != record.fingerprint and record.report.state in ENDS:
            forget(db, record)
        return record_one(db, record, self._options)


class TrustsWhatIsHeld(RecordStore):
    """Takes a callback that must be confirmed for one that was."""

    async def record(self, record: Recording) -> Receipt:
        trusting = msgspec.structs.replace(self._options, confirms=never)
        return await self._writer.write(lambda c: record_one(c, record, trusting))


class ForgetsWhatWasEarly(RecordStore):
    """Logs and binds submissions without a look at the callbacks that came before."""

    async def log_submission(self, submission: Submission) -> tuple[Submission, bool]:
        def log(db: Cursor) -> tuple[Submission, bool]:
            hide_early(db)
            row = submissions.log_submission(db, submission, self._options)
            show_early(db)
            return row

        return await self._writer.write(log)

    async def bind_submission(
        self, submission_id: str, task_id: str, now: datetime, audit: AuditEntry | None = None
    ) -> Submission:
        def bind(db: Cursor) -> Submission:
            hide_early(db)
            row = submissions.bind_submission(db, submission_id, task_id, now, self._options, audit)
            show_early(db)
            return row

        return await self._writer.write(bind)


class SettlesWithoutLooking(RecordStore):
    """Takes whoever settles for whoever holds the lease."""

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        def settle(db: Cursor) -> bool:
            db.execute(
                "UPDATE assets SET lease = ? WHERE position = ? AND event ="
                " (SELECT number FROM submissions WHERE provider = ? AND task_id = ?)",
                (work.lease, work.index, work.provider, work.task_id),
            )
            return assets.settle_assets(db, [(work, settlement)], self._options.routes)[0]

        return await self._writer.write(settle)

    async def settle_outbox_batch(
        self, ended: Sequence[tuple[OutboxWork, Settlement]]
    ) -> list[bool | Exception]:
        def settle(db: Cursor) -> list[bool | Exception]:
            for work, _ in ended:
                db.execute("UPDATE outbox SET lease = ? WHERE number = ?", (work.lease, work.number))
            return [*outbox.settle_entries(db, ended)]

        return await self._writer.write(settle)


class LeasesForEver(RecordStore):
    """Leaves what a dead worker held to the dead worker."""

    async def lease_assets(
        self,
        now: datetime,
        lease_until: datetime,
        limit: int,
        *,
        retries_first: bool = False,
        load: FetchLoad = NO_LOAD,
    ) -> list[AssetWork]:
        return await super().lease_assets(now, FAR, limit, retries_first=retries_first, load=load)

    async def lease_outbox(
        self, sink: str, now: datetime, lease_until: datetime, limit: int, *, newest_first: bool = False
    ) -> list[OutboxWork]:
        return await super().lease_outbox(sink, now, FAR, limit, newest_first=newest_first)


class AddressesAfterwards(RecordStore):
    """Ends the event in one transaction and writes its outbox entries in the next."""

    async def record(self, record: Recording) -> Receipt:
        options = msgspec.structs.replace(self._options, routes=())
        receipt = await self._writer.write(lambda c: record_one(c, record, options))
        await self._writer.write(self._address)
        return receipt

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        (settled,) = await self._writer.write(lambda c: assets.settle_assets(c, [(work, settlement)], ()))
        await self._writer.write(self._address)
        return settled

    def _address(self, db: Cursor) -> None:
        ended = db.execute(
            "SELECT e.number, e.type, e.revision, e.ended_at, s.provider, s.owner"
            " FROM events e JOIN submissions s USING (number) WHERE e.type IS NOT NULL"
        ).fetchall()
        for number, type_, revision, moment, provider, owner in ended:
            for route in self._options.routes:
                if route.wants(provider, type_, owner):
                    db.execute(outbox.INSERT_OUTBOX, (number, route.sink, revision, moment, moment, None))


class VerifiesAfterRecording(Ingest):
    """Reads and records first, and looks at the proof when nothing else is left to do."""

    def authorize(self, provider: str, token: str | None) -> Admission:
        claim = TokenClaim(proof=Proof.PROVIDER)
        return Admission(provider=provider, token=token, claim=claim, is_signed=False)

    async def accept(
        self, admission: Admission, *, body: bytes, headers: Mapping[str, str], received_at: datetime
    ) -> tuple[Receipt, Proof]:
        accepted = await super().accept(admission, body=body, headers=headers, received_at=received_at)
        super().authorize(admission.provider, admission.token)
        return accepted


class AnswersBeforeRecording(Ingest):
    """Leaves the record to a task of its own, so that the answer is quick."""

    async def accept(
        self, admission: Admission, *, body: bytes, headers: Mapping[str, str], received_at: datetime
    ) -> tuple[Receipt, Proof]:
        report = read_report(self._providers[admission.provider], body)
        later = super().accept(admission, body=body, headers=headers, received_at=received_at)
        self._later = asyncio.create_task(later)
        return Receipt(status=Verdict.ACCEPTED, task_id=report.task_id), Proof.PROVIDER


class SettlesBeforePublishing(Relay):
    """Marks an entry as delivered, and then delivers it."""

    async def run(self, works: Sequence[OutboxWork]) -> list[Settlement]:
        now = self._clock.now()
        settlement = Settlement(outcome=Outcome.DELIVERED, started_at=now, settled_at=now)
        await self._store.settle_outbox_batch([(work, settlement) for work in works])
        await super().run(works)
        return [settlement] * len(works)


class WritesInPlace(LocalBlobs):
    """Writes a file under its own name, byte after byte."""

    async def put(self, key: str, source: Path, media_type: str) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in (source.read_bytes()[:half] for half in (1000, None)):
                file.seek(0)
                file.write(part)
                file.flush()
                await asyncio.sleep(0.001)
        source.unlink()


def event_of(db: Cursor, record: Recording) -> str | None:
    """The fingerprint of the end that the task of a delivery has."""
    row = Submissions(db).of_task(record.provider, record.report.task_id)
    return row.fingerprint if row else None


def forget(db: Cursor, record: Recording) -> None:
    """Take back the event of a delivery's task, with all that hangs on it."""
    row = Submissions(db).of_task(record.provider, record.report.task_id)
    if row is None:
        return
    for table in ("outbox", "attempts", "assets", "links"):
        db.execute(f"DELETE FROM {table} WHERE event = ?", (row.number,))
    db.execute("DELETE FROM failures WHERE number = ?", (row.number,))
    db.execute("DELETE FROM events WHERE number = ?", (row.number,))


def hide_early(db: Cursor) -> None:
    db.execute("UPDATE deliveries SET verdict = 'hidden' WHERE verdict = 'early'")


def show_early(db: Cursor) -> None:
    db.execute("UPDATE deliveries SET verdict = 'early' WHERE verdict = 'hidden'")
