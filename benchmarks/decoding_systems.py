"""The systems that `benchmarks/decoding.py` compares, and one model in each system's format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformer.config import InferencePrecision

FORCED = 15
SIZES = {
    "small": {"d_model": 256, "num_heads": 4, "d_ff": 1024, "num_layers": 3},
    "base": {"d_model": 512, "num_heads": 8, "d_ff": 2048, "num_layers": 6},
}
VOCABULARY = 10_000
Translate = Callable[[list[list[int]]], int]
"""Translates a batch of sources, which end in EOS, and returns the number of output tokens."""


# The systems


def ours(
    folder: Path, beam: int, is_forced: bool, threads: int, precision: InferencePrecision = "float32"
) -> Translate:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from transformer.checkpoint.pretrained import load_run
    from transformer.decoding.beam import beam_search
    from transformer.decoding.inference import freeze, without_gradients
    from transformer.decoding.processors import MinLength
    from transformer.decoding.search import greedy_search

    torch.set_num_threads(threads)
    model: Any = load_run(folder / "run", task="translation", device="cpu").model
    freeze(model, precision)
    processors = [MinLength(FORCED, eos_id=2)] if is_forced else []

    def translate(batch: list[list[int]]) -> int:
        rows = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)
        limits = torch.full((len(rows),), FORCED) if is_forced else (rows != 0).sum(dim=1) + 50
        with without_gradients(model):
            if beam == 1:
                found = greedy_search(model, rows, max_length=limits, processors=processors)
            else:
                found = beam_search(
                    model, rows, beam_size=beam, alpha=0.6, max_length=limits, processors=processors
                )
        return int(found.lengths[:, 0].sum())

    return translate


def ours_bfloat16(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    return ours(folder, beam, is_forced, threads, "bfloat16")


def ours_int8(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    return ours(folder, beam, is_forced, threads, "int8")


def hugging_face(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import MarianMTModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    model: Any = MarianMTModel.from_pretrained(folder / "marian").eval()
    pad = model.config.pad_token_id

    def translate(batch: list[list[int]]) -> int:
        rows = [torch.tensor(row) for row in batch]
        source = pad_sequence(rows, batch_first=True, padding_value=pad)
        length = {"min_new_tokens": FORCED, "max_new_tokens": FORCED}
        with torch.inference_mode():
            found = model.generate(
                source,
                attention_mask=(source != pad).long(),
                num_beams=beam,
                do_sample=False,
                **(length if is_forced else {"max_new_tokens": source.shape[1] + 50}),
            )
        return int((found[:, 1:] != pad).sum())

    return translate


def ctranslate2(
    folder: Path, beam: int, is_forced: bool, threads: int, precision: str = "float32"
) -> Translate:
    import ctranslate2

    from transformer.data.tokenizers.loading import load_tokenizer

    workers = threads if precision == "int8" else 1  # the faster choice for each, as in convert/engine.py
    translator = ctranslate2.Translator(
        str(folder / "ctranslate2"),
        device="cpu",
        compute_type=precision,
        inter_threads=workers,
        intra_threads=threads // workers,
    )
    pieces = load_tokenizer(folder / "ctranslate2" / "tokenizer.model").pieces

    def translate(batch: list[list[int]]) -> int:
        rows = [[pieces[token] for token in row[:-1]] for row in batch]  # CTranslate2 adds EOS
        length = {"min_decoding_length": FORCED, "max_decoding_length": FORCED}
        part = -(-len(rows) // workers)
        found = translator.translate_batch(
            rows,
            max_batch_size=part,
            beam_size=beam,
            **(length if is_forced else {"max_decoding_length": len(rows[0]) + 50}),
        )
        return sum(len(result.hypotheses[0]) + (not is_forced) for result in found)

    return translate


def ctranslate2_int8(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    return ctranslate2(folder, beam, is_forced, threads, "int8")


def eole(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    """Random weights of the same sizes: eole's decoder is pre-norm and cannot use ours."""
    import torch
    from peer_eole import make_translator, translate
    from torch.nn.utils.rnn import pad_sequence

    from transformer.config.files import load_settings

    assert is_forced, "eole cannot use the weights of a run"
    torch.set_num_threads(threads)
    translator = make_translator(
        load_settings(folder / "run" / "config.yaml").model, beam=beam, length=FORCED
    )

    def translate_batch(batch: list[list[int]]) -> int:
        with torch.inference_mode():
            return translate(translator, pad_sequence([torch.tensor(row) for row in batch], batch_first=True))

    return translate_batch


SYSTEMS = {
    "ours": ours,
    "ours bfloat16": ours_bfloat16,
    "ours int8": ours_int8,
    "hf": hugging_face,
    "ct2": ctranslate2,
    "ct2 int8": ctranslate2_int8,
    "eole": eole,
}


# The same weights for all systems


def prepare(run: str | None, size: str, folder: Path) -> list[list[int]]:
    """Write the model into the folder in every system's format; returns the sources as ids with EOS."""
    from transformer.checkpoint.hub import local_folder
    from transformer.checkpoint.opening import open_run
    from transformer.convert.ctranslate2 import to_ctranslate2
    from transformer.convert.marian_export import to_marian
    from transformer.data.corpus import load_parallel
    from transformer.data.tokenizers.protocol import EOS_ID

    folder.mkdir()
    path = folder / "run"
    if run:
        path.symlink_to(local_folder(run).absolute())
    else:
        write_random_run(size, path)
    to_marian(path, folder / "marian", say=print)
    to_ctranslate2(path, folder / "ctranslate2", say=print)
    _, tokenizer, settings = open_run(path, task="translation")
    data = settings.data
    sources = load_parallel(str(data.test), data.source, data.target)["source"]
    return [[*row, EOS_ID] for row in tokenizer.encode(list(sources))]


def write_random_run(size: str, folder: Path) -> None:
    """A run of this size with random weights and a vocabulary of Multi30k."""
    import torch

    from transformer.checkpoint.format import MODEL
    from transformer.checkpoint.run import Run
    from transformer.checkpoint.writing import write_checkpoint
    from transformer.config import DataConfig, ModelConfig, Settings
    from transformer.config.files import save_settings
    from transformer.data.text import read_lines
    from transformer.data.tokenizers.sentence_piece import train_tokenizer
    from transformer.model.build import build_model

    text = Path(os.environ["TRANSFORMER_DATA"]).absolute() / "multi30k"
    lines = (line for name in ("train.en", "train.de") for line in read_lines(text / name))
    tokenizer = train_tokenizer(lines, vocab_size=VOCABULARY, normalization="nmt_nfkc")
    config = ModelConfig(
        **SIZES[size], vocab_size=VOCABULARY, attention_bias=True, output_bias=True, norm_epsilon=1e-5
    )
    torch.manual_seed(1)
    tensors = dict(build_model(config).named_parameters())
    run = Run(folder)
    checkpoint = run.checkpoint(1)
    write_checkpoint(checkpoint, tensors={MODEL: tensors}, state={"step": 1}, tokenizer_hash=tokenizer.digest)
    names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    data = DataConfig(**{part: str(text / name) for part, name in names.items()}, vocab_size=VOCABULARY)
    save_settings(Settings(output=str(folder), model=config, data=data), run.config)
    tokenizer.save(run.tokenizer)
    run.mark("best", checkpoint)
