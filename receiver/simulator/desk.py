"""One provider's API: checks who asks, reads what is asked, and answers in the provider's words."""

import asyncio
import hmac

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from receiver.simulator.directory import Door
from receiver.simulator.engine import Stage
from receiver.simulator.lost_answers import faulty
from receiver.simulator.model import (
    BROKEN,
    INVALID,
    NO_CREDIT,
    NO_KEY,
    NO_METHOD,
    NO_PATH,
    NOT_BEARER,
    NOT_FOUND,
    TOO_MANY,
    WRONG_KEY,
    Account,
    Dialect,
    KeyedDialect,
    Refusal,
    SimulatorOptions,
)
from receiver.simulator.requests import read_body
from receiver.simulator.signing import key_set_of
from receiver.simulator.throttle import Throttle
from receiver.simulator.uploads import WAYS, Uploads

# What a submission may ask to be refused with.
_REFUSALS = {400: INVALID, 402: NO_CREDIT, 429: TOO_MANY, 500: BROKEN, 503: BROKEN}


class TooMany(Refusal):
    """The question or submission is beyond the rate; ``wait_seconds`` is when to try again."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(429, TOO_MANY, f"Too many requests: try again in {wait_seconds} s.")
        self.wait_seconds = wait_seconds


class ProviderDesk:
    """Answers at the paths that the provider's documentation gives; elsewhere 404 and 405 in its form."""

    def __init__(self, dialect: Dialect, stage: Stage, options: SimulatorOptions, uploads: Uploads) -> None:
        self._dialect = dialect
        self._stage = stage
        self._uploads = uploads
        keys = options.keys.get(dialect.name, ())
        self._keys = (keys,) if isinstance(keys, str) else keys
        self._has_credit = dialect.name not in options.out_of_credit
        self._submissions = Throttle(options.submit_rate_limit)
        self._questions = Throttle(options.faults.rate_limit)

    @property
    def name(self) -> str:
        return self._dialect.name

    def doors(self) -> list[Door]:
        """Every path that the provider's documentation gives."""
        dialect = self._dialect
        submit = Door(method="POST", path=dialect.submit_path, answer=self.submit, words=dialect.path_words())
        questions = [Door(method="GET", path=path, answer=self.status) for path in dialect.status_paths]
        doors = [submit, *questions]
        if isinstance(dialect, KeyedDialect):
            doors.append(Door(method="GET", path=dialect.keys_path, answer=self.keys))
        if dialect.balance_path:
            doors.append(Door(method="GET", path=dialect.balance_path, answer=self.balance))
        if dialect.uploads:
            path = f"{dialect.uploads}/{{way}}"
            doors.append(Door(method="POST", path=path, answer=self.upload, words={"way": WAYS}))
        return doors

    def app(self) -> Starlette:
        """For the root of a host, or below a prefix."""
        routes = [door.route() for door in self.doors()]
        handlers = {HTTPException: self._no_route, ClientDisconnect: _half_sent}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    async def submit(self, request: Request) -> Response:
        """Take an order."""
        as_200 = False
        try:
            account = self._account_of(request)
            _pass(self._submissions)
            where = {**request.query_params, **request.path_params}
            order = self._dialect.read_order(read_body(await request.body()), where)
            as_200 = bool(order.simulate.error_in_200)
            if refused := order.simulate.refuse:
                raise TooMany(1) if refused == 429 else Refusal(refused, _REFUSALS[refused], "As you asked.")
            origin = f"{request.url.scheme}://{request.url.netloc}"
            task = self._stage.start(
                self._dialect, order, origin, account, request.headers.get("x-request-id")
            )
        except Refusal as problem:
            return self._refuse(problem, as_200=as_200)
        if order.simulate.call_before_answer:
            await task.called.wait()
        answer = JSONResponse(self._dialect.submitted(task.snapshot(self._stage.now())))
        await asyncio.sleep(order.simulate.late_answer)
        return faulty(order.simulate.answer, answer) if order.simulate.answer else answer

    async def status(self, request: Request) -> Response:
        """Say how a task stands."""
        try:
            account = self._account_of(request)
            _pass(self._questions)
        except Refusal as problem:
            return self._refuse(problem)
        if not self._has_credit:
            return self._refuse(Refusal(402, NO_CREDIT, "The balance of this account is used up."))
        asked = self._dialect.asked_for(request.path_params, request.query_params)
        task = self._stage.find(self.name, asked.task_id)
        # Where keys are known, a task is its account's; where the path names a model, or is for music alone,
        # it must be the task's own.
        if (
            task is None
            or (self._keys and task.account != account)
            or asked.model not in {None, task.order.model}
            or asked.music not in {None, task.order.music}
        ):
            return self._refuse(Refusal(404, NOT_FOUND, "There is no such task."))
        task.asked += 1
        if task.fate.error_in_200 and task.asked == 1:
            return self._refuse(Refusal(500, BROKEN, "Something went wrong: try again."), as_200=True)
        now = task.snapshot(self._stage.now())
        if asked.results and isinstance(self._dialect, KeyedDialect):
            status, results = self._dialect.results(now)
            return JSONResponse(results, status_code=status)
        return JSONResponse(self._dialect.status(now))

    async def keys(self, _: Request) -> Response:
        """Show its public keys."""
        return JSONResponse(key_set_of(self.name))

    async def balance(self, request: Request) -> Response:
        """Say what the account has."""
        try:
            account = self._account_of(request)
        except Refusal as problem:
            return self._refuse(problem)
        left = self._stage.accounts.shown(account) if self._has_credit else 0.0
        return JSONResponse(self._dialect.balance(left))

    async def upload(self, request: Request) -> Response:
        """Keep an image to work from."""
        try:
            self._account_of(request)
            _pass(self._uploads.rate)
            return JSONResponse(await self._uploads.take(request))
        except Refusal as problem:
            return self._refuse(problem)

    async def _no_route(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - for mypy
        title = NO_METHOD if error.status_code == 405 else NO_PATH
        answer = self._refuse(Refusal(error.status_code, title, f"{error.detail}."))
        answer.headers.update(error.headers or {})
        return answer

    def _account_of(self, request: Request) -> Account:
        """Whose request it is. Raises Refusal (401) for a key that is not known, where some are."""
        given = request.headers.get("authorization", "")
        scheme, _, key = given.partition(" ")
        account = Account(provider=self.name, key=key.strip() or None)
        if not self._keys:
            return account
        wanted = self._dialect.key_word if isinstance(self._dialect, KeyedDialect) else "Bearer"
        if not given:
            raise Refusal(401, NO_KEY, f"Send your key as Authorization: {wanted} KEY.")
        if scheme.lower() != wanted.lower():
            raise Refusal(401, NOT_BEARER, f"Send your key as Authorization: {wanted} KEY.")
        if not any(hmac.compare_digest(key.strip().encode(), each.encode()) for each in self._keys):
            raise Refusal(401, WRONG_KEY, "The key is not valid.")
        return account

    def _refuse(self, problem: Refusal, *, as_200: bool = False) -> Response:
        answer = JSONResponse(self._dialect.refusal(problem), status_code=200 if as_200 else problem.status)
        if isinstance(problem, TooMany):
            # As it is usually written: clients look for it by exact case. Starlette would write it small.
            answer.raw_headers.append((b"Retry-After", str(problem.wait_seconds).encode()))
        return answer


async def _half_sent(_: Request, _error: Exception) -> Response:
    """What came of an order whose sender left, or was killed, in the middle of it: nothing."""
    return Response(status_code=400)  # nobody is there to read it


def _pass(throttle: Throttle) -> None:
    if wait_seconds := throttle.wait_seconds():
        raise TooMany(wait_seconds)
