"""Who orders through the gateway, with which key it goes on, and for whom."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import msgspec

from receiver.config.bearer import acts_for
from receiver.config.settings import Settings
from receiver.gateway.tokens import TokenBook
from receiver.models import TOKEN_MARK, GatewayKeys, ProviderFacts, RefusalKind
from receiver.tokens import Tokens
from receiver.web.auth import Guard, Role

MAX_OWNER_CHARACTERS = 200


class Refused(Exception):
    """A request that the gateway refuses; the words are for its caller."""

    def __init__(self, kind: RefusalKind, words: str) -> None:
        super().__init__(words)
        self.kind = kind


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """A caller that was let in. ``credential`` is the same for all who may see what one of them ordered."""

    credential: str
    key: tuple[str, str]  # the header that goes to the provider
    key_hash: str
    who: str  # for the log
    token: str | None  # the name of the token that was shown; None: it was the provider's own key
    owners: tuple[str, ...] = ()  # whom it may act for; none: everybody
    models: tuple[str, ...] = ()  # which it may order from; none: every one
    is_scoped: bool = False  # it sees what it ordered, and nothing that others logged

    def __repr__(self) -> str:
        return f"Access(who={self.who!r})"  # so that no log and no traceback shows the key


class AccessGuard:
    """Lets callers in by what they show: the provider's own key, or a token of ours that stands for it."""

    def __init__(self, settings: Settings, tokens: Tokens, book: TokenBook) -> None:
        self._settings = settings
        self._tokens = tokens
        self._book = book
        self._guard = Guard(settings.api_tokens, settings.admin_tokens)
        # By provider, each of its keys that is set here, as a hash, and what whoever shows it may do.
        self._own_keys: dict[str, list[tuple[bytes, Access]]] = {}

    async def admit(self, facts: ProviderFacts, authorizations: Sequence[str]) -> Access:
        """Raises Refused, and Unavailable where a token cannot be looked up."""
        if len(authorizations) > 1:
            raise Refused(RefusalKind.INVALID, "there are two Authorization headers")
        if not authorizations:
            raise Refused(RefusalKind.NO_CREDENTIAL, "send Authorization: Bearer and what you were given")
        scheme, _, shown = authorizations[0].partition(" ")
        shown = shown.strip()
        if scheme.lower() != "bearer" or not shown:
            raise Refused(RefusalKind.NOT_BEARER, "the Authorization header must begin with Bearer")
        if self._settings.gateway_keys is GatewayKeys.PASS:
            return self._with_own_key(facts, shown)
        if shown.startswith(TOKEN_MARK):
            return await self._with_gateway_token(facts, shown)
        return self._with_api_token(facts, authorizations[0])

    def _with_own_key(self, facts: ProviderFacts, shown: str) -> Access:
        """Only a key that tasks are asked about with: any other would be an open relay."""
        given = _hash(shown)
        known = self._own_keys.get(facts.name)
        if known is None:
            keys = self._settings.providers[facts.name].api_keys
            known = self._own_keys[facts.name] = [(_hash(key), self._of_own_key(facts, key)) for key in keys]
        # Every one is compared, whichever matches, so that the time tells nothing about them.
        matches = [access for hashed, access in known if hmac.compare_digest(given, hashed)]
        if not matches:
            raise Refused(RefusalKind.WRONG_CREDENTIAL, "this key is not one that is set here")
        return matches[0]

    def _of_own_key(self, facts: ProviderFacts, key: str) -> Access:
        return Access(
            credential=_credential("key", facts.name, _hash(key).hex()),
            key=(facts.key_header, f"{facts.key_prefix}{key}"),
            key_hash=self._tokens.name_key(key)[0],
            who=f"key {facts.name}",
            token=None,
        )

    async def _with_gateway_token(self, facts: ProviderFacts, shown: str) -> Access:
        token = await self._book.find(shown)
        if token is None:
            raise Refused(RefusalKind.WRONG_CREDENTIAL, "this token is unknown, revoked or has expired")
        if token.providers and facts.name not in token.providers:
            raise Refused(RefusalKind.NOT_ALLOWED, f"this token is not for {facts.title}")
        key = self._our_key(facts)
        return Access(
            credential=_credential("token", token.name),
            key=(facts.key_header, f"{facts.key_prefix}{key}"),
            key_hash=self._tokens.name_key(key)[0],
            who=f"token {token.name}",
            token=token.name,
            owners=() if token.owner is None else (token.owner,),
            models=token.models,
            is_scoped=True,
        )

    def _with_api_token(self, facts: ProviderFacts, authorization: str) -> Access:
        caller = self._guard.identify(authorization)
        if caller.role is Role.STRANGER:
            raise Refused(RefusalKind.WRONG_CREDENTIAL, "this token is not one of this receiver's")
        key = self._our_key(facts)
        return Access(
            credential=_credential("caller", caller.name),
            key=(facts.key_header, f"{facts.key_prefix}{key}"),
            key_hash=self._tokens.name_key(key)[0],
            who=caller.name,
            token=caller.name,
            owners=() if caller.role is Role.ADMIN else caller.owners,
        )

    def _our_key(self, facts: ProviderFacts) -> str:
        key = self._settings.providers[facts.name].api_key
        if key is None:
            raise Refused(RefusalKind.UNAVAILABLE, f"no key for {facts.title} is set here")
        return key


def named_owner(headers: Mapping[str, str], names: Sequence[str], in_path: str | None) -> str | None:
    """The owner that a request names, by the first of these headers or its path. Raises Refused.

    ``headers`` have lower-case names.
    """
    wanted = ("x-receiver-owner", *(name.lower() for name in names))
    given = next((headers[name] for name in wanted if headers.get(name)), in_path)
    if given is None:
        return None
    owner = unquote(given)
    if not 0 < len(owner) <= MAX_OWNER_CHARACTERS or not owner.isprintable():
        raise Refused(
            RefusalKind.INVALID,
            f"an owner has 1 to {MAX_OWNER_CHARACTERS} characters, none of which is a control character",
        )
    return owner


def owner_of(access: Access, named: str | None, otherwise: str) -> str:
    """For whom an order is. Raises Refused where its caller may not order for them."""
    fixed = access.owners[0] if len(access.owners) == 1 and not access.owners[0].endswith("*") else None
    owner = named or fixed or otherwise
    if not acts_for(access.owners, owner):
        raise Refused(RefusalKind.NOT_ALLOWED, "this token is bound to other owners")
    return owner


def require_model(access: Access, model: str | None) -> None:
    """Raises Refused where its caller may not order from this model."""
    if access.models and model not in access.models:
        raise Refused(RefusalKind.NOT_ALLOWED, "this token is bound to other models")


def _credential(*parts: str) -> str:
    """Under no secret, so that what was ordered before a change of RECEIVER_SECRET is its caller's still."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
