"""Reading the settings and vocabularies of a model in Marian's own files, such as an OPUS-MT archive."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from transformer.config import DecodingConfig, ModelConfig
from transformer.convert.common import ConversionError
from transformer.convert.fields import Fields
from transformer.convert.marian_npz import SETTINGS, NpzWeights, read_npz
from transformer.convert.marian_programs import ProgramName
from transformer.convert.marian_vocabulary import Vocabulary
from transformer.data.tokenizers.marian import LARGEST_FILE, SOURCE, TARGET, read_model
from transformer.files import read_bounded

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu"}
ONLY = {
    "type": "transformer",
    "transformer-preprocess": "",
    "transformer-postprocess": "dan",
    "transformer-postprocess-top": "",
    "transformer-ffn-depth": 2,
    "transformer-decoder-ffn-depth": 0,
    "transformer-decoder-dim-ffn": 0,
    "transformer-decoder-autoreg": "self-attention",
    "transformer-attention-mask": "default",
    "transformer-tied-layers": [],
    "transformer-train-positions": False,
    "transformer-train-position-embeddings": False,
    "transformer-disable-position-embeddings": False,
    "input-types": [],
    "lemma-dim-emb": 0,
    "right-left": False,
    "ulr": False,
}
"""For each of these settings, the only value that can be converted. A missing setting has this value."""
YAML, LIST, SENTENCEPIECE = (".yml", ".yaml", ".json"), (".vocab", ".txt"), ".spm"


def find_npz(path: Path) -> Path | None:
    """Return `path`, or the only model in it if it is a folder; None if the folder has no `.npz` model."""
    if not path.is_dir():
        return path
    models = sorted(file for file in path.glob("*.npz") if not file.name.endswith(".optimizer.npz"))
    if len(models) > 1:
        names = ", ".join(file.name for file in models)
        raise ConversionError(f"{path}: has several models, {names}; name one of these files instead")
    return models[0] if models else None


class MarianFiles:
    """A Marian model's `.npz` file and the files next to it.

    The `.npz` file holds the weights and the model's settings. `NAME.npz.decoder.yml` or `decoder.yml` has
    the settings of the search, and `NAME.npz.yml` has the settings of training. The search settings or,
    failing that, the training settings name the vocabulary files. The vocabulary files must be in the same
    folder as the `.npz` file, even if the settings name another folder. Raises `ConversionError` for settings
    that the models of this package do not support.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        settings, tensors = read_npz(path)
        self.options = Fields(path, read_settings(settings, f"{path}: {SETTINGS}"))
        self.options.require_only(ONLY)
        is_tied = [self.options.flag(name, False) for name in ("tied-embeddings", "tied-embeddings-all")]
        self.weights = NpzWeights(path, tensors, is_output_tied=any(is_tied))
        self.training = self.companion(f"{path.name}.yml")
        self.search = self.companion(f"{path.name}.decoder.yml", "decoder.yml")

    def companion(self, *names: str) -> Fields:
        """Read the first of these settings files that exists; return empty settings if none exists."""
        for name in names:
            path = self.path.with_name(name)
            if path.is_file():
                return Fields(path, read_settings(read_bounded(path, LARGEST_FILE), str(path)))
        return Fields(self.path.with_name(names[-1]), {})

    @cached_property
    def vocabulary_files(self) -> list[Path]:
        for fields in (self.search, self.training):
            names = fields.values.get("vocabs")
            if names is not None:
                break
        if not isinstance(names, list) or len(names) != 2 or not all(type(name) is str for name in names):
            raise fields.refuse("vocabs", names, "it must name the vocabularies of source and target")
        return [self.path.with_name(Path(name).name) for name in names]

    @cached_property
    def sentencepiece_models(self) -> tuple[bytes, bytes]:
        """The contents of the two SentencePiece models. A vocabulary file may itself be such a model."""
        source, target = (
            path if path.suffix == SENTENCEPIECE else path.with_name(name)
            for path, name in zip(self.vocabulary_files, (SOURCE, TARGET), strict=True)
        )
        return read_bounded(source, LARGEST_FILE), read_bounded(target, LARGEST_FILE)

    @cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        source, target = map(read_vocabulary, self.vocabulary_files, self.weights.rows)
        if self.weights.is_shared and source.ids != target.ids:
            raise ConversionError(
                f"{self.path}: source and target share an embedding, but have different vocabularies, "
                f"{source.path.name} and {target.path.name}"
            )
        return source, target

    def model_config(self, vocab_size: int) -> ModelConfig:
        options = self.options
        options.word("transformer-postprocess-emb", "d", {"d": "dropout", "": "nothing"})
        return ModelConfig(
            vocab_size=vocab_size,
            d_model=options.number("dim-emb"),
            num_heads=options.number("transformer-heads"),
            d_ff=options.number("transformer-dim-ffn"),
            num_layers=options.same("enc-depth", "dec-depth"),
            dropout=self.training.share("transformer-dropout", ModelConfig.dropout),
            attention_dropout=self.training.share("transformer-dropout-attention", 0.0),
            activation_dropout=self.training.share("transformer-dropout-ffn", 0.0),
            activation=options.word("transformer-ffn-activation", "swish", ACTIVATIONS),  # type: ignore[arg-type]
            attention_bias=True,
            output_bias=True,
            tie_embeddings=self.weights.is_shared and self.weights.is_output_tied,
        )

    def trained_with(self, config: ModelConfig) -> ProgramName:  # noqa: ARG002  (MarianFolder uses it)
        return "marian"

    def languages(self) -> dict[str, str]:
        return {}  # Marian's files do not name the languages

    def decoding_config(self) -> DecodingConfig:
        """Return the settings of the search. Marian's `normalize: 0` (no length penalty) becomes α = 0."""
        default = DecodingConfig()
        search = self.search
        has_beam_size = "beam-size" in search.values
        return DecodingConfig(
            beam_size=search.number("beam-size") if has_beam_size else default.beam_size,
            alpha=0.0 if search.values.get("normalize") == 0 else default.alpha,
        )


def read_settings(content: str | bytes, where: str) -> Mapping[str, Any]:
    try:
        settings = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConversionError(f"{where}: not YAML, or damaged") from None
    if not isinstance(settings, dict):
        raise ConversionError(f"{where}: holds no settings")
    return settings


def read_vocabulary(path: Path, rows: int) -> Vocabulary:
    """Read a vocabulary in one of Marian's three formats."""
    content = read_bounded(path, LARGEST_FILE)
    if path.suffix == SENTENCEPIECE:
        model = read_model(str(path), content)
        ids = {model.id_to_piece(number): number for number in range(model.vocab_size())}
        return Vocabulary(path, ids, rows, eos=model.eos_id(), unk=model.unk_id())
    if path.suffix not in (*YAML, *LIST):
        valid = ", ".join((*YAML, *LIST, SENTENCEPIECE))
        raise ConversionError(f"{path}: only vocabularies named {valid} can be converted")
    try:
        ids = read_pieces(path, content)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):
        raise ConversionError(f"{path}: not a vocabulary of Marian's, or a damaged one") from None
    for token in ("</s>", "<unk>"):
        if token not in ids:
            raise ConversionError(f"{path}: lacks {token}")
    return Vocabulary(path, ids, rows, eos=ids["</s>"], unk=ids["<unk>"])


def read_pieces(path: Path, content: bytes) -> dict[str, int]:
    if path.suffix in YAML:
        pieces = yaml.load(content, Loader=yaml.BaseLoader)  # keeps a piece such as `no` or `1` as text
        return {piece: int(number) for piece, number in pieces.items()}
    lines = content.decode().removesuffix("\n").split("\n")
    return {piece: number for number, piece in enumerate(lines)}
