"""Error responses, in the format of OpenAI's API."""

from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from tunewise.errors import NotFiniteError, TunewiseError
from tunewise.serving import responses
from tunewise.serving.engine import BusyError

BROKEN = "internal error of the server; its log says more"
"""Message of an error that is the server's own fault."""


class Refusal(HTTPException):
    """A request that is refused, with the reason and OpenAI's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(status, message)
        self.code = code


def add_error_handlers(app: FastAPI) -> None:
    """Make an application send every error in OpenAI's format."""
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(TunewiseError, _unprocessable)
    app.add_exception_handler(NotFiniteError, _not_finite)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(Exception, _broken)


def _error(
    status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(responses.error(message, status, code), status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    code = error.code if isinstance(error, Refusal) else None
    return _error(error.status_code, error.detail, code, error.headers)


async def _unprocessable(_: Request, error: Exception) -> Response:
    return _error(422, str(error))


async def _not_finite(_: Request, error: Exception) -> Response:
    return _error(500, str(error))


async def _busy(_: Request, error: Exception) -> Response:
    return _error(429, "the queue is full; try again", headers={"Retry-After": "1"})


async def _broken(_: Request, error: Exception) -> Response:
    return _error(500, BROKEN)
