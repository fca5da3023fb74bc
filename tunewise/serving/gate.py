"""Checks that every request passes: its token and the size of its body; it is also timed."""

import hmac
from collections.abc import Collection
from time import perf_counter

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunewise.serving import responses
from tunewise.serving.counters import Counters

OPEN = "/healthz"
"""The route that needs no token."""


class Gate:
    """An application that checks and counts the requests of another one.

    Args:
        routes: paths whose requests are counted separately; all others are counted together.
        token: bearer token of every request; None lets all pass.
        max_body: maximum number of bytes in a request's body.
    """

    def __init__(
        self,
        app: ASGIApp,
        counters: Counters,
        routes: Collection[str],
        token: str | None,
        max_body: int,
    ) -> None:
        self._app = app
        self._counters = counters
        self._routes = routes
        self._token = token
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request if it is allowed, and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if self._has_token(scope):
                await self._app(scope, self._limit_body(receive), send_and_note)
            else:
                content = responses.error("a bearer token is needed", 401, "invalid_api_key")
                headers = {"WWW-Authenticate": "Bearer"}
                await JSONResponse(content, 401, headers)(scope, receive, send_and_note)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._counters.count_response(route, status, perf_counter() - start)

    def _has_token(self, scope: Scope) -> bool:
        """Return whether a request has the token, in a time that does not depend on it."""
        if self._token is None or scope["path"] == OPEN:
            return True
        header = Headers(scope=scope).get("authorization", "")
        return hmac.compare_digest(header.encode(), f"Bearer {self._token}".encode())

    def _limit_body(self, receive: Receive) -> Receive:
        """Return a `receive` that raises an error once the body is too long."""
        size = 0

        async def receive_part() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                problem = f"the body is longer than {self._max_body:,} bytes"
                raise HTTPException(413, problem)
            return message

        return receive_part
