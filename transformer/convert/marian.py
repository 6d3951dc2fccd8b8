"""Converting a Hugging Face Marian folder, or Marian's own files, to a run (`docs/convert.md`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from transformer.checkpoint.format import MODEL
from transformer.checkpoint.hub import local_folder
from transformer.checkpoint.run import Run
from transformer.checkpoint.writing import write_checkpoint
from transformer.config import DataConfig, ModelConfig, Settings
from transformer.config.files import save_settings
from transformer.convert.common import ConversionError, conversion_folder
from transformer.convert.marian_files import MarianFiles, find_npz
from transformer.convert.marian_folder import CONFIG, FILES, MarianFolder
from transformer.convert.marian_programs import PROGRAMS, ProgramName
from transformer.convert.marian_vocabulary import Vocabulary, convert_vocabularies
from transformer.convert.marian_weights import convert_weights, position_table
from transformer.data.tokenizers.marian import MarianTokenizer
from transformer.data.tokenizers.protocol import BOS_ID, PAD_ID, SPECIAL_IDS
from transformer.decoding.translator import Translator

TOLERANCE = 1e-4
"""The largest allowed difference between logits, divided by the largest logit, or by 1 if that is larger."""


def from_marian(
    name: str | Path,
    output: str | Path,
    *,
    trained_with: ProgramName | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Convert the folder, `.npz` file or Hub id `name` to a run in the folder `output`.

    Marian and transformers use different positional encodings and a different LayerNorm ε. The run reproduces
    the outputs of the program `trained_with`. The default is marian if the files indicate that Marian trained
    the model, otherwise transformers.

    `output` appears only when complete, after the new run has been loaded as a check. If `name` is a Hugging
    Face folder and `transformers` is installed, the run's logits are also compared with the original's, and
    `say` reports the difference. Raises `ValueError` for a model that cannot be converted.
    """
    output = Path(output)
    original = open_original(name)
    with conversion_folder(output) as unfinished:
        tokenizer = convert_vocabularies(*original.vocabularies, *original.sentencepiece_models)
        report_rows_without_piece(original.vocabularies, say)
        config = original.model_config(tokenizer.vocab_size)
        default = original.trained_with(config)
        program = trained_with or default
        config = PROGRAMS[program].applied_to(config)
        settings = Settings(
            output=str(output),
            model=config,
            data=data_config(name, config, original.languages()),
            decoding=original.decoding_config(),
        )
        source, target = original.vocabularies
        weights = convert_weights(original.weights, config, tokenizer, (source.rows, target.rows))
        run = Run(unfinished)
        write_run(run, settings, tokenizer, weights)
        say(f"positions and ε are those of {program}; --trained-with chooses the program")
        check(run, original, program, say)
    return output


def open_original(name: str | Path) -> MarianFiles | MarianFolder:
    """Open the model `name`: a Hugging Face folder, a Marian `.npz` file, or a folder with such a file."""
    path = local_folder(name, patterns=FILES)
    if not path.exists():
        raise ConversionError(f"{name}: there is no such folder, and a Hub id has the form OWNER/NAME")
    npz = None if (path / CONFIG).is_file() else find_npz(path)
    return MarianFolder(path) if npz is None else MarianFiles(npz)


def report_rows_without_piece(
    vocabularies: tuple[Vocabulary, Vocabulary], say: Callable[[str], None]
) -> None:
    for vocabulary in {each.path: each for each in vocabularies}.values():
        if unused := vocabulary.rows - len(vocabulary.ids):
            say(f"{vocabulary.path}: {unused} rows of the embedding belong to no piece and are left out")


def data_config(name: str | Path, config: ModelConfig, languages: dict[str, str]) -> DataConfig:
    return DataConfig(
        train=f"(converted from Marian: {name})",
        valid=None,
        test=None,
        vocab_size=config.vocab_size,
        max_tokens=min(DataConfig.max_tokens, config.max_positions),
        **languages,  # type: ignore[arg-type]  # only source and target
    )


def write_run(run: Run, settings: Settings, tokenizer: MarianTokenizer, weights: dict[str, Tensor]) -> None:
    checkpoint = run.checkpoint(0)
    state = {"step": 0, "converted_from": "marian"}
    write_checkpoint(checkpoint, tensors={MODEL: weights}, state=state, tokenizer_hash=tokenizer.digest)
    save_settings(settings, run.config)
    tokenizer.save(run.tokenizer)
    run.mark("last", checkpoint)
    run.mark("best", checkpoint)


def check(
    run: Run, original: MarianFiles | MarianFolder, program: ProgramName, say: Callable[[str], None]
) -> None:
    """Load the run and compare its logits with the original's; raise `ConversionError` if they differ."""
    translator = Translator.from_pretrained(run.path, device="cpu")
    tokenizer = translator.tokenizer
    assert isinstance(tokenizer, MarianTokenizer)  # because `write_run` has saved such a tokenizer
    if isinstance(original, MarianFiles):
        say("the logits were not compared: transformers cannot read Marian's own files")
        return
    if find_spec("transformers") is None:
        say("transformers is not installed, so the logits were not compared with the original's")
        return
    with load_original(original.path) as theirs:
        if program == "marian":
            compute_as_marian(theirs, translator.config)
        ids = tokenizer.source_ids, tokenizer.marian_ids
        difference, largest = compare(translator.model, theirs, *ids)
    say(f"largest difference from the original's logits: {difference:.1e} (largest logit: {largest:.1f})")
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ConversionError(
            f"{original.path}: the converted model's logits differ from the original's by {difference:.1e}"
        )


def compute_as_marian(theirs: Any, config: ModelConfig) -> None:
    """Give `theirs`, a model of `transformers`, the positional encoding and the ε that Marian uses.

    Its logits can then differ from ours only because of the weights.
    """
    for stack in (theirs.model.encoder, theirs.model.decoder):
        table = stack.embed_positions.weight
        table.data.copy_(position_table(config, len(table)))
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config.norm_epsilon


@torch.no_grad()
def compare(
    model: nn.Module, theirs: Any, source_ids: Sequence[int | None], target_ids: Sequence[int | None]
) -> tuple[float, float]:
    """Return the largest difference between two models' logits on random sentences, and the largest logit.

    The comparison covers every target position except padding, and all tokens that both models may produce.
    `source_ids` and `target_ids` map our ids to the ids of `theirs`.
    """
    generator = torch.Generator().manual_seed(1)
    src_tokens = random_batch((7, 12, 3), source_ids, generator)
    tgt_tokens = random_batch((9, 4, 11), target_ids, generator)
    tgt_tokens[:, 0] = BOS_ID
    to_source, to_target = (
        torch.tensor([0 if number is None else number for number in ids]) for ids in (source_ids, target_ids)
    )
    output = theirs(
        input_ids=to_source[src_tokens],
        attention_mask=(src_tokens != PAD_ID).long(),
        decoder_input_ids=to_target[tgt_tokens],
    )
    produced = [ours for ours, number in enumerate(target_ids) if number is not None and ours > BOS_ID]
    is_real = tgt_tokens != PAD_ID
    logits, expected = model(src_tokens, tgt_tokens)[is_real], output.logits[is_real]
    difference = logits[:, produced] - expected[:, to_target[produced]]
    return difference.abs().max().item(), expected[:, to_target[produced]].abs().max().item()


def random_batch(
    lengths: tuple[int, ...], marian_ids: Sequence[int | None], generator: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Make right-padded rows of random tokens that both vocabularies contain, except special tokens."""
    known = [ours for ours, number in enumerate(marian_ids) if number is not None and ours not in SPECIAL_IDS]
    tokens = torch.full((len(lengths), max(lengths)), PAD_ID)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.tensor(known)[torch.randint(len(known), (length,), generator=generator)]
    return tokens


@contextmanager
def load_original(folder: Path) -> Iterator[Any]:
    """Load the model with `transformers`, without its progress bars and messages."""
    transformers: Any = import_module("transformers")  # its own types are incomplete
    logging = transformers.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        load = transformers.MarianMTModel.from_pretrained
        try:
            model = load(folder, dtype=torch.float32, use_safetensors=True).eval()
        except Exception as error:  # settings that only transformers reads can cause errors of many types
            raise ConversionError(f"{folder}: transformers cannot load it: {error}") from error
        yield model
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
