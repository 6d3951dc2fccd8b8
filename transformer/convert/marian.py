"""Converting a Hugging Face Marian model to a run with the same logits (`docs/convert.md`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from transformer.checkpoint.format import MODEL
from transformer.checkpoint.run import Run
from transformer.checkpoint.writing import write_checkpoint
from transformer.config import Settings
from transformer.config.files import save_settings
from transformer.convert.common import ConversionError, conversion_folder
from transformer.convert.marian_folder import MarianFolder, find_folder
from transformer.convert.marian_weights import convert_weights
from transformer.data.tokenizers.marian import MarianTokenizer
from transformer.data.tokenizers.protocol import BOS_ID, PAD_ID, SPECIAL_IDS
from transformer.decoding.translator import Translator

TOLERANCE = 1e-4
"""Largest difference between logits, relative to the largest of them where that is above 1."""


def from_marian(name: str | Path, output: str | Path, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """Convert the folder or Hub id `name` to a run in the folder `output`, which appears only when complete.

    The run is loaded back first and, if `transformers` is installed, its logits are compared with the
    original's; `say` reports the difference. `ValueError` for a model that cannot be converted.
    """
    output = Path(output)
    folder = MarianFolder(find_folder(name))
    with conversion_folder(output) as unfinished:
        tokenizer = folder.tokenizer()
        settings = Settings(
            output=str(output),
            model=folder.model_config(tokenizer.vocab_size),
            data=folder.data_config(name, tokenizer.vocab_size),
            decoding=folder.decoding_config(),
        )
        run = Run(unfinished)
        write_run(run, settings, tokenizer, convert_weights(folder, settings.model, tokenizer.marian_ids))
        check(run, folder, say)
    return output


def write_run(run: Run, settings: Settings, tokenizer: MarianTokenizer, weights: dict[str, Tensor]) -> None:
    checkpoint = run.checkpoint(0)
    state = {"step": 0, "converted_from": "marian"}
    write_checkpoint(checkpoint, tensors={MODEL: weights}, state=state, tokenizer_hash=tokenizer.digest)
    save_settings(settings, run.config)
    tokenizer.save(run.tokenizer)
    run.mark("last", checkpoint)
    run.mark("best", checkpoint)


def check(run: Run, folder: MarianFolder, say: Callable[[str], None]) -> None:
    """Load the run; `ConversionError` if its logits are not the original's."""
    translator = Translator.from_pretrained(run.path, device="cpu")
    tokenizer = translator.tokenizer
    assert isinstance(tokenizer, MarianTokenizer)  # write_run saved one
    if find_spec("transformers") is None:
        say("transformers is not installed, so the logits were not compared with the original's")
        return
    difference, largest = compare(translator.model, tokenizer.marian_ids, folder)
    say(f"largest difference from the original's logits: {difference:.1e}, of logits up to {largest:.1f}")
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ConversionError(
            f"{folder.path}: the converted model's logits differ from the original's by {difference:.1e}"
        )


@torch.no_grad()
def compare(model: nn.Module, marian_ids: list[int], folder: MarianFolder) -> tuple[float, float]:
    """The largest difference between the logits of random sentences, and the largest logit.

    Compares all tokens that both models may produce, at every target position that is not padding.
    """
    ids = torch.tensor(marian_ids)
    generator = torch.Generator().manual_seed(1)
    src_tokens, tgt_tokens = (
        random_batch(lengths, len(ids), generator) for lengths in ((7, 12, 3), (9, 4, 11))
    )
    tgt_tokens[:, 0] = BOS_ID
    with original(folder) as theirs:
        output = theirs(
            input_ids=ids[src_tokens],
            attention_mask=(src_tokens != PAD_ID).long(),
            decoder_input_ids=ids[tgt_tokens],
        )
    can_be_produced = torch.ones(len(ids), dtype=torch.bool)
    can_be_produced[[PAD_ID, BOS_ID]] = False
    compared = (tgt_tokens != PAD_ID)[:, :, None] & can_be_produced
    ours, expected = model(src_tokens, tgt_tokens)[compared], output.logits[:, :, ids][compared]
    return (ours - expected).abs().max().item(), expected.abs().max().item()


def random_batch(
    lengths: tuple[int, ...], vocab_size: int, generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Right-padded rows of random tokens that are not special."""
    tokens = torch.full((len(lengths), max(lengths)), PAD_ID)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(len(SPECIAL_IDS), vocab_size, (length,), generator=generator)
    return tokens


@contextmanager
def original(folder: MarianFolder) -> Iterator[Any]:
    """Load the model with `transformers`, without its progress bars and messages."""
    transformers: Any = import_module("transformers")  # its own types are incomplete
    logging = transformers.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        load = transformers.MarianMTModel.from_pretrained
        try:
            model = load(folder.path, dtype=torch.float32, use_safetensors=True).eval()
        except Exception as error:  # of many kinds, for settings that only transformers reads
            raise ConversionError(f"{folder.path}: transformers cannot load it: {error}") from error
        yield model
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
