"""The server's errors: each is a JSON object with one line that says what is wrong."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from transformer.serving.schemas import Problem, describe

ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The request is larger than this server allows."},
    422: {"model": Problem, "description": "The request is not valid."},
    503: {"model": Problem, "description": "Too many lines are waiting, or the request timed out."},
}
"""The errors that `/translate` can return, for the OpenAPI description."""


def add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, describe(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        message = error.detail
        if error.status_code == 400:  # FastAPI raises 400 if Python cannot read the JSON
            message = (
                "the body cannot be read as JSON: it is not UTF-8, is nested too deeply, or has a number "
                "with too many digits"
            )
        elif error.status_code == 404:
            message = f"{request.url.path} does not exist; /docs lists the paths"
        elif error.status_code == 405:
            message = f"{request.url.path} does not support {request.method}; /docs lists the methods"
        return problem(error.status_code, message, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        """Hide the traceback from the client; the server logs it."""
        return problem(500, f"this server has failed ({type(error).__name__}); its log says why")


def problem(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers)
