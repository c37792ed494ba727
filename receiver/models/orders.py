"""Orders that pass through the gateway: what is known of a provider's, what is kept of one, how it ended."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from receiver.models.costs import Basis, CostState, Quote
from receiver.models.spending import BudgetPeriod, BudgetScope, Cost
from receiver.models.tasks import Event, RemoteFile, Submission

Place = tuple[str, ...]  # the keys that lead from the top of a document to a value


class OrderState(StrEnum):
    """Where an order stands; what each means for its price stands in the manual."""

    SENDING = "sending"  # recorded, and no answer is here yet
    BOUND = "bound"  # the provider took it, and its task is known
    REFUSED = "refused"  # the provider did not take it
    UNSENT = "unsent"  # nothing left for the provider
    UNKNOWN = "unknown"  # it left, and nobody knows whether the provider took it
    UNRESOLVED = "unresolved"  # unknown for so long that only a person can find out


class RefusalKind(StrEnum):
    """Why the gateway itself refuses a request; each provider has its own words and numbers for it."""

    NO_CREDENTIAL = "no_credential"
    NOT_BEARER = "not_bearer"
    WRONG_CREDENTIAL = "wrong_credential"
    NOT_ALLOWED = "not_allowed"
    INVALID = "invalid"
    NO_PROMPT = "no_prompt"
    COMPRESSED = "compressed"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    NOT_FOUND = "not_found"
    OVER_BUDGET = "over_budget"
    OTHER_BODY = "other_body"
    STILL_OPEN = "still_open"
    UNAVAILABLE = "unavailable"
    UNKNOWN_OUTCOME = "unknown_outcome"


REFUSAL_STATUSES: Mapping[RefusalKind, int] = {
    RefusalKind.NO_CREDENTIAL: 401,
    RefusalKind.NOT_BEARER: 401,
    RefusalKind.WRONG_CREDENTIAL: 401,
    RefusalKind.NOT_ALLOWED: 403,
    RefusalKind.INVALID: 400,
    RefusalKind.NO_PROMPT: 400,
    RefusalKind.COMPRESSED: 415,
    RefusalKind.TOO_LARGE: 413,
    RefusalKind.TOO_SLOW: 408,
    RefusalKind.NOT_FOUND: 404,
    RefusalKind.OVER_BUDGET: 402,
    RefusalKind.OTHER_BODY: 422,
    RefusalKind.STILL_OPEN: 409,
    RefusalKind.UNAVAILABLE: 503,
    RefusalKind.UNKNOWN_OUTCOME: 504,
}


class GatewayRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """One refusal of ours, to be said in a provider's own form; ``message`` begins with ``receiver:``."""

    kind: RefusalKind
    message: str
    request_id: str

    @property
    def status(self) -> int:
        return REFUSAL_STATUSES[self.kind]


class Progress(StrEnum):
    """Where a task stands, as far as a status document can say it."""

    BOUND = "bound"  # its provider has said nothing of it yet
    SUBMITTED = "submitted"  # its provider works on it
    FETCHING = "fetching"  # it ended well, and its files are still being stored
    FINISHED = "finished"
    FAILED = "failed"


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """What a status document of ours is rendered from, where the provider's own cannot be given."""

    task_id: str
    model: str | None
    progress: Progress
    created_at: datetime
    ended_at: datetime | None = None
    files: Sequence[RemoteFile] = ()
    error_code: str | None = None
    error_message: str | None = None


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A path of the provider's that is passed through and not recorded."""

    method: str
    path: str


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider takes orders, as data, and the documents of ours that its clients understand.

    In paths ``{task_id}`` is one segment, percent-encoded or not, and ``{model}`` any number of them; behind
    a ``?`` stands the parameter that holds the task.
    """

    order_paths: tuple[str, ...]  # POST
    status_paths: tuple[str, ...]  # GET
    passages: tuple[Passage, ...] = ()
    model_at: Place | None  # None: it is in the path
    has_callbacks: bool  # whether ``callback_url`` means anything to it
    sets: Mapping[str, str] = {}  # top fields that every order has with these values
    task_id_at: tuple[Place, ...]  # in its answer; the first that holds an id counts
    has_codes: bool  # whether a ``code`` that is neither 0 nor 200 is an error, whatever the HTTP status
    callback_is_status: bool  # whether its callbacks are documents such as its status answers
    refuse: Callable[[GatewayRefusal], object]
    submitted: Callable[[str, datetime], object]  # the answer to an order: its task id, and when it was taken
    status: Callable[[StatusView], object]


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an order before its first byte leaves."""

    submission: Submission
    credential: str  # a keyed hash of what the caller showed
    upstream_key: str  # a keyed hash of the provider's key that it goes out with
    guard: str | None  # of orders with the same one, none is sent while this one may count
    digest: str  # of the path and body as they came
    guard_since: datetime  # of those before, the guard has run out
    callback_url: str | None = None  # the caller's own
    relays: bool = False  # it is to be called once the task has ended
    lease_until: datetime  # when nobody can still be sending it
    quote: Quote | None = None  # what it may cost; None: nobody looked for a price
    token: str | None = None  # the name of the token that it was ordered with


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order as it was kept."""

    submission_id: str
    provider: str
    owner: str
    model: str | None
    state: OrderState
    task_id: str | None  # the submission's
    said_task_id: str | None  # the one that the provider's answer named
    credential: str
    upstream_key: str
    digest: str
    sent_at: datetime
    settled_at: datetime | None
    outcome: str | None  # why it is unknown or unsent
    status: int | None  # of the provider's answer
    media_type: str | None
    answer: bytes | None
    cost_state: CostState | None = None  # None: it is from before orders had costs
    micros: int | None = None
    credits: str | None = None
    basis: Basis | None = None
    as_of: str | None = None
    # The soft budgets that do not hold for it, by scope and period; known when it is reserved.
    exceeded: tuple[tuple[BudgetScope, BudgetPeriod], ...] = ()

    @property
    def cost(self) -> Cost | None:
        if self.cost_state is None:
            return None
        return Cost(
            micros=self.micros,
            credits=self.credits,
            state=self.cost_state,
            basis=self.basis,
            as_of=self.as_of,
        )

    @property
    def is_conflict(self) -> bool:
        """Whether callback and answer name two tasks."""
        return None not in {self.task_id, self.said_task_id} and self.task_id != self.said_task_id


class OrderEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How sending an order ended."""

    state: OrderState
    task_id: str | None = None
    outcome: str | None = None
    status: int | None = None
    media_type: str | None = None
    answer: bytes | None = None  # cut away where it is long
    is_heard: bool = False  # its caller gets the answer: an equal order after it is meant as another one


class OrderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders a list shows, the newest first."""

    provider: str | None = None
    owner: str | None = None
    state: OrderState | None = None
    since: datetime | None = None
    until: datetime | None = None


class OrderPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list of orders, the newest first, and where the next part begins."""

    orders: tuple[Order, ...]
    next_cursor: str | None


class RelayWork(msgspec.Struct, frozen=True, kw_only=True):
    """A callback URL of a caller's own that is to be told of its task's end."""

    submission_id: str
    provider: str
    task_id: str
    callback_url: str
    attempt: int
    ended_at: datetime


class TaskStanding(msgspec.Struct, frozen=True, kw_only=True):
    """All that a status document is made of, read at one moment."""

    submission: Submission
    order: Order | None  # None: it was logged by a backend
    event: Event | None
    links: Sequence[str]  # the provider's, of the event's files in their order
    document: bytes | None  # the provider's last word that was understood
    is_end: bool  # whether that document ended the task
    is_answer: bool  # whether it came as a status answer
