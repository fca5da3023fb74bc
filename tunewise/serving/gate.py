"""What every request passes: the token, the size of its body, and a clock."""

import hmac
from collections.abc import Collection
from time import perf_counter

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunewise.serving import responses
from tunewise.serving.metrics import Metrics

OPEN = "/healthz"
"""The route that needs no token."""


class Gate:
    """An application around another one.

    Args:
        routes: whose requests are counted apart; those to other paths are counted together.
        token: what requests have to bear; None lets all pass.
        max_body: the most bytes of a request's body.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: Collection[str],
        token: str | None,
        max_body: int,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._token = token
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            if self._is_known(scope):
                await self._app(scope, self._limited(receive), noting)
            else:
                content = responses.error("a bearer token is needed", 401, "invalid_api_key")
                headers = {"WWW-Authenticate": "Bearer"}
                await JSONResponse(content, 401, headers)(scope, receive, noting)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.answered(route, status, perf_counter() - start)

    def _is_known(self, scope: Scope) -> bool:
        """Return whether a request bears the token, in a time that tells nothing of it."""
        if self._token is None or scope["path"] == OPEN:
            return True
        given = Headers(scope=scope).get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    def _limited(self, receive: Receive) -> Receive:
        """Return a way to read the body that ends where it is too long."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                problem = f"the body is longer than {self._max_body:,} bytes"
                raise HTTPException(413, problem)
            return message

        return limited
