"""Requests that are not answered, and why: errors in the shape of OpenAI's."""

from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from tunewise.errors import TunewiseError
from tunewise.serving import responses
from tunewise.serving.engine import BusyError

BROKEN = "something broke here; the server's log has more"


class Refusal(HTTPException):
    """A request that is not answered, and why."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(status, message)
        self.code = code


def answer_errors(app: FastAPI) -> None:
    """Have an application answer with what has gone wrong."""
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(TunewiseError, _mistaken)
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


async def _mistaken(_: Request, error: Exception) -> Response:
    return _error(422, str(error))


async def _busy(_: Request, error: Exception) -> Response:
    return _error(429, "too much is waiting; try again", headers={"Retry-After": "1"})


async def _broken(_: Request, error: Exception) -> Response:
    return _error(500, BROKEN)
