"""A webhook's event in Starlette and FastAPI, verified: 401 by itself where it is not to be believed.

    @app.post("/hooks/images", status_code=204)
    async def images(event: Annotated[Event, Depends(receiver.client.starlette.event)]) -> None: ...

In Starlette alone it is ``event = await receiver.client.starlette.event(request)``.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from receiver.client.errors import VerificationError
from receiver.client.events import Event
from receiver.client.signatures import verify

MAX_BODY_BYTES = 1 << 20  # a message has a few kilobytes


async def event(request: Request) -> Event:
    """The event, by the secrets in ``RECEIVER_WEBHOOK_SECRET``. Raises HTTPException: 401 and 413."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"An event has at most {MAX_BODY_BYTES} bytes.")
    try:
        return verify(bytes(body), request.headers)
    except VerificationError as exc:
        raise HTTPException(401, str(exc)) from exc
