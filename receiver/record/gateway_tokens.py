"""Tokens of the gateway. A revoked one stays, as orders have its name."""

from datetime import datetime

from receiver.models import GatewayToken
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters, parameters_of, read_limits

_COLUMNS = "name, hash, providers, models, owner, created_at, expires_at, revoked_at"

INSERT = f"""
INSERT INTO gateway_tokens ({_COLUMNS})
VALUES (:name, :hash, :providers, :models, :owner, :created_at, :expires_at, :revoked_at)
ON CONFLICT DO NOTHING
"""  # noqa: S608
ALL = f"SELECT {_COLUMNS} FROM gateway_tokens ORDER BY created_at, name"  # noqa: S608
REVOKE = "UPDATE gateway_tokens SET revoked_at = :now WHERE name = :name AND revoked_at IS NULL"


def add_token(db: Cursor, token: GatewayToken) -> bool:
    """Whether its name was free; see ``ports.GatewayTokenStore``."""
    return db.execute(INSERT, parameters_of(token)).rowcount == 1


def list_tokens(db: Cursor) -> list[GatewayToken]:
    """All of them. Raises Unavailable where one cannot be read."""
    return read_limits(db.execute(ALL), GatewayToken, "a gateway token")


def revoke_token(db: Cursor, name: str, now: datetime) -> bool:
    """Whether there was one that was not revoked yet."""
    return db.execute(REVOKE, parameters(name=name, now=now)).rowcount == 1
