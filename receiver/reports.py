"""A body becomes a Report: read by an adapter, believed within bounds, compared by its fingerprint."""

import hashlib
from datetime import datetime, timedelta

import msgspec

from receiver import payload
from receiver.links import link_name
from receiver.models import MAX_URL_LENGTH, Report, ReportState
from receiver.ports import Provider

# A longer link is followed by nobody. It is kept so far as to be too long still, and no further.
MOST_LINK_CHARS = MAX_URL_LENGTH + 1


def read_report(provider: Provider, body: bytes) -> Report:
    """What a body says. Raises Rejected (400) when it is not JSON at all.

    An adapter may be anybody's code: what makes one crash is kept raw until it is mended.
    """
    document = payload.decode(body)
    try:
        report = provider.parse(document)
        if len(report.files) > payload.MOST_FILES:
            note = f"names more than {payload.MOST_FILES} files"
            return msgspec.structs.replace(report, state=ReportState.UNCLEAR, files=(), note=note)
        if any(len(file.url) > MOST_LINK_CHARS for file in report.files):
            files = [msgspec.structs.replace(file, url=file.url[:MOST_LINK_CHARS]) for file in report.files]
            report = msgspec.structs.replace(report, files=tuple(files))
    except Exception as exc:  # noqa: BLE001 - the sender is authentic, and the bug is ours
        # Only the type: what it says may be the body it choked on.
        note = f"the adapter crashed: {type(exc).__name__}"
        return Report(task_id=None, state=ReportState.UNCLEAR, note=note)
    return report


def fingerprint(report: Report) -> str:
    """Equal for two reports that mean the same end of a task.

    The query of a link is left out: providers sign the same file anew for every answer. So are the
    order of the files and the words of a failure.
    """
    files = sorted([link_name(file.url) for file in report.files])
    return hashlib.sha256(msgspec.json.encode([report.state, files])).hexdigest()[:32]


def links_die_at(provider: Provider, received_at: datetime) -> datetime:
    """Until when the files of a result can be had."""
    return received_at + timedelta(0, provider.facts.link_life_seconds)
