"""Who is on a page: tokens and one-time codes become sessions, and cookies lead back to them.

A cookie is ``id.expires.HMAC`` and a code likewise, so that a forged one costs no look at the record. There
only hashes are kept.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from receiver.clock import Clock
from receiver.config.bearer import parse_bearer
from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.models import Act, Actor, Door, PageRole, Session, audit_entry
from receiver.ports import Store
from receiver.tokens import Tokens

SESSION = timedelta(hours=12)
IDLE = timedelta(minutes=60)
SEEN_EVERY = timedelta(minutes=1)
MOST_SESSIONS = 20  # of a token
REMEMBERED = timedelta(minutes=10)  # without the record, for whoever was just looking
MOST_REMEMBERED = 500
CODE_SECONDS = 60
MOST_NAME_CHARACTERS = 64

WINDOW = timedelta(minutes=1)
MOST_WRONG_OF_A_PEER = 10  # in a window; of all peers together:
MOST_WRONG = 60


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever has one of the tokens that open pages."""

    role: PageRole
    name: str  # for logs: the role, and the token's name, or where its hash begins
    mark: str  # what the record has of the token


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose cookie led to a session."""

    secret: str  # the session's id as the cookie has it
    session: Session
    name: str
    is_remembered: bool = False  # the record is away, and had it a while ago

    @property
    def role(self) -> PageRole:
        return self.session.role

    def __repr__(self) -> str:
        return f"Visitor(name={self.name!r})"


class LogIns:
    """Opens sessions and finds them."""

    def __init__(self, settings: Settings, tokens: Tokens, store: Store, clock: Clock) -> None:
        self._tokens = tokens
        self._store = store
        self._clock = clock
        self._people: list[tuple[bytes, Person]] = []
        self._by_mark: dict[str, Person] = {}
        roles = ((PageRole.VIEWER, settings.viewer_tokens), (PageRole.ADMIN, settings.admin_tokens))
        for role, texts in roles:
            self._know(role, texts)
        self._remembered: dict[str, tuple[datetime, Session]] = {}  # as they were read, the latest last
        self.wrong = WrongTokens(clock)

    def _know(self, role: PageRole, texts: Iterable[str]) -> None:
        for text in texts:
            bearer = parse_bearer(text)
            digest = hashlib.sha256(bearer.token.encode()).digest()
            marks = self._tokens.name_bearer(bearer.token)
            person = Person(role=role, name=f"{role} {bearer.name or digest.hex()[:8]}", mark=marks[0])
            self._people.append((digest, person))
            self._by_mark |= dict.fromkeys(marks, person)

    def recognise(self, token: str) -> Person | None:
        """Whose token this is. Every one is compared, so that the time tells nothing about them."""
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).digest()
        matches = [person for known, person in self._people if hmac.compare_digest(given, known)]
        return matches[-1] if matches else None

    def name_of(self, session: Session) -> str | None:
        """Who opened a session; None where its token is not in the settings any more."""
        person = self._by_mark.get(session.token)
        return person.name if person and person.role is session.role else None

    async def open_session(self, person: Person, said_name: str) -> tuple[str, int]:
        """A new session: the value of its cookie, and how many seconds it is good for. Raises Unavailable."""
        now = self._clock.now()
        secret, expires_at = secrets.token_urlsafe(16), now + SESSION
        session = Session(
            id=_hashed(secret),
            role=person.role,
            token=person.mark,
            said_name=" ".join(said_name.split())[:MOST_NAME_CHARACTERS],
            created_at=now,
            seen_at=now,
            expires_at=expires_at,
        )
        actor = Actor(who=person.name, role=person.role, door=Door.PAGE, said_name=session.said_name)
        await self._store.open_session(session, MOST_SESSIONS, audit_entry(Act.LOGGED_IN, actor, now))
        return self._signed("session", secret, expires_at), int(SESSION.total_seconds())

    async def find(
        self, cookie: str | None, *, is_there: bool = True, is_to_look: bool = True
    ) -> Visitor | None:
        """The session that a cookie leads to, if it is not over. Raises Unavailable.

        ``is_there``: a person asked, and no page by itself. While the record is away, whoever is there only
        ``is_to_look`` and was seen a few minutes ago stays in: that is when the overview is wanted most.
        """
        now = self._clock.now()
        secret = self._opened("session", cookie, now)
        if secret is None:
            return None
        session_id, is_remembered = _hashed(secret), False
        try:
            session = await self._store.pages.get_session(session_id)
        except Unavailable:
            at, session = self._remembered.get(session_id, (now, None))
            if session is None or not is_to_look or now - at >= REMEMBERED:
                raise
            is_remembered = True
        else:
            self._remember(session_id, session, now)
        if session is None:
            return None
        name = self.name_of(session)
        if name is None or now >= min(session.expires_at, session.seen_at + IDLE):
            return None
        if is_there and not is_remembered and now - session.seen_at >= SEEN_EVERY:
            with suppress(Unavailable):  # a disk that is full keeps nobody from looking
                await self._store.note_seen(session.id, now)
        return Visitor(secret=secret, session=session, name=name, is_remembered=is_remembered)

    def _remember(self, session_id: str, session: Session | None, now: datetime) -> None:
        self._remembered.pop(session_id, None)
        if session is not None:
            self._remembered[session_id] = now, session
        while len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    async def make_code(self, person: Person, actor: Actor) -> tuple[str, datetime]:
        """A code that opens one session for whoever has this token, and when it dies. Raises Unavailable."""
        now = self._clock.now()
        secret, expires_at = secrets.token_urlsafe(16), now + timedelta(seconds=CODE_SECONDS)
        entry = audit_entry(Act.LOGIN_LINK_MADE, actor, now)
        await self._store.keep_code(_hashed(secret), person.mark, expires_at, now, entry)
        return self._signed("code", secret, expires_at), expires_at

    async def use_code(self, code: str) -> Person | None:
        """Who made a code, once; None afterwards, and for one that is over or none. Raises Unavailable."""
        now = self._clock.now()
        secret = self._opened("code", code, now)
        mark = await self._store.use_code(_hashed(secret), now) if secret else None
        return self._by_mark.get(mark) if mark else None

    async def note_failed(self, now: datetime) -> None:
        """Count a log-in that failed, those of an hour in one entry; whoever calls bounds how many."""
        stranger = Actor(who="stranger", role="stranger", door=Door.PAGE)
        key = f"{Act.LOGIN_FAILED} {now:%Y-%m-%dT%H}"
        with suppress(Unavailable):  # whoever tries learns nothing of that
            await self._store.count_act(audit_entry(Act.LOGIN_FAILED, stranger, now, done=1, key=key))

    def _signed(self, kind: str, secret: str, expires_at: datetime) -> str:
        expires = int(expires_at.timestamp())
        return f"{secret}.{expires}.{self._tokens.sign_ticket(kind, secret, expires)}"

    def _opened(self, kind: str, text: str | None, now: datetime) -> str | None:
        """What a cookie or code of ours holds, if it can still be good."""
        secret, _, rest = (text or "").partition(".")
        expires, _, signature = rest.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return None
        is_ours = self._tokens.check_ticket(kind, secret, int(expires), signature)
        return secret if is_ours and now.timestamp() < int(expires) else None


class WrongTokens:
    """Counts log-ins that failed in the last minute, by who tried, and says when to come again.

    It holds no more than ``MOST_WRONG``: with as many, nobody's token is compared. Behind a proxy all peers
    are one, so strangers can shut the form; codes are made elsewhere and are not counted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: deque[tuple[timedelta, str]] = deque()

    def wait_seconds(self, peer: str) -> int:
        """How long this peer has to wait before a token is compared; 0 where it need not."""
        now = self._clock.uptime()
        while self._tries and self._tries[0][0] <= now - WINDOW:
            self._tries.popleft()
        mine = [at for at, who in self._tries if who == _network(peer)]
        ends = []
        if len(self._tries) >= MOST_WRONG:
            ends.append(self._tries[0][0] + WINDOW)
        if len(mine) >= MOST_WRONG_OF_A_PEER:
            ends.append(mine[0] + WINDOW)
        return max((int((end - now).total_seconds()) + 1 for end in ends), default=0)

    def note(self, peer: str) -> None:
        """One more was wrong."""
        self._tries.append((self._clock.uptime(), _network(peer)))


def _network(peer: str) -> str:
    """Whoever has one IPv6 address has the 64 bits of its network to choose from."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if address.version == 4:
        return peer
    return str(ipaddress.ip_network((address, 64), strict=False))


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
