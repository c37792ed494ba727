"""Admins make the gateway's tokens, list them, and revoke them."""

from typing import Annotated, Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Act, GatewayToken, audit_entry
from receiver.ports import OrderProvider
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.tokens import make_gateway_token
from receiver.web.auth import actor_of
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.filters import When
from receiver.web.shapes import Moment, reply, shape

log = structlog.get_logger()

TokenName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Owner = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewGatewayToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one may be used for. Without providers or models it is for every one, without an owner for all."""

    name: TokenName
    providers: Annotated[list[str], msgspec.Meta(max_length=50)] = []
    models: Annotated[list[ModelName], msgspec.Meta(max_length=200)] = []
    owner: Owner | None = None
    expires_at: When | None = None

    def __post_init__(self) -> None:
        if self.owner is not None and not (self.owner.isprintable() and not self.owner.endswith("*")):
            raise ValueError(
                "`owner` may hold no control character and end in no `*`: it is one owner's name"
            )


class GatewayTokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """One token, without what lets in by it."""

    name: str
    providers: tuple[str, ...]
    models: tuple[str, ...]
    owner: str | None
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None


class GatewayTokenMade(GatewayTokenRow, frozen=True, kw_only=True):
    """A new one. ``token`` is shown this once: only a hash of it is kept."""

    token: str


class GatewayTokenList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, the oldest first, with those that are over."""

    tokens: list[GatewayTokenRow]


async def add(runtime: Runtime, request: Request, new: NewGatewayToken) -> Response:
    """Make a token."""
    takers = [name for name, each in runtime.providers.items() if isinstance(each, OrderProvider)]
    if unknown := [name for name in new.providers if name not in takers]:
        raise Rejected(
            ProblemType.UNKNOWN_PROVIDER,
            f"`providers` must be of {', '.join(takers)}; {len(unknown)} of them are not.",
        )
    now = runtime.clock.now()
    if new.expires_at is not None and new.expires_at <= now:
        raise Rejected(ProblemType.BAD_BODY, "`expires_at` must be in the future.")
    token, token_hash = make_gateway_token()
    kept = GatewayToken(
        name=new.name,
        hash=token_hash,
        providers=tuple(dict.fromkeys(new.providers)),
        models=tuple(dict.fromkeys(new.models)),
        owner=new.owner,
        created_at=now,
        expires_at=new.expires_at,
    )
    entry = audit_entry(Act.GATEWAY_TOKEN_ADDED, actor_of(request), now, target=f"token {new.name}")
    if not await runtime.store.add_gateway_token(kept, entry):
        raise Rejected(
            ProblemType.TOKEN_NAMED,
            "A token has, or had, this name, and orders are told by it: take another.",
        )
    _forget(runtime)
    log.info("gateway_token.added", who=request.state.caller, name=new.name)
    return reply(shape(GatewayTokenMade, kept, token=token), 201)


async def list_all(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """Every token."""
    rows = [shape(GatewayTokenRow, each) for each in await runtime.store.list_gateway_tokens()]
    return reply(GatewayTokenList(tokens=rows))


async def revoke(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Revoke a token: at once in this process, within two seconds in others."""
    name, now = request.path_params["name"], runtime.clock.now()
    entry = audit_entry(Act.GATEWAY_TOKEN_REVOKED, actor_of(request), now, target=f"token {name}")
    if not await runtime.store.revoke_gateway_token(name, now, entry):
        raise Rejected(ProblemType.UNKNOWN_TOKEN, "No token of this name lets anybody in.")
    _forget(runtime)
    log.info("gateway_token.revoked", who=request.state.caller, name=name)
    return Response(status_code=204)


def _forget(runtime: Runtime) -> None:
    if runtime.gateway is not None:
        runtime.gateway.tokens.forget()


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="POST",
        path="/gateway-tokens",
        summary="Make a token of the gateway",
        audience=Audience.ADMIN,
        takes=NewGatewayToken,
        gives={201: GatewayTokenMade},
        refuses=(400, 401, 403, 404, 408, 409, 413, 415, 503),  # 404: without the gateway
        answer=add,
    ),
    Endpoint(
        method="GET",
        path="/gateway-tokens",
        summary="List the gateway's tokens",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: GatewayTokenList},
        refuses=(401, 403, 404, 503),  # 404: without the gateway
        answer=list_all,
    ),
    Endpoint(
        method="DELETE",
        path="/gateway-tokens/{name}",
        summary="Revoke a token of the gateway",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={204: None},
        refuses=(401, 403, 404, 408, 413, 415, 503),
        answer=revoke,
    ),
)
