"""The server's two HTML pages. They load no other files, which a content security policy enforces."""

from collections.abc import Sequence
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.requests import Request

from transformer.serving.schemas import ModelInfo

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("transformer.serving", "page_files"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


def add_pages(app: FastAPI, models: Sequence[ModelInfo]) -> None:
    @app.get("/", include_in_schema=False)
    async def typing() -> HTMLResponse:
        return page("typing.html", models=models)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return page("docs.html", api=app.openapi(), address=request.base_url)


def page(template: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(TEMPLATES.get_template(template).render(**values), headers=SECURITY)
