"""Converting a run to CTranslate2, and comparing CTranslate2's translations with ours."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformer.config import Settings
from transformer.convert.common import conversion_folder, open_convertible, require_package
from transformer.convert.ctranslate2_spec import write_checkpoint_model
from transformer.convert.engine import CTranslate2Translator, load_engine
from transformer.data.corpus import load_parallel
from transformer.data.text import CorpusError
from transformer.decoding.translator import Translator

SAMPLE_LINES = 50


class Agreement(NamedTuple):
    """A comparison of two translators' best outputs for the same lines."""

    lines: int
    identical: int
    score_difference: float
    """The largest difference between the two scores of a line."""

    def __str__(self) -> str:
        share = 100 * self.identical / self.lines
        return (
            f"{self.identical} of {self.lines} translations identical ({share:.1f} %), "
            f"largest difference of scores {self.score_difference:.1e}"
        )


def to_ctranslate2(
    name: str | Path,
    output: str | Path,
    *,
    quantization: str = "float32",
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Convert the run `name` to a CTranslate2 model in the folder `output`, which appears only when complete.

    The tokenizer is saved next to the model as `tokenizer.model`. Then our search and CTranslate2 both
    translate some lines of the run's validation text, and `say` reports how well the translations agree.
    Raises `ValueError` for a setting that CTranslate2 does not support.
    """
    require_package("ctranslate2")
    opened = open_convertible(name)
    output = Path(output)
    with conversion_folder(output) as unfinished:
        write_checkpoint_model(opened, unfinished, quantization)
        opened.tokenizer.save(unfinished / "tokenizer.model")
        ours = Translator.from_pretrained(opened.checkpoint, device="cpu")
        engine = load_engine(unfinished, "cpu")
        theirs = CTranslate2Translator(
            engine, ours.tokenizer, model_config=ours.config, decoding=ours.decoding
        )
        text, lines = lines_to_compare(opened.settings)
        say(f"compared with our own search on {text}: {agreement(ours, theirs, lines)}")
    return output


def lines_to_compare(settings: Settings) -> tuple[str, list[str]]:
    """Return the name of the text to compare on, and its first source lines.

    The text is the run's validation text, or `toyland:valid` if that text is missing or cannot be read.
    """
    data = settings.data
    try:
        if data.valid is None:
            raise CorpusError("the run has no validation text")
        return data.valid, list(load_parallel(data.valid, data.source, data.target)["source"][:SAMPLE_LINES])
    except CorpusError:
        text = f"toyland:valid[:{SAMPLE_LINES}]"
        return text, list(load_parallel(text, "en", "de")["source"])


def agreement(ours: Translator, theirs: CTranslate2Translator, lines: Sequence[str]) -> Agreement:
    """Translate the lines with both translators and compare the results."""
    outputs = ours.translate_n_best(lines, n_best=1), theirs.translate_n_best(lines, n_best=1)
    pairs = [(one[0], other[0]) for one, other in zip(*outputs, strict=True)]
    return Agreement(
        lines=len(pairs),
        identical=sum(one.text == other.text for one, other in pairs),
        score_difference=max(abs(one.score - other.score) for one, other in pairs),
    )
