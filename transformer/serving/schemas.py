"""The JSON that the server reads and writes. FastAPI makes the OpenAPI description from these classes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from transformer.config.errors import did_you_mean
from transformer.data.json_text import why_no_text

LONGEST_SHOWN = 40
"""An error message quotes at most this many characters of an invalid value."""


def require_text(value: Any) -> Any:
    if isinstance(value, str) and (problem := why_no_text(value)):
        raise ValueError(f"expected a string, found {problem}")
    return value


class TranslateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    lines: list[Annotated[str, BeforeValidator(require_text)]] = Field(
        description="The text to translate, one sentence per line; a blank line gives an empty translation.",
        examples=[["The old man gives the child a red apple."]],
    )
    model: str | None = Field(None, description="A model's name from /health. By default, the first model.")
    n_best: int = Field(1, ge=1, description="Number of translations per line; at most beam_size.")
    beam_size: int | None = Field(
        None,
        ge=1,
        description="Beam size of the search; 1 is greedy search. By default, the model's beam_size.",
    )
    alpha: float | None = Field(
        None, ge=0, description="Exponent of the length penalty. By default, the model's alpha."
    )
    alignment: bool = Field(False, description="Whether to add the word alignment of each translation.")


class Output(BaseModel):
    translation: str
    score: float | None = Field(
        description="Log-probability divided by the length penalty. If the search finds fewer than n_best "
        "translations, the list is padded with empty translations, whose score is null."
    )
    alignment: str | None = Field(
        description="Aligned words as SOURCE-TARGET pairs, counted from 0, such as 0-0 1-2; null unless "
        "requested."
    )


class TranslateResponse(BaseModel):
    model: str
    results: list[list[Output]] = Field(
        description="One list per line: the translations of this line, best first."
    )
    warnings: list[str] = Field(
        description="A warning for each line that was cut because it had more tokens than the model reads, "
        "and for each line that does not belong to toyland if the model was trained on this toy language. "
        "Lines are counted from 1."
    )


class ModelInfo(BaseModel):
    name: str
    source: str = Field(description="Language to translate from.")
    target: str = Field(description="Language to translate into.")
    checkpoint: str
    beam_size: int = Field(description="The default beam size; a request can override it.")
    alpha: float


class Health(BaseModel):
    status: Literal["ok"]
    models: list[ModelInfo]
    waiting_lines: int
    translated_lines: int = Field(description="Number of lines translated since the server was started.")
    batches: int = Field(description="Number of batches in which translated_lines were translated.")


class Problem(BaseModel):
    error: str = Field(description="What is wrong, where, and what would be valid.")


def describe(problem: dict[str, Any]) -> str:
    """Describe in one line the first error that pydantic found in a request."""
    place, kind = problem["loc"][1:], problem["type"]
    name = f"line {place[1] + 1}" if len(place) > 1 else ".".join(map(str, place)) or "the body"
    if kind == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']} at character {place[0] + 1}"
    if kind == "missing":
        return f'{name} is missing; send a JSON object such as {{"lines": ["A sentence."]}}'
    if kind == "extra_forbidden":
        return f"unknown field {shown(place[0])}{did_you_mean(str(place[0]), TranslateRequest.model_fields)}"
    if kind == "value_error":
        return f"{name}: {problem['ctx']['error']}"
    if name == "the body":
        return "the body is not a JSON object, or is not sent as Content-Type: application/json"
    message = problem["msg"]
    return f"{name}: {message[0].lower()}{message[1:]}, found {shown(problem['input'])}"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
