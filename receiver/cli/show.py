"""`receiver show`: say what an id is, and show the task that it belongs to."""

from typing import Any

import click

from receiver.cli.client import Reply, Service, connect, segment
from receiver.cli.exit_codes import Refused, is_missing, nothing_found
from receiver.cli.output import as_json as json_option
from receiver.cli.output import print_json
from receiver.cli.replay import print_replay
from receiver.cli.tables import print_pairs, wide_option
from receiver.cli.tasks import print_list, print_task, task_path
from receiver.cli.terminal import say
from receiver.escapes import printable

# What our own ids begin with: the parameter of GET /tasks that finds by it, and what the id is of.
_KINDS = {
    "sub_": ("submission_id", "a submission"),
    "evt_": ("event_id", "an event"),
    "dlv_": ("delivery_id", "a delivery"),
    "out_": ("notification_id", "a notification"),
}
_LOOKED_FOR = "submission, event, delivery, notification, replay or task"


@click.command()
@click.argument("id_", metavar="ANY_ID")
@wide_option
@json_option
def show(*, id_: str, as_json: bool) -> None:
    """Say what an id is, and show its task as `receiver tasks show` does.

    ANY_ID may be of a submission (sub_...), an event (evt_..., also with .REVISION), a delivery (dlv_...), a
    notification (out_...), a replay (rpl_...), or a provider's id of a task, alone or as PROVIDER/TASK_ID.
    """
    with connect() as service:
        for look in (_by_our_id, _reservation, _replay, _by_subject, _by_task_id):
            if look(service, id_, as_json=as_json):
                return
    nothing_found(f"{_LOOKED_FOR} {printable(id_)}")


def _by_our_id(service: Service, id_: str, *, as_json: bool) -> bool:
    parameter, what = _KINDS.get(id_[:4], (None, ""))
    if parameter is None:
        return False
    return _print_found(
        service, service.get("/tasks", {parameter: id_}), f"{id_} is {what} of", as_json=as_json
    )


def _reservation(service: Service, id_: str, *, as_json: bool) -> bool:
    answer = _get(service, f"/submissions/{segment(id_)}") if id_.startswith("sub_") else None
    if answer is None:
        return False
    if as_json:
        print_json(answer)
        return True
    say(f"{printable(id_)} is a submission that no task is bound to.")
    print_pairs(list(answer.document.items()))
    return True


def _replay(service: Service, id_: str, *, as_json: bool) -> bool:
    answer = _get(service, f"/replays/{segment(id_)}") if id_.startswith("rpl_") else None
    if answer is None:
        return False
    if not as_json:
        say(f"{printable(id_)} is a replay.")
    print_replay(answer, as_json=as_json)
    return True


def _by_subject(service: Service, id_: str, *, as_json: bool) -> bool:
    """PROVIDER/TASK_ID, as events name a task."""
    provider, slash, task_id = id_.partition("/")
    answer = _get(service, task_path(provider, task_id)) if slash and provider and task_id else None
    if answer is None:
        return False
    _print_answer(answer, as_json=as_json)
    return True


def _by_task_id(service: Service, id_: str, *, as_json: bool) -> bool:
    return _print_found(
        service, service.get("/tasks", {"task_id": id_}), f"{id_} is the id of", as_json=as_json
    )


def _print_found(service: Service, found: Reply, said: str, *, as_json: bool) -> bool:
    """Print the only task of a list, or the list."""
    tasks: list[dict[str, Any]] = found.document["tasks"]
    if len(tasks) == 1:
        (task,) = tasks
        if not as_json:
            say(printable(f"{said} {task['provider']}/{task['task_id']}"))
        _print_answer(service.get(task_path(task["provider"], task["task_id"])), as_json=as_json)
    elif tasks:
        print_list(found, as_json=as_json)
        say("Several providers have a task of this id: receiver show PROVIDER/TASK_ID", err=True)
    return bool(tasks)


def _print_answer(answer: Reply, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_task(answer.document)


def _get(service: Service, path: str) -> Reply | None:
    try:
        return service.get(path)
    except Refused as refusal:
        if is_missing(refusal):
            return None
        raise
