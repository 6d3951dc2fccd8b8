"""Models in Marian's own files become runs with Marian's numbers; its formulas in NumPy are the oracle."""

import io
import json
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import yaml
from marian_oracle import MarianOracle

from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.config.files import load_settings
from transformer.convert.common import ConversionError
from transformer.convert.marian import from_marian
from transformer.convert.marian_export import to_marian
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer.decoding.translator import Translator
from transformer.toyland import generate

PAIRS = list(islice(generate("train", 200), 200))
LINES = [*PAIRS[:5], *PAIRS[-3:]]
WIDTH, INNER, HEADS, DEPTH = 16, 24, 2, 2
SETTINGS = {
    "type": "transformer",
    "dim-emb": WIDTH,
    "enc-depth": DEPTH,
    "dec-depth": DEPTH,
    "transformer-heads": HEADS,
    "transformer-dim-ffn": INNER,
    "transformer-ffn-activation": "swish",
    "transformer-ffn-depth": 2,
    "transformer-preprocess": "",
    "transformer-postprocess": "dan",
    "transformer-postprocess-emb": "d",
    "transformer-tied-layers": [],
    "tied-embeddings": False,
    "tied-embeddings-all": True,
}


def spm(lines: list[str], vocab_size: int = 150, **options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab_size, minloglevel=2, **options
    )
    return model.getvalue()


def pieces(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(number) for number in range(3, processor.vocab_size())]


SOURCES, TARGETS = [pair.source for pair in PAIRS], [pair.target for pair in PAIRS]


@cache
def models() -> dict[str, bytes]:
    return {"source.spm": spm(SOURCES), "target.spm": spm(TARGETS)}


@cache
def joint_model() -> bytes:
    """As Marian itself trains one."""
    return spm([*SOURCES, *TARGETS], 250, bos_id=-1, eos_id=0, unk_id=1)


def random_weights(source_rows: int, target_rows: int, settings: dict) -> dict[str, np.ndarray]:
    """Every weight is random; the shapes are those that Marian writes."""
    shapes: dict[str, tuple[int, int]] = {"decoder_ff_logit_out_b": (1, target_rows)}
    if settings["tied-embeddings-all"]:
        shapes["Wemb"] = (source_rows, WIDTH)
    else:
        shapes |= {"encoder_Wemb": (source_rows, WIDTH), "decoder_Wemb": (target_rows, WIDTH)}
        if not settings["tied-embeddings"]:
            shapes["decoder_ff_logit_out_Wt"] = (target_rows, WIDTH)
    for side, parts in (("encoder", ["self"]), ("decoder", ["self", "context"])):
        for layer in range(1, DEPTH + 1):
            for part in (f"{side}_l{layer}_{name}" for name in parts):
                for letter in "qkvo":
                    shapes[f"{part}_W{letter}"], shapes[f"{part}_b{letter}"] = (WIDTH, WIDTH), (1, WIDTH)
                shapes[f"{part}_Wo_ln_scale"] = shapes[f"{part}_Wo_ln_bias"] = (1, WIDTH)
            part = f"{side}_l{layer}_ffn"
            shapes[f"{part}_W1"], shapes[f"{part}_b1"] = (WIDTH, INNER), (1, INNER)
            shapes[f"{part}_W2"], shapes[f"{part}_b2"] = (INNER, WIDTH), (1, WIDTH)
            shapes[f"{part}_ffn_ln_scale"] = shapes[f"{part}_ffn_ln_bias"] = (1, WIDTH)
    generator = np.random.default_rng(5)
    return {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def write_npz(path: Path, weights: dict[str, np.ndarray], settings: dict) -> None:
    text = np.frombuffer(yaml.safe_dump(settings).encode() + b"\0", dtype=np.int8)
    np.savez(path, **weights, **{"special:model.yml": text})


def vocabularies(kind: str) -> dict[str, list[str]]:
    """The contents of Marian's vocabularies by file name, the source's first."""
    source, target = (pieces(models()[name]) for name in models())
    target.remove("▁ist")  # a vocabulary may lack a piece of the SentencePiece model
    if kind == "opus":
        return {"vocab.yml": ["</s>", "<unk>", *sorted({">>de<<", *source, *target})]}
    if kind == "sentencepiece":
        processor = sentencepiece.SentencePieceProcessor(model_proto=joint_model())
        return {"vocab.spm": [processor.id_to_piece(number) for number in range(processor.vocab_size())]}
    suffix = {"two vocabularies": "yml", "output matrix of its own": "vocab"}[kind]
    return {
        f"source.{suffix}": ["</s>", "<unk>", *source],
        f"target.{suffix}": ["<unk>", "</s>", *target],  # other ids, and as many rows less one
    }


TIES = {
    "opus": {},
    "sentencepiece": {"transformer-ffn-activation": "relu"},
    "two vocabularies": {"tied-embeddings-all": False, "tied-embeddings": True},
    "output matrix of its own": {"tied-embeddings-all": False},
}


def make_files(folder: Path, kind: str = "opus", **changes: object) -> dict[str, np.ndarray]:
    """A folder as Marian and OPUS-MT leave it. Returns the weights."""
    folder.mkdir(parents=True)
    files = vocabularies(kind)
    for name, listed in files.items():
        if name.endswith(".spm"):
            (folder / name).write_bytes(joint_model())
        elif name.endswith(".vocab"):
            (folder / name).write_text("".join(f"{piece}\n" for piece in listed), encoding="utf-8")
        else:
            lines = [
                f"{json.dumps(piece, ensure_ascii=False)}: {number}\n" for number, piece in enumerate(listed)
            ]
            (folder / name).write_text("".join(lines), encoding="utf-8")
    if kind != "sentencepiece":
        for name, content in models().items():
            (folder / name).write_bytes(content)
    settings = {**SETTINGS, **TIES[kind], **changes}
    sizes = [len(listed) for listed in files.values()]
    weights = random_weights(sizes[0], sizes[-1], settings)
    write_npz(folder / "model.npz", weights, settings)
    (folder / "model.npz.optimizer.npz").write_bytes(b"not read")
    names = [f"/where/it/was/trained/{name}" for name in files]
    search = {"models": ["model.npz"], "vocabs": [names[0], names[-1]], "beam-size": 6, "normalize": 1}
    (folder / "decoder.yml").write_text(yaml.safe_dump(search), encoding="utf-8")
    return weights


def theirs(kind: str, side: int, line: str) -> list[int]:
    """Marian's ids of a line and EOS: SentencePiece's pieces, looked up in the vocabulary of that side."""
    listed = list(vocabularies(kind).values())[side]
    model = joint_model() if kind == "sentencepiece" else list(models().values())[side]
    encoded = sentencepiece.SentencePieceProcessor(model_proto=model).encode(line, out_type=str)
    unk = listed.index("<unk>")
    return [*(listed.index(piece) if piece in listed else unk for piece in encoded), listed.index("</s>")]


@pytest.mark.parametrize("kind", TIES)
def test_log_probabilities_are_marians(kind, tmp_path):
    weights = make_files(tmp_path / "marian", kind)
    run = from_marian(tmp_path / "marian", tmp_path / "run")
    translator = Translator.from_pretrained(run, device="cpu")
    translator.model.double()  # ε = 1e-5 instead of 1e-6 changes the sixth decimal
    tokenizer = load_tokenizer(Run(run).tokenizer)
    activation = {**SETTINGS, **TIES[kind]}["transformer-ffn-activation"]
    oracle = MarianOracle(weights, HEADS, DEPTH, activation)
    columns = [ours for ours, number in enumerate(tokenizer.marian_ids) if number is not None]
    numbers = [tokenizer.marian_ids[ours] for ours in columns]
    assert sorted(numbers) == list(range(len(weights["decoder_ff_logit_out_b"][0])))  # each exactly once
    seen_unk = False
    for pair in LINES:
        target = theirs(kind, -1, pair.target)
        expected = oracle.log_probs(theirs(kind, 0, pair.source), target)
        (source_row,), (target_row,) = tokenizer.encode([pair.source]), tokenizer.encode_target([pair.target])
        assert [tokenizer.marian_ids[number] for number in [*target_row, EOS_ID]] == target
        seen_unk |= UNK_ID in target_row
        with torch.no_grad():
            src_tokens, tgt_tokens = (
                torch.tensor([[*source_row, EOS_ID]]),
                torch.tensor([[BOS_ID, *target_row]]),
            )
            found = translator.model(src_tokens, tgt_tokens)[0].log_softmax(-1)
        np.testing.assert_allclose(found[:, columns], expected[:, numbers], rtol=0, atol=1e-6)
        absent = [ours for ours in range(len(tokenizer.pieces)) if ours not in columns]
        assert {PAD_ID, BOS_ID} <= set(absent)
        assert (found[:, absent] < -9_000).all()  # never produced
    assert seen_unk == (kind != "sentencepiece")


def test_a_piece_of_the_other_language_is_unknown(tmp_path):
    make_files(tmp_path / "marian", "two vocabularies")
    tokenizer = load_tokenizer(Run(from_marian(tmp_path / "marian", tmp_path / "run")).tokenizer)
    only_target = set(pieces(models()["target.spm"])) - set(pieces(models()["source.spm"]))
    assert not only_target & {tokenizer.pieces[number] for row in tokenizer.encode(TARGETS) for number in row}
    assert only_target & {
        tokenizer.pieces[number] for row in tokenizer.encode_target(TARGETS) for number in row
    }
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert (again.source_ids, again.marian_ids) == (tokenizer.source_ids, tokenizer.marian_ids)
    assert (again.digest, again.encode(TARGETS)) == (tokenizer.digest, tokenizer.encode(TARGETS))


def test_the_settings_are_taken_over(tmp_path):
    make_files(tmp_path / "marian")
    training = {"transformer-dropout": 0.25, "vocabs": ["x.yml", "x.yml"]}
    (tmp_path / "marian/model.npz.yml").write_text(yaml.safe_dump(training))
    settings = load_settings(from_marian(tmp_path / "marian/model.npz", tmp_path / "run") / "config.yaml")
    assert (settings.model.positions, settings.model.norm_epsilon) == ("tensor2tensor", 1e-6)
    assert (settings.model.activation, settings.model.dropout) == ("silu", 0.25)
    assert settings.model.tie_embeddings
    assert (settings.decoding.beam_size, settings.decoding.alpha) == (6, 0.6)
    (tmp_path / "marian/model.npz.decoder.yml").write_text(
        yaml.safe_dump({"vocabs": ["vocab.yml", "vocab.yml"], "beam-size": 2, "normalize": 0})
    )
    decoding = load_settings(from_marian(tmp_path / "marian", tmp_path / "without") / "config.yaml").decoding
    assert (decoding.beam_size, decoding.alpha) == (2, 0.0)


def test_the_command_converts_and_the_run_translates(tmp_path, capsys):
    make_files(tmp_path / "marian", "two vocabularies")
    assert main(["convert", "--from", "marian", str(tmp_path / "marian"), str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "positions and ε are those of marian" in said
    assert "transformers cannot read Marian's own files" in said
    translations = Translator.from_pretrained(tmp_path / "run", device="cpu").translate(
        SOURCES[:3], beam_size=1
    )
    assert len(translations) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers itself
def test_hugging_faces_folder_of_such_a_run_is_the_same_run(tmp_path):
    """It stores Marian's positions, so that `transformers`, and the way back, have them too."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    make_files(tmp_path / "marian", "sentencepiece")
    run = from_marian(tmp_path / "marian", tmp_path / "run")
    said: list[str] = []
    back = from_marian(to_marian(run, tmp_path / "folder"), tmp_path / "back", say=said.append)
    assert said[0].startswith("positions and ε are those of marian")
    ours, again = (Translator.from_pretrained(path, device="cpu") for path in (run, back))
    assert again.config == ours.config
    assert again.tokenizer.pieces == ours.tokenizer.pieces
    for name, tensor in again.model.state_dict().items():
        assert tensor.equal(ours.model.state_dict()[name])


class Opened:
    """Creates a file if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def test_nothing_is_unpickled(tmp_path):
    weights = make_files(tmp_path / "marian")
    trap = tmp_path / "unpickled"
    hostile = np.array([Opened(trap)], dtype=object)
    write_npz(tmp_path / "marian/model.npz", {**weights, "Wemb": hostile}, SETTINGS)
    with pytest.raises(ConversionError, match=r"model.npz: cannot be read: Object arrays cannot be loaded"):
        from_marian(tmp_path / "marian", tmp_path / "run")
    assert not trap.exists()


def without(name: str):
    return lambda weights: weights.pop(name)


DAMAGED = [
    (without("Wemb"), "lacks encoder_Wemb"),
    (without("decoder_l2_context_bo"), "lacks decoder_l2_context_bo, which its settings require"),
    (without("decoder_ff_logit_out_b"), "lacks decoder_ff_logit_out_b"),
    (lambda weights: weights.update(Wpos=np.ones((4, WIDTH), np.float32)), "Wpos cannot be converted"),
    (
        lambda weights: weights.update(Wemb=weights["Wemb"].astype(np.int8)),
        "Wemb is not an array of floating",
    ),
    (
        lambda weights: weights.update(Wemb=weights["Wemb"][:9]),
        r"vocab.yml: the ids of its \d+ pieces do not all lie",
    ),
    (
        lambda weights: weights.update(Wemb=weights["Wemb"].T.copy()),
        r"pieces do not all lie in 0 … 15",
    ),
    (
        lambda weights: weights.update(encoder_l1_ffn_W1=np.ones((3, 4), np.float32)),
        r"has shape \(3, 4\), but",
    ),
]


@pytest.mark.parametrize(("damage", "line"), DAMAGED, ids=[line[:30] for _, line in DAMAGED])
def test_damaged_weights_are_refused(damage, line, tmp_path):
    weights = make_files(tmp_path / "marian")
    damage(weights)
    write_npz(tmp_path / "marian/model.npz", weights, SETTINGS)
    with pytest.raises(ConversionError, match=line):
        from_marian(tmp_path / "marian", tmp_path / "runs/run")
    assert not list(tmp_path.glob("runs/*"))


REFUSED = [
    ({"type": "s2s"}, 'type is "s2s"; only "transformer" can be converted'),
    ({"transformer-preprocess": "n"}, 'transformer-preprocess is "n"; only ""'),
    ({"transformer-postprocess-emb": "dn"}, 'transformer-postprocess-emb is "dn"'),
    ({"transformer-ffn-depth": 3}, "transformer-ffn-depth is 3; only 2"),
    ({"transformer-ffn-activation": "tanh"}, 'transformer-ffn-activation is "tanh"; only relu, gelu, swish'),
    ({"transformer-decoder-autoreg": "rnn"}, 'transformer-decoder-autoreg is "rnn"'),
    ({"transformer-tied-layers": [1, 1]}, r"transformer-tied-layers is \[1, 1\]; only \[\]"),
    ({"right-left": True}, "right-left is true"),
    ({"dec-depth": 1}, "enc-depth 2, but dec-depth 1; only stacks of equal sizes"),
    ({"enc-depth": 1, "dec-depth": 1}, "l2_.*cannot be converted"),
    ({"enc-depth": 10**6, "dec-depth": 10**6}, "lacks encoder_l3_self_Wq"),
    ({"dim-emb": "wide"}, 'dim-emb is "wide"; it must be a whole number'),
    ({"dim-emb": 32}, "has shape"),
    ({"tied-embeddings-all": "yes"}, "tied-embeddings-all is .*; it must be true or false"),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=[line[:40] for _, line in REFUSED])
def test_what_cannot_be_expressed_is_refused_by_name(changes, line, tmp_path):
    weights = make_files(tmp_path / "marian")
    write_npz(tmp_path / "marian/model.npz", weights, {**SETTINGS, **changes})
    with pytest.raises(ValueError, match=line):
        from_marian(tmp_path / "marian", tmp_path / "runs/run")
    assert not list(tmp_path.glob("runs/*"))


BROKEN = [
    ("model.npz", b"", "not an .npz file, or a damaged one"),
    ("model.npz", b"PK\x05\x06" + bytes(18), "lacks special:model.yml"),
    ("decoder.yml", b"", "decoder.yml: holds no settings"),
    ("decoder.yml", b"[" * 100_000, "decoder.yml: not YAML, or damaged"),
    ("decoder.yml", b"vocabs: !!python/name:os.system", "decoder.yml: not YAML, or damaged"),
    ("decoder.yml", b"vocabs: vocab.yml", "it must name the vocabularies of source and target"),
    (
        "decoder.yml",
        b"vocabs: [vocab.fsv, vocab.fsv]",
        "vocab.fsv: only vocabularies named .yml, .yaml, .json",
    ),
    ("vocab.yml", b"- a", "vocab.yml: not a vocabulary of Marian's"),
    ("vocab.yml", b"a: b", "vocab.yml: not a vocabulary of Marian's"),
    ("vocab.yml", b"\xff\xfe", "vocab.yml: not a vocabulary of Marian's"),
    ("vocab.yml", b"'</s>': 0\na: 1\n", "vocab.yml: lacks <unk>"),
    ("vocab.yml", b"'</s>': 0\n<unk>: 1\na: 1\n", "vocab.yml: two pieces have the same id"),
    ("source.spm", b"none", "source.spm is not a SentencePiece model"),
    ("vocab.yml", None, "vocab.yml: No such file"),
    ("target.spm", None, "target.spm: No such file"),
    ("decoder.yml", None, "vocabs is null; it must name the vocabularies"),
    ("second.npz", b"", "has several models, model.npz, second.npz; name one of these files"),
]


@pytest.mark.parametrize(("name", "content", "line"), BROKEN, ids=[line[:40] for *_, line in BROKEN])
def test_a_damaged_folder_is_one_line(name, content, line, tmp_path, capsys):
    make_files(tmp_path / "marian")
    (tmp_path / "marian/vocab.fsv").write_bytes(b"")  # a factored vocabulary
    path = tmp_path / "marian" / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    assert main(["convert", "--from", "marian", str(tmp_path / "marian"), str(tmp_path / "runs/run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("transformer convert: error: ")
    assert error.count("\n") == 1
    assert line in error
    assert not list(tmp_path.glob("runs/*"))


def test_a_damaged_array_is_one_line(tmp_path, capsys):
    make_files(tmp_path / "marian")
    path = tmp_path / "marian/model.npz"
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)  # within the first array
    path.write_bytes(content)
    assert main(["convert", "--from", "marian", str(tmp_path / "marian"), str(tmp_path / "run")]) == 2
    assert "model.npz: cannot be read: " in capsys.readouterr().err


def test_two_vocabularies_with_one_matrix_are_refused(tmp_path):
    make_files(tmp_path / "marian", "two vocabularies")
    settings = {**SETTINGS, "tied-embeddings-all": True}
    write_npz(tmp_path / "marian/model.npz", random_weights(149, 149, settings), settings)
    with pytest.raises(ConversionError, match="share an embedding, but have different vocabularies"):
        from_marian(tmp_path / "marian", tmp_path / "run")


def test_rows_beyond_the_vocabulary_are_left_out(tmp_path):
    weights = make_files(tmp_path / "marian")
    logits = Translator.from_pretrained(from_marian(tmp_path / "marian", tmp_path / "run"), device="cpu")
    bias = weights["decoder_ff_logit_out_b"]
    weights["Wemb"] = np.concatenate((weights["Wemb"], np.ones((3, WIDTH), np.float32)))
    weights["decoder_ff_logit_out_b"] = np.concatenate((bias, np.ones((1, 3), np.float32)), axis=1)
    write_npz(tmp_path / "marian/model.npz", weights, SETTINGS)
    said: list[str] = []
    run = from_marian(tmp_path / "marian", tmp_path / "again", say=said.append)
    assert said[0].endswith("vocab.yml: 3 rows of the embedding belong to no piece and are left out")
    for name, tensor in Translator.from_pretrained(run, device="cpu").model.state_dict().items():
        assert tensor.equal(logits.model.state_dict()[name])
