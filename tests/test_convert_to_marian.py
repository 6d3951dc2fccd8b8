"""Our runs as Marian folders: the same logits, the same pieces, and the same run when converted back."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import tiny_settings
from helpers import assert_close, random_rows, right_padded

from transformer.checkpoint.format import MODEL
from transformer.checkpoint.run import Run
from transformer.checkpoint.writing import write_checkpoint
from transformer.cli import main
from transformer.config import ModelConfig
from transformer.config.files import save_settings
from transformer.convert.common import ConversionError
from transformer.convert.marian import from_marian
from transformer.convert.marian_export import marian_weights, to_marian
from transformer.convert.marian_folder import MarianFolder
from transformer.convert.marian_names import interleaved
from transformer.data.tokenizers.characters import train_character_tokenizer
from transformer.data.tokenizers.moses import train_moses_tokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.decoding.translator import Translator
from transformer.model.build import build_model
from transformer.toyland import generate

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed, so there is no Marian to compare with"
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by transformers itself
]

PAIRS = [pair for pair, _ in zip(generate("train", 60), range(60), strict=False)]
SIZES = {
    "d_model": 16,
    "num_heads": 2,
    "d_ff": 24,
    "num_layers": 2,
    "max_positions": 64,
    "norm_epsilon": 1e-5,
}
TYPES = {
    "the paper's": {},
    "biases": {"attention_bias": True, "output_bias": True},
    "embeddings of each side": {"tie_embeddings": False, "activation": "gelu"},
    "marian's positions": {"positions": "tensor2tensor", "norm_epsilon": 1e-6, "attention_bias": True},
    "silu": {"activation": "silu", "output_bias": True},
}


def make_run(folder: Path, tokenizer=None, kind: str = "sentencepiece", **changes: object) -> Path:
    """A run with random weights."""
    if tokenizer is None:
        lines = [line for pair in PAIRS for line in (pair.source, pair.target)]
        tokenizer = train_tokenizer(lines, vocab_size=360, normalization="identity")
    config = ModelConfig(**{**SIZES, "vocab_size": tokenizer.vocab_size, **changes})
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    run = Run(folder)
    tensors = {MODEL: dict(model.named_parameters())}
    write_checkpoint(run.checkpoint(1), tensors=tensors, state={"step": 1}, tokenizer_hash=tokenizer.digest)
    settings = tiny_settings(folder, data={"tokenizer": kind})
    save_settings(replace(settings, model=config), run.config)
    tokenizer.save(run.tokenizer)
    run.mark("best", run.checkpoint(1))
    return folder


def load_theirs(folder: Path):
    """Hugging Face's model; the folder must contain all of its weights."""
    transformers.utils.logging.disable_progress_bar()
    load = transformers.MarianMTModel.from_pretrained
    model, info = load(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def batch(vocab_size: int):
    src_tokens = right_padded(random_rows(17, 5, 1, vocab_size=vocab_size))
    return src_tokens, right_padded(random_rows(3, 13, 8, first=BOS_ID, vocab_size=vocab_size))


@torch.no_grad()
def logits(model, src_tokens, tgt_tokens):
    """Logits of our model or theirs, at positions that are not padding."""
    if isinstance(model, transformers.MarianMTModel):
        mask = (src_tokens != PAD_ID).long()
        output = model(input_ids=src_tokens, attention_mask=mask, decoder_input_ids=tgt_tokens).logits
    else:
        output = model(src_tokens, tgt_tokens)
    return output[tgt_tokens != PAD_ID]


@pytest.mark.parametrize("name", TYPES)
def test_logits_are_equal_there_and_back(name, tmp_path):
    said: list[str] = []
    run = make_run(tmp_path / "run", **TYPES[name])
    folder = to_marian(run, tmp_path / "marian", say=said.append)
    assert said[0].startswith("largest difference from the run's logits: ")
    ours = Translator.from_pretrained(run, device="cpu")
    tokens = batch(ours.config.vocab_size)
    expected = logits(ours.model, *tokens)
    assert_close(logits(load_theirs(folder), *tokens), expected, rtol=0, atol=1e-4)

    back = Translator.from_pretrained(from_marian(folder, tmp_path / "back"), device="cpu")
    assert_close(logits(back.model, *tokens), expected, rtol=0, atol=1e-4)
    changed = {"attention_bias": True, "output_bias": True}  # Marian always has these biases
    assert back.config == replace(ours.config, **changed)
    lines = [pair.source for pair in PAIRS[:9]]
    assert back.tokenizer.encode(lines) == ours.tokenizer.encode(lines)
    assert back.tokenizer.pieces == ours.tokenizer.pieces


def test_a_marian_folder_comes_back_with_its_logits(tmp_path):
    """export(import(folder)), with two SentencePiece models and with pad as BOS, as in OPUS-MT models."""
    sides = [[pair.source for pair in PAIRS], [pair.target for pair in PAIRS]]
    folder = to_marian(make_run(tmp_path / "run", attention_bias=True), tmp_path / "opus")
    target = train_tokenizer(sides[1], vocab_size=330, normalization="identity")
    (folder / "target.spm").write_bytes(target.processor.serialized_model_proto())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": PAD_ID}))

    imported = from_marian(folder, tmp_path / "imported", trained_with="transformers")
    again = to_marian(imported, tmp_path / "again")
    tokenizer = Translator.from_pretrained(imported, device="cpu").tokenizer
    ids = torch.tensor(tokenizer.marian_ids)
    src_tokens, tgt_tokens = batch(len(ids))
    real = tgt_tokens != PAD_ID
    with torch.no_grad():
        mask = (src_tokens != PAD_ID).long()
        expected = load_theirs(folder)(ids[src_tokens], mask, ids[tgt_tokens]).logits[real]
    found = logits(load_theirs(again), src_tokens, tgt_tokens)
    assert_close(found[:, EOS_ID:], expected[:, ids[EOS_ID:]], rtol=0, atol=1e-4)

    theirs = transformers.MarianTokenizer.from_pretrained(again)
    sources, targets = tokenizer.encode(sides[0]), tokenizer.encode_target(sides[1])
    assert theirs(sides[0])["input_ids"] == [[*row, EOS_ID] for row in sources]
    assert theirs(text_target=sides[1])["input_ids"] == [[*row, EOS_ID] for row in targets]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """A run and the Marian folder that it was converted to."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("pair")
    run = make_run(folder / "run", output_bias=True)
    return run, to_marian(run, folder / "marian")


def test_marians_tokenizer_has_our_pieces_and_ids(pair):
    run, folder = pair
    ours = Translator.from_pretrained(run, device="cpu").tokenizer
    theirs = transformers.MarianTokenizer.from_pretrained(folder)
    lines = [
        *(pair.source for pair in PAIRS[:20]),
        "",
        "a  b ",
        " leading",
        "Größe ☃ 漢字",
        "tab\there",
        "ﬁne ½ ①",
    ]
    expected = [[*row, EOS_ID] for row in ours.encode(lines)]
    assert theirs(lines)["input_ids"] == expected
    assert theirs(text_target=lines)["input_ids"] == expected
    texts = [text.strip() for text in ours.decode(expected)]
    assert (
        theirs.batch_decode([[BOS_ID, *row, PAD_ID] for row in expected], skip_special_tokens=True) == texts
    )
    special = (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id)
    assert special == (0, 1, 2, 3)


def test_marian_generates_what_we_translate(tmp_path):
    run = make_run(tmp_path / "run", tie_embeddings=False, output_bias=True)
    folder = to_marian(run, tmp_path / "marian")
    ours, theirs = Translator.from_pretrained(run, device="cpu"), load_theirs(folder)
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    for line in ("The old man", "a", "Is the house old?"):
        (translation,) = ours.translate_n_best([line], n_best=1, beam_size=1)[0]
        inputs = tokenizer(line, return_tensors="pt")
        limit = inputs["input_ids"].shape[1] + ours.decoding.max_extra
        (row,) = theirs.generate(**inputs, num_beams=1, max_new_tokens=limit, max_length=None).tolist()
        assert row[0] == BOS_ID
        assert [number for number in row[1:] if number != EOS_ID] == translation.tokens


def test_channels_go_back_by_the_inverse_permutation():
    model = build_model(ModelConfig(**SIZES, vocab_size=11))
    weights = marian_weights(model.state_dict(), model_config := ModelConfig(**SIZES, vocab_size=11))
    assert weights["model.shared.weight"][:, interleaved(model_config.d_model)].equal(model.output.weight)
    assert not weights["model.shared.weight"].equal(model.output.weight)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"norm": "pre"}, "model.norm is pre; Marian has only post"),
        (
            {"positions": "learned"},
            "model.positions is learned; Marian has only sinusoidal and tensor2tensor",
        ),
        ({"d_k": 4}, "model.d_k is 4; Marian has only 8"),
        ({"d_v": 4}, "model.d_v is 4; Marian has only 8"),
        ({"norm_epsilon": 0.5}, "model.norm_epsilon is 0.5, but transformers always uses 1e-05"),
    ],
)
def test_what_marian_lacks_is_refused_by_name(changes, line, tmp_path, capsys):
    run = make_run(tmp_path / "run", **changes)
    output = tmp_path / "new" / "marian"
    assert main(["convert", "--run", str(run), "--to", "marian", "--output", str(output)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # the last line; a comparison may come before it
    assert error.startswith("transformer convert: error: ")
    assert error.endswith(line)
    assert not list(tmp_path.glob("new/*"))


def test_other_tokenizers_are_refused(tmp_path):
    sources, targets = ([getattr(pair, side) for pair in PAIRS] for side in ("source", "target"))
    moses = train_moses_tokenizer(sources, targets, vocab_size=360, source="en", target="de")
    for kind, tokenizer in (("characters", train_character_tokenizer(["abc def"])), ("moses", moses)):
        run = make_run(tmp_path / kind, tokenizer, kind)
        expected = rf"data\.tokenizer is {kind}; Marian has only sentencepiece"
        with pytest.raises(ConversionError, match=expected):
            to_marian(run, tmp_path / "marian")


def test_the_settings_and_the_command(pair, tmp_path, capsys):
    run, _ = pair
    output = tmp_path / "marian"
    assert main(["convert", "--run", str(run), "--to", "marian", "--output", str(output)]) == 0
    assert capsys.readouterr().err.endswith(f"converted model: {output}\n")
    config = transformers.AutoConfig.from_pretrained(output)
    assert (config.model_type, config.encoder_layers, config.decoder_ffn_dim) == ("marian", 2, 24)
    assert config.forced_eos_token_id is None
    generation = transformers.GenerationConfig.from_pretrained(output)
    assert (generation.num_beams, generation.length_penalty, generation.max_length) == (2, 0.6, 64)
    assert generation.decoder_start_token_id == BOS_ID
    assert MarianFolder(output).languages() == {"source": "en", "target": "de"}


def test_an_existing_folder_is_left_alone(pair, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConversionError, match="exists already"):
        to_marian(pair[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_transformers_one_line_says_how_to_get_it(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    output = tmp_path / "marian"
    assert main(["convert", "--run", str(pair[0]), "--to", "marian", "--output", str(output)]) == 2
    assert "error: transformers is not installed; install the extra" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", "say either --from marian DIR RUN, or --run RUN --to marian|ctranslate2 --output DIR"),
        ("--from marian a b --to marian", "say either --from marian"),
        ("--from marian a", "--from needs RUN, which is missing"),
        ("--to marian --run x", "--to needs --output, which is missing"),
        ("--to ctranslate2 --run x --output y z", "--to takes no DIR (z)"),
        ("--from marian a b --output y", "--from takes no --output (y)"),
        ("--to marian --run x --output y --quantization int8", "--quantization is for --to ctranslate2"),
        ("--to marian --run x --output y --trained-with marian", "--trained-with is for --from marian"),
        ("--to onnx --run x --output y", "invalid choice: 'onnx'"),
        ("--to marian --run nowhere --output y", "nowhere: neither a run's folder with a checkpoint"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_one_line(
    arguments, line, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
