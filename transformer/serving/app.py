"""The server's HTTP paths: `/translate`, `/health` and the pages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from transformer.config.errors import did_you_mean, shortened
from transformer.decoding.lines import LineTranslator
from transformer.serving.batching import Answer, Batcher, BusyError, Kind
from transformer.serving.errors import ERRORS, add_errors
from transformer.serving.limits import Limits, RequestLimits
from transformer.serving.pages import add_pages
from transformer.serving.schemas import Health, ModelInfo, Output, TranslateRequest, TranslateResponse

DESCRIPTION = """Translates lines of text. A request may have up to {lines:,} lines of {characters:,}
characters each, a body of {body_bytes:,} bytes, and a beam of {beam_size:,}; after {seconds:g} seconds it
gets an error instead of an answer. Requests that are waiting at the same time are translated together. An
error is an object with one field, error: one line that says what is wrong."""
LONGEST_REASON = 200
"""The reason in a warning is truncated to this many characters, because it may list many unknown words."""


@dataclass(frozen=True)
class ServedModel:
    """A translator, and the facts about it that clients can read."""

    translator: LineTranslator
    info: ModelInfo
    why_outside: Callable[[str], str | None] | None = None
    """Returns why the model was not trained for a line (`outside toyland: …`), or None if it was.

    The attribute itself is None for models that have no such check.
    """


def make_app(models: Sequence[ServedModel], limits: Limits) -> FastAPI:
    """Make the application, which translates in a separate thread until the server shuts down."""
    by_name = {model.info.name: model for model in models}
    batcher = Batcher(
        {name: model.translator for name, model in by_name.items()},
        batch_lines=limits.lines,
        waiting_lines=limits.waiting_lines,
    )

    @asynccontextmanager
    async def answering_all(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(
        title="transformer serve",
        description=" ".join(DESCRIPTION.format(**vars(limits)).split()),
        lifespan=answering_all,
        docs_url=None,  # FastAPI's own pages load scripts from the network
        redoc_url=None,
    )
    app.add_middleware(RequestLimits, limits=limits)
    add_errors(app)

    @app.post("/translate", responses=ERRORS)
    async def translate(request: TranslateRequest) -> TranslateResponse:
        """Translate a list of lines."""
        require_allowed(request, limits)
        kind = kind_of(request, by_name, limits)
        try:
            waiting = batcher.submit(kind, request.lines)
        except BusyError:
            raise HTTPException(
                503,
                f"{batcher.waiting_lines():,} lines are waiting, and this server allows "
                f"{limits.waiting_lines:,}; try again later",
                {"Retry-After": "1"},
            ) from None
        answer = await asyncio.wrap_future(waiting)
        return response(kind.model, answer, outside(by_name[kind.model], request.lines))

    @app.get("/health")
    async def health() -> Health:
        """List the models, and count the lines that are waiting and the lines translated so far."""
        return Health(
            status="ok",
            models=[model.info for model in models],
            waiting_lines=batcher.waiting_lines(),
            translated_lines=batcher.lines,
            batches=batcher.batches,
        )

    add_pages(app, [model.info for model in models])
    return app


def require_allowed(request: TranslateRequest, limits: Limits) -> None:
    if len(request.lines) > limits.lines:
        raise HTTPException(
            413, f"there are {len(request.lines):,} lines; send at most {limits.lines:,} at once"
        )
    for number, line in enumerate(request.lines, start=1):
        if len(line) > limits.characters:
            raise HTTPException(
                413, f"line {number} has {len(line):,} characters; at most {limits.characters:,} are allowed"
            )


def kind_of(request: TranslateRequest, models: Mapping[str, ServedModel], limits: Limits) -> Kind:
    name = request.model or next(iter(models))
    if name not in models:
        raise HTTPException(
            422,
            f"there is no model {name!r}{did_you_mean(name, models)}; this server has {', '.join(models)}",
        )
    most = max(limits.beam_size, models[name].info.beam_size)
    if (request.beam_size or 0) > most:
        raise HTTPException(413, f"beam_size is {request.beam_size}; at most {most} is allowed")
    translator = models[name].translator
    if request.alignment and not translator.can_align:
        raise HTTPException(422, "alignment needs a server with --engine torch")
    try:
        options = translator.search_options(request.n_best, request.beam_size, request.alpha)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return Kind(name, options, request.alignment)


def outside(model: ServedModel, lines: Sequence[str]) -> list[str]:
    """Return a warning for each line that fails the check `model.why_outside`.

    For example, a line fails the check if it has a word that toyland does not have. Lines that fail are
    translated anyway.
    """
    if model.why_outside is None:
        return []
    reasons = [model.why_outside(line) if line.strip() else None for line in lines]
    return [
        f"line {number} is {shortened(reason, LONGEST_REASON)}"
        for number, reason in enumerate(reasons, start=1)
        if reason
    ]


def response(model: str, answer: Answer, warnings: Sequence[str]) -> TranslateResponse:
    results = [
        [
            Output(
                translation=output.text,
                score=output.score if isfinite(output.score) else None,  # JSON has no infinity
                alignment=alignment,
            )
            for output, alignment in row
        ]
        for row in answer.results
    ]
    return TranslateResponse(model=model, results=results, warnings=[*answer.warnings, *warnings])
