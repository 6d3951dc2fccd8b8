"""Marian folders with random weights and real SentencePiece models become runs with the same behaviour."""

import io
import json
import math
import shutil
from itertools import islice
from pathlib import Path

import pytest
import sentencepiece
import torch
from helpers import assert_close
from safetensors.torch import load_file, save_file

from transformer.checkpoint.run import Run, find_run
from transformer.cli import main
from transformer.config.files import load_settings
from transformer.convert.common import ConversionError
from transformer.convert.marian import from_marian
from transformer.convert.marian_export import to_marian
from transformer.convert.marian_names import interleaved
from transformer.convert.marian_programs import PROGRAMS, Program
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID
from transformer.decoding.translator import Translator
from transformer.toyland import generate

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed, so there is no Marian to compare with"
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by transformers itself
]

PAIRS = list(islice(generate("train", 300), 300))
LINES = [
    *(pair.source for pair in PAIRS[:40]),
    "",
    "a  b   c ",
    " leading and trailing ",
    "Größe ☃ 漢字 unknown characters",
    ">>de<< The old man buys a red apple.",
    ">>xx<< no such language",
    ">>not closed",
    "ﬁne ½ ① full-width ＡＢＣ",
    "tab\there",
]
TYPES = {
    "opus": {},
    "relu": {"activation_function": "relu"},
    "output matrix of its own": {"tie_word_embeddings": False},
    "embeddings of each side": {"share_encoder_decoder_embeddings": False},
    "unscaled embeddings": {"scale_embedding": False},
}


def spm(lines: list[str], vocab_size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        model_type="unigram",
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a tokenizer, in Marian's format: EOS 0, unk 1, pad last."""
    folder = tmp_path_factory.mktemp("marian-tokenizer")
    pieces: dict[str, None] = {}
    for name, lines in (("source", [p.source for p in PAIRS]), ("target", [p.target for p in PAIRS])):
        model = spm(lines, 120)
        (folder / f"{name}.spm").write_bytes(model)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces |= dict.fromkeys(processor.id_to_piece(list(range(processor.vocab_size()))))
    # One real piece is left out, because Marian's vocabulary may lack pieces of the SentencePiece models.
    rare = {"<unk>", "<s>", "</s>", "▁a"}
    ordered = ["</s>", "<unk>", ">>de<<", *(piece for piece in pieces if piece not in rare), "<pad>"]
    vocabulary = {piece: number for number, piece in enumerate(ordered)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    languages = {"source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(languages), encoding="utf-8")
    return folder


def make_folder(folder: Path, texts: Path, **changes: object) -> Path:
    """A Marian folder in which all weights are random, including final_logits_bias and LayerNorm."""
    shutil.copytree(texts, folder)
    pad = len(json.loads((texts / "vocab.json").read_text())) - 1
    values = {
        "vocab_size": pad + 1,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "d_model": 32,
        **{f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")},
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 64,
        "activation_function": "swish",
        "scale_embedding": True,
        "forced_eos_token_id": None,
        "num_beams": None,
    }
    config = transformers.MarianConfig(**{**values, **changes})
    torch.manual_seed(3)
    model = transformers.MarianMTModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.15 * torch.randn_like(parameter))
        model.final_logits_bias.normal_()
        model.final_logits_bias[0, 0] += 3.6  # some translations end, after 4 to 53 tokens, and some do not
    quietly(model.save_pretrained)(folder)
    generation = {"num_beams": 3, "bad_words_ids": [[pad]], "max_length": 512}
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **generation}))
    return folder


def quietly(function):
    transformers.utils.logging.disable_progress_bar()
    return function


@pytest.fixture(scope="session")
def marian(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("marian") / "opus", texts)


@pytest.fixture(scope="session")
def run(marian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return from_marian(marian, tmp_path_factory.mktemp("runs") / "opus")


@pytest.fixture
def broken(marian: Path, tmp_path: Path) -> Path:
    """A copy of the Marian folder, to be damaged by the test."""
    return Path(shutil.copytree(marian, tmp_path / "broken"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load_theirs(folder: Path):
    model = quietly(transformers.MarianMTModel.from_pretrained)(folder, dtype=torch.float32)
    return model.eval()


def compute_as_marian(model) -> None:
    """Marian's positions, as its `sinusoidalPositionEmbeddings` has them, and its ε."""
    for stack in (model.model.encoder, model.model.decoder):
        length, width = stack.embed_positions.weight.shape
        increment = math.log(10_000) / (width // 2 - 1)
        angles = torch.arange(length)[:, None] * torch.exp(-increment * torch.arange(width // 2))
        stack.embed_positions.weight.data = torch.cat((angles.sin(), angles.cos()), dim=1)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


@pytest.mark.parametrize("program", ["marian", "transformers", None])
@pytest.mark.parametrize("name", TYPES)
def test_logits_are_equal(name, program, texts, tmp_path):
    folder = make_folder(tmp_path / "marian", texts, **TYPES[name])
    said: list[str] = []
    run = from_marian(folder, tmp_path / "run", trained_with=program, say=said.append)
    expected = f"positions and ε are those of {program or 'marian'}; --trained-with chooses the program"
    assert said[0] == expected
    assert "largest difference" in said[1]
    translator = Translator.from_pretrained(run, device="cpu")
    ids = torch.tensor(translator.tokenizer.marian_ids)
    src_tokens = torch.randint(4, len(ids), (5, 17))
    tgt_tokens = torch.randint(4, len(ids), (5, 13))
    tgt_tokens[:, 0] = BOS_ID
    for row, (source, target) in enumerate(((17, 3), (5, 13), (1, 1), (9, 8), (16, 12))):
        src_tokens[row, source:], tgt_tokens[row, target:] = PAD_ID, PAD_ID
    model = load_theirs(folder)
    if program != "transformers":
        compute_as_marian(model)
    with torch.no_grad():
        ours = translator.model(src_tokens, tgt_tokens)
        theirs = model(
            input_ids=ids[src_tokens],
            attention_mask=(src_tokens != PAD_ID).long(),
            decoder_input_ids=ids[tgt_tokens],
        ).logits
    real = tgt_tokens != PAD_ID
    assert_close(ours[real][:, EOS_ID:], theirs[real][:, ids[EOS_ID:]], rtol=0, atol=1e-4)
    assert (ours[:, :, :EOS_ID] < -9_000).all()  # pad and BOS are never produced


def test_channels_are_a_permutation_that_interleaves_sines_and_cosines():
    assert interleaved(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert interleaved(512).argsort()[interleaved(512)].equal(torch.arange(512))


def test_pieces_and_ids_are_marians(marian, run):
    theirs = transformers.MarianTokenizer.from_pretrained(marian)
    ours = load_tokenizer(Run(run).tokenizer)
    to_marian = ours.marian_ids
    expected = theirs(LINES)["input_ids"]
    assert [[to_marian[number] for number in [*row, EOS_ID]] for row in ours.encode(LINES)] == expected
    targets = [*(pair.target for pair in PAIRS[:40]), "Größe ☃"]
    expected = theirs(text_target=targets)["input_ids"]
    encoded = ours.encode_target(targets)
    assert [[to_marian[number] for number in [*row, EOS_ID]] for row in encoded] == expected
    texts = theirs.batch_decode(expected, skip_special_tokens=True)
    assert ours.decode([[BOS_ID, *row, EOS_ID, PAD_ID] for row in encoded]) == texts
    assert {row.count(theirs.unk_token_id) > 0 for row in expected} == {True, False}


def test_special_tokens_in_a_line_are_text(run):
    for row in load_tokenizer(Run(run).tokenizer).encode(["</s> <pad> <s> <unk>"]):
        assert not {PAD_ID, BOS_ID, EOS_ID} & set(row)


def test_a_tokenizer_is_loaded_as_it_was_saved(run, tmp_path):
    tokenizer = load_tokenizer(Run(run).tokenizer)
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert (again.digest, again.pieces, again.marian_ids, again.encode(LINES)) == (
        tokenizer.digest,
        tokenizer.pieces,
        tokenizer.marian_ids,
        tokenizer.encode(LINES),
    )
    (tmp_path / "again/target.spm").write_bytes((tmp_path / "again/source.spm").read_bytes())
    assert load_tokenizer(tmp_path / "again").digest != tokenizer.digest


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("source.spm", b"\x00none", "source.spm is not a SentencePiece model"),
        ("vocabulary.json", b"{}", "not a vocabulary"),
        ("vocabulary.json", b"[" * 100_000, "not a vocabulary"),
        ("vocabulary.json", b'{"pieces": ["a"], "marian_ids": [1]}', "special tokens"),
        ("target.spm", None, "No such file"),
    ],
)
def test_a_damaged_tokenizer_is_refused(name, content, line, run, tmp_path):
    folder = Path(shutil.copytree(Run(run).tokenizer, tmp_path / "tokenizer.model"))
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=line):
        load_tokenizer(folder)


def test_greedy_translations_are_marians(texts, tmp_path, monkeypatch, capsysbinary):
    # Untied output matrix: with a tied one, a random model keeps repeating its first token.
    folder = make_folder(tmp_path / "marian", texts, tie_word_embeddings=False)
    run = from_marian(folder, tmp_path / "run", trained_with="transformers")
    theirs, tokenizer = load_theirs(folder), transformers.MarianTokenizer.from_pretrained(folder)
    lines = [pair.source for pair in PAIRS[:30]]
    expected, ended = [], 0
    for line in lines:
        inputs = tokenizer(line, return_tensors="pt")
        limit = min(inputs["input_ids"].shape[1] + 50, 64)
        output = theirs.generate(
            **inputs, num_beams=1, do_sample=False, max_new_tokens=limit, max_length=None
        )
        ended += int(output[0, -1] == 0)
        expected += tokenizer.batch_decode(output, skip_special_tokens=True)
    assert 0 < ended < len(lines)
    assert len(set(expected)) > 5
    stdin = io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in lines).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["translate", "--run", str(run), "--beam-size", "1", "--device", "cpu"]) == 0
    assert capsysbinary.readouterr().out.decode().splitlines() == expected


def test_the_settings_are_taken_over(run):
    settings = load_settings(run / "config.yaml")
    model, data = settings.model, settings.data
    assert (model.positions, model.norm_epsilon) == ("tensor2tensor", 1e-6)
    assert (model.activation, model.dropout, model.max_positions) == ("silu", 0.1, 64)
    assert (data.source, data.target, data.max_tokens) == ("en", "de", 64)
    assert (settings.decoding.beam_size, settings.decoding.alpha) == (3, 0.6)
    assert model.vocab_size == load_settings(run / "config.yaml").data.vocab_size
    assert find_run(run)[1] == Run(run).marked("last") == Run(run).checkpoint(0)


def test_the_command_chooses_the_numbers(marian, tmp_path, capsys):
    arguments = ["convert", "--from", "marian", str(marian), str(tmp_path / "run")]
    assert main([*arguments, "--trained-with", "transformers"]) == 0
    assert "positions and ε are those of transformers" in capsys.readouterr().err
    model = load_settings(tmp_path / "run/config.yaml").model
    assert (model.positions, model.norm_epsilon) == ("sinusoidal", 1e-5)


def test_hugging_faces_files_come_first(broken, run, tmp_path):
    """A folder may have the model that it was converted from as well."""
    (broken / "model.npz").write_bytes(b"not read")
    assert weights_of(from_marian(broken, tmp_path / "run")).keys() == weights_of(run).keys()


def test_the_run_can_be_evaluated(run, capsys):
    arguments = ["--data", "toyland:test[:5]", "--beam-size", "1", "--json", "--device", "cpu"]
    assert main(["evaluate", "--run", str(run), *arguments]) == 0
    assert "bleu" in json.loads(capsys.readouterr().out)


REFUSED = [
    ({"normalize_before": True}, "normalize_before is true; only false can be converted"),
    ({"normalize_embedding": True}, "normalize_embedding is true"),
    ({"static_position_embeddings": False}, "static_position_embeddings is false; only true"),
    ({"activation_function": "tanh"}, 'activation_function is "tanh"; only relu, gelu, silu, swish'),
    ({"activation_function": ["relu"]}, "activation_function is"),
    ({"encoder_layers": 3}, "encoder_layers 3, but decoder_layers 2; only stacks of equal sizes"),
    ({"decoder_attention_heads": 4}, "encoder_attention_heads 2, but decoder_attention_heads 4"),
    ({"encoder_ffn_dim": 64}, "encoder_ffn_dim 64, but decoder_ffn_dim 48"),
    ({"d_model": 31}, "model.d_model 31 is not a multiple of model.num_heads 2"),
    ({"d_model": 64}, r"has shape \(32, 32\), but its settings say \(64, 64\)"),
    ({"d_model": "32"}, 'd_model is "32"; it must be a whole number'),
    ({"d_model": 10**12}, "d_model is 1000000000000; it must be a whole number from 1 to 1000000"),
    ({"encoder_layers": 10**6, "decoder_layers": 10**6}, "lacks model.encoder.layers.2.self_attn"),
    ({"encoder_layers": 1, "decoder_layers": 1}, "layers.1.*cannot be converted"),
    ({"dropout": 2}, "dropout is 2; it must be at least 0 and less than 1"),
    ({"scale_embedding": None}, "scale_embedding is null; it must be true or false"),
    ({"model_type": "bart"}, 'model_type is "bart"; only "marian"'),
    ({"decoder_vocab_size": 7}, "decoder_vocab_size is 7; it must be vocab_size"),
    ({"vocab_size": 5}, "decoder_vocab_size is"),
    ({"vocab_size": 5, "decoder_vocab_size": 5}, "decoder_start_token_id is 188; it must be .* from 0 to 4"),
    ({"eos_token_id": 2}, "eos_token_id is 2; vocab.json has '</s>' at 0"),
    ({"eos_token_id": [0]}, "eos_token_id is"),
    (
        {"decoder_start_token_id": 10**5},
        "decoder_start_token_id is 100000; it must be a whole number from 0 to",
    ),
    ({"max_position_embeddings": 10**6}, "max_position_embeddings is 1000000"),
    ({"quantization_config": {}}, "quantization_config"),
    ({"init_std": "much"}, "transformers cannot load it"),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=[line[:40] for _, line in REFUSED])
def test_what_cannot_be_expressed_is_refused_by_name(changes, line, broken, tmp_path):
    edit(broken / "config.json", **changes)
    with pytest.raises(ValueError, match=line):
        from_marian(broken, tmp_path / "runs/run")
    assert not list(tmp_path.glob("runs/*"))  # nothing half-written, hidden files included


def test_settings_of_the_tokenizer_are_refused(broken, tmp_path):
    edit(broken / "tokenizer_config.json", sp_model_kwargs={"enable_sampling": True})
    with pytest.raises(ConversionError, match="sp_model_kwargs"):
        from_marian(broken, tmp_path / "run")


def test_pickled_weights_are_refused_with_the_way_out(broken, tmp_path):
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(
        ConversionError, match=r"never read here; rewrite it with transformers: .*save_pretrained\(DIR\)"
    ):
        from_marian(broken, tmp_path / "run")


def edit_weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def test_unknown_weights_are_refused(broken, tmp_path):
    name = "model.encoder.layernorm_embedding.weight"
    edit_weights(broken, lambda weights: weights.update({name: torch.ones(32)}))
    with pytest.raises(ConversionError, match=f"{name} cannot be converted"):
        from_marian(broken, tmp_path / "run")


def shard(folder: Path) -> None:
    """Split the weights into files, as `save_pretrained` does for a large model."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    path.unlink()
    names = sorted(weights)
    file_of = {name: f"model-{1 + (names.index(name) > 20):05}-of-00002.safetensors" for name in names}
    for file in set(file_of.values()):
        part = {name: weights[name] for name in names if file_of[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": file_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(Run(run).checkpoint(0) / "model.safetensors")


def test_sharded_weights_are_those_of_one_file(broken, run, tmp_path):
    shard(broken)
    found = weights_of(from_marian(broken, tmp_path / "run"))
    assert found.keys() == weights_of(run).keys()
    assert all(tensor.equal(weights_of(run)[name]) for name, tensor in found.items())


@pytest.mark.parametrize("content", [b"", b"[]", b'{"weight_map": ["a"]}', b"[" * 100_000])
def test_a_damaged_index_is_one_line(content, broken, tmp_path):
    shard(broken)
    (broken / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(ConversionError, match=r"index.json: not an index of safetensors files, or damaged"):
        from_marian(broken, tmp_path / "run")


def test_rows_beyond_the_vocabulary_are_left_out(broken, run, tmp_path):
    def add_rows(weights):
        for name in ("model.shared.weight", "final_logits_bias"):
            dimension = int(name == "final_logits_bias")
            rows = weights[name].narrow(dimension, 0, 5)
            weights[name] = torch.cat((weights[name], rows), dim=dimension)

    edit_weights(broken, add_rows)
    rows = load_file(broken / "model.safetensors")["model.shared.weight"].shape[0]
    edit(broken / "config.json", vocab_size=rows, decoder_vocab_size=rows)
    said: list[str] = []
    found = weights_of(from_marian(broken, tmp_path / "run", say=said.append))
    assert said[0].endswith("vocab.json: 5 rows of the embedding belong to no piece and are left out")
    assert all(tensor.equal(weights_of(run)[name]) for name, tensor in found.items())


@pytest.fixture
def two_vocabularies(texts, tmp_path) -> Path:
    """A folder whose target has other ids, lacks 20 pieces and has 40 that the source lacks.

    As in Hugging Face's conversions, the decoder starts with the id of the source's pad, which is an ordinary
    piece of the target.
    """
    source = json.loads((texts / "vocab.json").read_text())
    shared = [piece for piece in reversed(source) if piece[0] != "<"][20:]
    target = ["</s>", "<unk>", *shared, *(f"more{number}" for number in range(40)), "<pad>"]
    files = shutil.copytree(texts, tmp_path / "texts")
    content = json.dumps({piece: number for number, piece in enumerate(target)})
    (files / "target_vocab.json").write_text(content)
    edit(files / "tokenizer_config.json", separate_vocabs=True)
    return make_folder(
        tmp_path / "two", files, share_encoder_decoder_embeddings=False, decoder_vocab_size=len(target)
    )


def test_two_vocabularies_become_one(two_vocabularies, tmp_path):
    run = from_marian(two_vocabularies, tmp_path / "run", trained_with="transformers")  # compares the logits
    tokenizer = load_tokenizer(Run(run).tokenizer)
    theirs = transformers.MarianTokenizer.from_pretrained(two_vocabularies)
    lines = [pair.source for pair in PAIRS[:40]]
    encoded = [[tokenizer.source_ids[number] for number in [*row, EOS_ID]] for row in tokenizer.encode(lines)]
    assert encoded == theirs(lines)["input_ids"]
    targets = [pair.target for pair in PAIRS[:40]]
    rows = tokenizer.encode_target(targets)
    encoded = [[tokenizer.marian_ids[number] for number in [*row, EOS_ID]] for row in rows]
    assert encoded == theirs(text_target=targets)["input_ids"]
    assert any(1 in row for row in encoded)  # pieces that the target's vocabulary lacks are unknown
    target = json.loads((two_vocabularies / "target_vocab.json").read_text())
    assert sorted(number for number in tokenizer.marian_ids[EOS_ID:] if number is not None) == [
        number for piece, number in target.items() if piece != "<pad>"
    ]  # among them the one that the decoder starts with
    with pytest.raises(ConversionError, match="source and target have two vocabularies"):
        to_marian(run, tmp_path / "back")


def test_two_vocabularies_cannot_share_an_embedding(two_vocabularies, tmp_path):
    edit(two_vocabularies / "config.json", share_encoder_decoder_embeddings=True)
    with pytest.raises(ConversionError, match="share_encoder_decoder_embeddings is true; with target_vocab"):
        from_marian(two_vocabularies, tmp_path / "run")


def test_integer_weights_are_refused(broken, tmp_path):
    name = "model.decoder.layers.0.fc1.bias"
    edit_weights(broken, lambda weights: weights.update({name: torch.ones(48, dtype=torch.int8)}))
    with pytest.raises(ConversionError, match=f"{name} is torch.int8"):
        from_marian(broken, tmp_path / "run")


@pytest.mark.parametrize(
    ("weight", "message"),
    [(torch.ones(48).to(torch.float8_e4m3fn), "holds float8"), (torch.full((48,), torch.nan), "not finite")],
)
def test_weights_that_are_none_are_refused(broken, tmp_path, weight, message):
    name = "model.decoder.layers.0.fc1.bias"
    edit_weights(broken, lambda weights: weights.update({name: weight}))
    with pytest.raises(ValueError, match=rf"{name} .*{message}"):
        from_marian(broken, tmp_path / "run")


def test_positions_in_the_file_must_be_the_formulas(broken, tmp_path):
    name = "model.encoder.embed_positions.weight"
    table = load_theirs(broken).model.encoder.embed_positions.weight.clone()
    edit_weights(broken, lambda weights: weights.update({name: table.half()}))
    config = load_settings(from_marian(broken, tmp_path / "run") / "config.yaml").model
    assert config.positions == "tensor2tensor"  # old folders of models trained in Marian store theirs too
    from_marian(broken, tmp_path / "chosen", trained_with="transformers")
    edit_weights(broken, lambda weights: weights.update({name: table.flip(0)}))
    with pytest.raises(ConversionError, match=r"embed_positions.weight is not the sinusoidal encoding"):
        from_marian(broken, tmp_path / "another")


HOSTILE = [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"a": 1}']


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: repr(content[:8]))
@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors", "source.spm"])
def test_a_damaged_folder_is_one_line(name, content, broken, tmp_path, capsys):
    (broken / name).write_bytes(content)
    assert main(["convert", "--from", "marian", str(broken), str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("transformer convert: error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "source.spm", "target.spm"])
def test_a_missing_file_is_one_line(name, broken, tmp_path, capsys):
    (broken / name).unlink()
    assert main(["convert", "--from", "marian", str(broken), str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith(f"{name}: No such file or directory\n")


def test_truncated_weights_are_one_line(broken, tmp_path):
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model.safetensors: cannot be read"):
        from_marian(broken, tmp_path / "run")


def test_an_existing_folder_is_left_alone(marian, tmp_path):
    with pytest.raises(ConversionError, match="exists already"):
        from_marian(marian, tmp_path)


def test_logits_that_differ_are_refused(marian, tmp_path, monkeypatch):
    program = Program("sinusoidal", norm_epsilon=0.1)
    monkeypatch.setitem(PROGRAMS, "transformers", program)
    with pytest.raises(ConversionError, match="logits differ from the original's by"):
        from_marian(marian, tmp_path / "run", trained_with="transformers")
    assert not list(tmp_path.iterdir())


def test_without_transformers_nothing_is_compared(marian, tmp_path, monkeypatch):
    monkeypatch.setattr("transformer.convert.marian.find_spec", lambda _: None)
    said: list[str] = []
    from_marian(marian, tmp_path / "run", say=said.append)
    assert said[1:] == ["transformers is not installed, so the logits were not compared with the original's"]


def test_a_hub_id_is_accepted_instead_of_a_folder(marian, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, "model.safetensors" in allow_patterns, "pytorch_model.bin" in allow_patterns))
        return str(marian)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    from_marian("Helsinki-NLP/opus-mt-en-de", tmp_path / "run")
    assert asked == [("Helsinki-NLP/opus-mt-en-de", True, False)]


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    def snapshot_download(*_, **__):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(ValueError, match="no folder 'a/b', and it cannot be loaded from the Hub: no network"):
        from_marian("a/b", tmp_path / "run")
    with pytest.raises(ConversionError, match="there is no such folder"):
        from_marian("nowhere", tmp_path / "run")
