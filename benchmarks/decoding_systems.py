"""The systems that `benchmarks/decoding.py` compares, and one model in the form of each."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORCED = 15
SIZES = {
    "small": {"d_model": 256, "num_heads": 4, "d_ff": 1024, "num_layers": 3},
    "base": {"d_model": 512, "num_heads": 8, "d_ff": 2048, "num_layers": 6},
}
VOCABULARY = 10_000
Translate = Callable[[list[list[int]]], int]
"""A batch of sources with EOS to the number of output tokens."""


# The three systems


def ours(folder: Path, beam: int, is_forced: bool, threads: int, precision: str = "float32") -> Translate:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from transformer.decoding.packed import pack_linear_layers
    from transformer.decoding.processors import MinLength
    from transformer.decoding.search import beam_search, greedy_search
    from transformer.model.build import build_model

    torch.set_num_threads(threads)
    model = build_model(config_of(folder)).eval()
    model.load_state_dict(torch.load(folder / "ours.pt", weights_only=True))
    pack_linear_layers(model, getattr(torch, precision))
    processors = [MinLength(FORCED, eos_id=2)] if is_forced else []

    def translate(batch: list[list[int]]) -> int:
        rows = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)
        limits = torch.full((len(rows),), FORCED) if is_forced else (rows != 0).sum(dim=1) + 50
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


def hugging_face(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import MarianMTModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model: Any = MarianMTModel.from_pretrained(folder).eval()
    pad, vocab_size = model.config.pad_token_id, model.config.vocab_size

    def translate(batch: list[list[int]]) -> int:
        rows = [torch.tensor([their_id(token, vocab_size) for token in row]) for row in batch]
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

    translator = ctranslate2.Translator(
        str(folder / "ctranslate2"), device="cpu", compute_type=precision, intra_threads=threads
    )
    pieces = json.loads((folder / "pieces.json").read_text())

    def translate(batch: list[list[int]]) -> int:
        rows = [[pieces[token] for token in row] for row in batch]
        length = {"min_decoding_length": FORCED, "max_decoding_length": FORCED}
        found = translator.translate_batch(
            rows, beam_size=beam, **(length if is_forced else {"max_decoding_length": len(rows[0]) + 50})
        )
        return sum(len(result.hypotheses[0]) + (not is_forced) for result in found)

    return translate


def ctranslate2_int8(folder: Path, beam: int, is_forced: bool, threads: int) -> Translate:
    return ctranslate2(folder, beam, is_forced, threads, "int8")


SYSTEMS = {
    "ours": ours,
    "hf": hugging_face,
    "ct2": ctranslate2,
    "ours bfloat16": ours_bfloat16,
    "ct2 int8": ctranslate2_int8,
}


# The same weights for all


def config_of(folder: Path) -> Any:
    from transformer.config import ModelConfig

    return ModelConfig(**json.loads((folder / "ours.json").read_text()))


def their_id(token: int, vocab_size: int) -> int:
    """Marian's ids of ours: EOS 0, unk 1, pad last, BOS, which it lacks, before; the others in order."""
    return {0: vocab_size - 1, 1: vocab_size - 2, 2: 0, 3: 1}.get(token, token - 2)


def prepare(run: str | None, size: str, folder: Path) -> Path:
    """A folder with the model in every system's form and the sources as ids."""
    from dataclasses import asdict

    import torch

    from transformer.config import ModelConfig
    from transformer.data.corpus import load_parallel
    from transformer.data.text import read_lines
    from transformer.data.tokenizer import EOS_ID, train_tokenizer
    from transformer.decoding.pretrained import load_pretrained
    from transformer.model.build import build_model

    folder.mkdir()
    torch.manual_seed(1)
    if run:
        model, tokenizer, settings = load_pretrained(run, task="translation", device="cpu")
        config, names = settings.model, settings.data
        sources = list(load_parallel(str(names.test), names.source, names.target)["source"])
    else:
        data = Path(os.environ["TRANSFORMER_DATA"]) / "multi30k"
        lines = [line for name in ("train.en", "train.de") for line in read_lines(data / name)]
        tokenizer = train_tokenizer(lines, vocab_size=VOCABULARY, normalization="nmt_nfkc")
        config = ModelConfig(
            **SIZES[size], vocab_size=VOCABULARY, attention_bias=True, output_bias=True, norm_epsilon=1e-5
        )
        model = build_model(config)
        sources = list(read_lines(data / "test_2016_flickr.en"))
    ids = [[*row, EOS_ID] for row in tokenizer.encode(sources)]
    (folder / "sources.json").write_text(json.dumps(ids))
    (folder / "ours.json").write_text(json.dumps(asdict(config)))
    torch.save(model.state_dict(), folder / "ours.pt")
    save_marian(model, tokenizer, config, folder)
    convert_to_ctranslate2(folder)
    return folder


def save_marian(model: Any, tokenizer: Any, config: Any, folder: Path) -> None:
    import torch
    from transformers import MarianMTModel

    from transformer.convert.marian_names import interleaved, layer_weights
    from transformer.selftest.hugging_face import marian_config

    theirs: Any = MarianMTModel(
        marian_config(
            config,
            activation_function=config.activation,
            eos_token_id=0,
            forced_eos_token_id=None,
            pad_token_id=config.vocab_size - 1,
            decoder_start_token_id=config.vocab_size - 2,
        )
    )
    rows = torch.tensor([their_id(token, config.vocab_size) for token in range(config.vocab_size)]).argsort()
    channels = interleaved(config.d_model).argsort()
    weights = model.state_dict()
    state = theirs.state_dict()
    for part in layer_weights(config.num_layers):
        weight = weights.get(part.ours, torch.zeros_like(state[part.theirs]))  # a bias that ours lacks
        is_permuted = part.channels is not None
        state[part.theirs] = weight.index_select(part.channels, channels) if is_permuted else weight
    state["model.shared.weight"] = weights["output.weight"][rows][:, channels]
    bias = weights.get("output.bias", torch.zeros(config.vocab_size))
    state["final_logits_bias"] = bias[rows][None]
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    theirs.save_pretrained(folder)
    with torch.no_grad():
        check(model, theirs.eval())
    model_bytes = tokenizer.processor.serialized_model_proto()
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(model_bytes)
    pieces = [tokenizer.processor.id_to_piece(token) for token in range(config.vocab_size)]
    pieces[0], pieces[1], pieces[2], pieces[3] = "<pad>", "<s>", "</s>", "<unk>"
    (folder / "pieces.json").write_text(json.dumps(pieces))
    (folder / "vocab.json").write_text(
        json.dumps({piece: their_id(i, len(pieces)) for i, piece in enumerate(pieces)})
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"})
    )


def check(model: Any, theirs: Any) -> None:
    """The two agree on the logits of a sentence."""
    import torch

    vocab_size = theirs.config.vocab_size
    source, target = torch.tensor([[7, 30, 99, 2]]), torch.tensor([[1, 8, 12]])
    ids = [torch.tensor([[their_id(int(token), vocab_size) for token in row[0]]]) for row in (source, target)]
    logits = theirs(input_ids=ids[0], decoder_input_ids=ids[1]).logits
    order = torch.tensor([their_id(token, vocab_size) for token in range(vocab_size)])
    torch.testing.assert_close(logits[:, :, order], model.eval()(source, target), rtol=1e-3, atol=1e-3)


def convert_to_ctranslate2(folder: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"))
