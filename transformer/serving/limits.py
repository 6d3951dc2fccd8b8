"""The server's limits, and the middleware that limits the size and time of requests on every path."""

import asyncio
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer.serving.errors import problem


@dataclass(frozen=True)
class Limits:
    """The server's limits. A request that exceeds a limit gets an error; other requests are not affected."""

    lines: int = 100
    """Lines per request."""
    characters: int = 2_000
    """Characters per line."""
    beam_size: int = 16
    """Hypotheses per line, unless the model's own default is larger."""
    body_bytes: int = 1_000_000
    """Bytes in a request's body."""
    seconds: float = 60.0
    """Seconds from the arrival of a request's headers to its answer."""
    waiting_lines: int = 1_000
    """Lines that may wait for translation at the same time, added up over all requests."""


class RequestLimits:
    """ASGI middleware: limits the bytes of a body and the time of a request."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size, is_answered = 0, False

        async def noting(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        async def limited() -> Message:
            """Return the next part of the body.

            A body that is too large is refused only after the whole body has been read and discarded. If the
            connection were closed while the client is still sending, the client would never see the error.
            """
            nonlocal size
            while True:
                message = await receive()
                size += len(message.get("body", b""))
                if size <= self.limits.body_bytes:
                    return message
                if not message.get("more_body"):
                    raise HTTPException(
                        413, f"the body has {size:,} bytes; at most {self.limits.body_bytes:,} are allowed"
                    )

        try:
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, limited, noting)
        except TimeoutError:
            if is_answered:  # the client is not reading the answer; uvicorn closes the connection
                return
            message = (
                f"no answer within {self.limits.seconds:g} seconds; send fewer lines, or try again later"
            )
            await problem(503, message)(scope, receive, send)
