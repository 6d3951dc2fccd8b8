"""How fast translations are found: ours, Hugging Face and CTranslate2 with the same weights.

    TRANSFORMER_DATA=FOLDER python benchmarks/decoding.py [--sizes small base] [--run RUN] [--beams 1 4]

Translates Multi30k's test_2016_flickr. With `--run`, a run of a model with biases in its attention and output
and V 10,000, lengths are natural; without, weights are random and every output has exactly 15 tokens. Prints
output tokens a second, EOS included, and the peak memory; each figure is measured in a process of its own. A
batch is a number of sentences or, with a t, of source tokens, padding and beam included; sources are sorted
by length. `--start RUN` prints how long `transformer translate` takes from its start for one line, beside
`import torch`; `--curve` how long a token takes when outputs are 15, 60, 240 and 960 tokens long.
Needs `pip install transformers ctranslate2`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--run", help="a trained run of a model with biases: natural lengths")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--batches", nargs="+", default=["1", "32", "2048t", "8192t"])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=4.0, help="most time for a row, once warm")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each system")
    parser.add_argument("--start", metavar="RUN", help="only measure the start of `transformer translate`")
    parser.add_argument("--curve", action="store_true", help="only measure a token's time by length")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(**json.loads(options.row))))
        return
    if options.start:
        print_start(options.start)
        return
    if options.curve:
        print_curve(options.sizes, options.beams, options.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        for size in ["run"] if options.run else options.sizes:
            marian = prepare(options.run, size, Path(folder) / size)
            print(f"\n{size}, lengths {'natural' if options.run else FORCED}: {versions(options.threads)}")
            for beam in options.beams:
                for batch in options.batches:
                    print_row(options, marian, beam, batch)


def print_start(run: str) -> None:
    """The median of seven starts each, in turn."""
    translate = [sys.executable, "-m", "transformer", "translate", "--run", run]
    commands = {"import torch": [sys.executable, "-c", "import torch"], "translate": translate}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(8):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, input=b"A man sleeps .\n", stdout=subprocess.DEVNULL, check=True)
            spent[name].append(time.perf_counter() - start)
    medians = {name: sorted(times[1:])[3] for name, times in spent.items()}
    ratio = medians["translate"] / medians["import torch"]
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items()), f"({ratio:.2f} ×)")


def print_curve(sizes: list[str], beams: list[int], threads: int) -> None:
    import torch

    from transformer.config import ModelConfig
    from transformer.decoding.packed import pack_linear_layers
    from transformer.decoding.processors import MinLength
    from transformer.decoding.search import beam_search
    from transformer.model.build import build_model

    torch.set_num_threads(threads)
    for size in sizes:
        model = build_model(ModelConfig(**SIZES[size], vocab_size=VOCABULARY)).eval()
        pack_linear_layers(model)
        sources = torch.randint(4, VOCABULARY, (8, 20))
        for beam in beams:
            for length in (15, 60, 240, 960):
                options = {"beam_size": beam, "alpha": 0.6, "processors": [MinLength(length, 2)]}
                beam_search(model, sources, max_length=5, **options)
                start = time.perf_counter()
                beam_search(model, sources, max_length=length, **options)
                step = 1000 * (time.perf_counter() - start) / length
                print(f"{size}, 8 sentences, beam {beam}, {length} tokens: {step:.2f} ms a step", flush=True)


def print_row(options: argparse.Namespace, marian: Path, beam: int, batch: str) -> None:
    found = {}
    for system in options.systems:
        row = {"system": system, "folder": str(marian), "beam": beam, "batch": batch}
        row |= {"is_forced": not options.run, "seconds": options.seconds, "threads": options.threads}
        command = [sys.executable, __file__, "--row", json.dumps(row)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        found[system] = json.loads(done.stdout.splitlines()[-1])
    rates = ", ".join(f"{name} {row['rate']:,.0f} ({row['memory']:,.0f} MB)" for name, row in found.items())
    ratios = [
        f"{found['ours']['rate'] / found[name]['rate']:.2f} × {name}"
        for name in found
        if name != "ours" and "ours" in found
    ]
    print(f"beam {beam}, batch {batch}: {rates}; ours is {', '.join(ratios)}", flush=True)


def versions(threads: int) -> str:
    import ctranslate2
    import torch
    import transformers

    return (
        f"{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, ctranslate2 {ctranslate2.__version__}"
    )


def measure(
    system: str, folder: str, beam: int, batch: str, is_forced: bool, seconds: float, threads: int
) -> dict[str, float]:
    """Output tokens a second over whole batches, spread evenly over the file, and peak memory in MB."""
    sources = json.loads((Path(folder) / "sources.json").read_text())
    batches = list(in_batches(sources, batch, beam))
    translate = SYSTEMS[system](Path(folder), beam, is_forced, threads)
    for index in (0, -1):
        translate(batches[index])  # warm
    order = sorted(range(len(batches)), key=lambda number: (number * 0.618034) % 1)
    tokens, start = 0, time.perf_counter()
    for number in order:
        tokens += translate(batches[number])
        if time.perf_counter() - start > seconds:
            break
    spent = time.perf_counter() - start
    return {"rate": tokens / spent, "memory": peak_memory()}


def peak_memory() -> float:
    """Of this program since it started, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_batches(sources: list[list[int]], batch: str, beam: int) -> Iterator[list[list[int]]]:
    rest = sorted(sources, key=len, reverse=True)
    while rest:
        budget = int(batch.removesuffix("t"))
        size = max(1, budget // (len(rest[0]) * beam)) if batch.endswith("t") else budget
        yield rest[:size]
        rest = rest[size:]


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
    pad, to_theirs = model.config.pad_token_id, their_id

    def translate(batch: list[list[int]]) -> int:
        rows = [torch.tensor([to_theirs(token) for token in row]) for row in batch]
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


def their_id(token: int) -> int:
    """Marian's ids of ours: EOS 0, unk 1, pad last, BOS, which it lacks, before; the others in order."""
    return {0: VOCABULARY - 1, 1: VOCABULARY - 2, 2: 0, 3: 1}.get(token, token - 2)


def prepare(run: str | None, size: str, folder: Path) -> Path:
    """A folder with the model in every system's form and the sources as ids."""
    from dataclasses import asdict

    import torch

    from transformer.config import ModelConfig
    from transformer.data.text import read_lines
    from transformer.data.tokenizer import EOS_ID, train_tokenizer
    from transformer.decoding.translator import Translator
    from transformer.model.build import build_model

    folder.mkdir()
    data = Path(os.environ["TRANSFORMER_DATA"]) / "multi30k"
    torch.manual_seed(1)
    if run:
        translator = Translator.from_pretrained(run, device="cpu")
        model, tokenizer, config = translator.model, translator.tokenizer, translator.config
    else:
        lines = [line for name in ("train.en", "train.de") for line in read_lines(data / name)]
        tokenizer = train_tokenizer(lines, vocab_size=VOCABULARY, normalization="nmt_nfkc")
        config = ModelConfig(
            **SIZES[size], vocab_size=VOCABULARY, attention_bias=True, output_bias=True, norm_epsilon=1e-5
        )
        model = build_model(config)
    sources = tokenizer.encode(list(read_lines(data / "test_2016_flickr.en")))
    (folder / "sources.json").write_text(json.dumps([[*ids, EOS_ID] for ids in sources]))
    (folder / "ours.json").write_text(json.dumps(asdict(config)))
    torch.save(model.state_dict(), folder / "ours.pt")
    save_marian(model, tokenizer, config, folder)
    convert_to_ctranslate2(folder)
    return folder


def save_marian(model: Any, tokenizer: Any, config: Any, folder: Path) -> None:
    import torch
    from transformers import MarianConfig, MarianMTModel

    from transformer.convert.marian_names import interleaved, layer_weights

    theirs: Any = MarianMTModel(
        MarianConfig(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            encoder_layers=config.num_layers,
            decoder_layers=config.num_layers,
            encoder_attention_heads=config.num_heads,
            decoder_attention_heads=config.num_heads,
            encoder_ffn_dim=config.d_ff,
            decoder_ffn_dim=config.d_ff,
            activation_function=config.activation,
            scale_embedding=True,
            eos_token_id=0,
            forced_eos_token_id=None,
            pad_token_id=config.vocab_size - 1,
            decoder_start_token_id=config.vocab_size - 2,
        )
    )
    rows = torch.tensor([their_id(token) for token in range(config.vocab_size)]).argsort()
    channels = interleaved(config.d_model).argsort()
    weights = model.state_dict()
    state = {
        part.theirs: weights[part.ours].index_select(part.channels, channels)
        if part.channels is not None
        else weights[part.ours]
        for part in layer_weights(config.num_layers)
    }
    state["model.shared.weight"] = weights["output.weight"][rows][:, channels]
    state["final_logits_bias"] = weights["output.bias"][rows][None]
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
    (folder / "vocab.json").write_text(json.dumps({piece: their_id(i) for i, piece in enumerate(pieces)}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"})
    )


def check(model: Any, theirs: Any) -> None:
    """The two agree on the logits of a sentence."""
    import torch

    source, target = torch.tensor([[7, 30, 99, 2]]), torch.tensor([[1, 8, 12]])
    ids = [torch.tensor([[their_id(int(token)) for token in row[0]]]) for row in (source, target)]
    logits = theirs(input_ids=ids[0], decoder_input_ids=ids[1]).logits
    order = torch.tensor([their_id(token) for token in range(logits.shape[2])])
    torch.testing.assert_close(logits[:, :, order], model.eval()(source, target), rtol=1e-3, atol=1e-3)


def convert_to_ctranslate2(folder: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"))


if __name__ == "__main__":
    main()
