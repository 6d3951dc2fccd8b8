"""Reading the settings and vocabulary of a Hugging Face Marian model, such as any OPUS-MT model."""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from transformer.checkpoint.hub import local_folder
from transformer.config import DataConfig, DecodingConfig, ModelConfig
from transformer.config.errors import shortened
from transformer.convert.common import ConversionError
from transformer.data.tokenizers.marian import LARGEST_FILE, SOURCE, TARGET, MarianTokenizer
from transformer.files import read_bounded

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
FILES = (CONFIG, GENERATION, WEIGHTS, VOCABULARY, TARGET_VOCABULARY, TOKENIZER_CONFIG, SOURCE, TARGET)

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}
NORM_EPSILON = 1e-5  # PyTorch's default; Marian has no setting for it
MAX_SIZE = 1_000_000
"""A larger number in config.json means a damaged file; refusing it avoids huge allocations."""
MAX_POSITIONS = 65_536
ONLY = {
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "static_position_embeddings": True,
}
"""Settings with one value that can be converted, which is also their default."""


def find_folder(name: str | Path) -> Path:
    """The folder `name`, or a local copy of the files that a conversion needs from the model on the Hub."""
    folder = local_folder(name, patterns=FILES)
    if not folder.is_dir():
        raise ConversionError(f"{name}: there is no such folder, and a Hub id has the form OWNER/NAME")
    return folder


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, with more brackets around it if it is already used."""
    return free_name(f"<{name}>", taken) if name in taken else name


class MarianFolder:
    """The folder's contents except the weights; `ConversionError` for what our model does not support."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = self.read(CONFIG)
        self.tokenizer_config = self.read(TOKENIZER_CONFIG, is_optional=True)
        self.generation = self.read(GENERATION, is_optional=True)
        self.require_expressible()
        self.vocab_size = self.number("vocab_size")
        self.max_positions = self.number("max_position_embeddings", most=MAX_POSITIONS)
        self.require_one_vocabulary()

    # Reading

    def read(self, name: str, *, is_optional: bool = False) -> dict[str, Any]:
        path = self.path / name
        if is_optional and not path.exists():
            return {}
        try:
            content = json.loads(read_bounded(path, LARGEST_FILE))
        except (ValueError, RecursionError):
            raise ConversionError(f"{path}: not JSON, or damaged") from None
        if not isinstance(content, dict):
            raise ConversionError(f"{path}: not a JSON object")
        return content

    def refuse(self, setting: str, found: Any, valid: str) -> ConversionError:
        return ConversionError(f"{self.path / CONFIG}: {setting} is {shortened(json.dumps(found))}; {valid}")

    def number(self, name: str, *, least: int = 1, most: int = MAX_SIZE) -> int:
        value = self.config.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self.refuse(name, value, f"it must be a whole number from {least} to {most}")
        return value

    def share(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self.refuse(name, value, "it must be at least 0 and less than 1")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name, default)
        if type(value) is not bool:
            raise self.refuse(name, value, "it must be true or false")
        return value

    def same(self, setting: str) -> int:
        """A size that must be equal in encoder and decoder, because our model has one for both."""
        sizes = self.number(f"encoder_{setting}"), self.number(f"decoder_{setting}")
        if sizes[0] != sizes[1]:
            raise ConversionError(
                f"{self.path / CONFIG}: encoder_{setting} {sizes[0]}, but decoder_{setting} {sizes[1]}; "
                "only stacks of equal sizes can be converted"
            )
        return sizes[0]

    # Refusing

    def require_expressible(self) -> None:
        if self.config.get("model_type") != "marian":
            raise self.refuse("model_type", self.config.get("model_type"), "only marian can be converted")
        for name, only in ONLY.items():
            if self.config.get(name, only) != only:
                raise self.refuse(name, self.config[name], f"only {json.dumps(only)} can be converted")
        if self.config.get("quantization_config") is not None:
            raise ConversionError(
                f"{self.path / CONFIG}: quantization_config: only plain weights can be read"
            )
        if self.tokenizer_config.get("sp_model_kwargs"):
            raise ConversionError(f"{self.path / TOKENIZER_CONFIG}: sp_model_kwargs cannot be converted")
        activation = self.config.get("activation_function", "gelu")
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            valid = f"only {', '.join(ACTIVATIONS)} can be converted"
            raise self.refuse("activation_function", activation, valid)

    def require_one_vocabulary(self) -> None:
        if self.tokenizer_config.get("separate_vocabs") or (self.path / TARGET_VOCABULARY).exists():
            raise ConversionError(
                f"{self.path}: separate_vocabs: source and target have two vocabularies; "
                "only one vocabulary for both can be converted"
            )
        if self.config.get("decoder_vocab_size") not in (None, self.vocab_size):
            found = self.config["decoder_vocab_size"]
            raise self.refuse("decoder_vocab_size", found, f"it must be vocab_size, {self.vocab_size}")

    # In our terms

    @property
    def is_tied(self) -> bool:
        """Whether source, target and (unscaled) output share one matrix, as in our model."""
        names = {"share_encoder_decoder_embeddings": True, "tie_word_embeddings": True}
        return self.flag("scale_embedding", False) and all(self.flag(*item) for item in names.items())

    def model_config(self, vocab_size: int) -> ModelConfig:
        activation = ACTIVATIONS[self.config.get("activation_function", "gelu")]
        return ModelConfig(
            vocab_size=vocab_size,
            d_model=self.number("d_model"),
            num_heads=self.same("attention_heads"),
            d_ff=self.same("ffn_dim"),
            num_layers=self.same("layers"),
            dropout=self.share("dropout", 0.1),
            attention_dropout=self.share("attention_dropout", 0.0),
            activation_dropout=self.share("activation_dropout", 0.0),
            norm_epsilon=NORM_EPSILON,
            activation=activation,  # type: ignore[arg-type]  # one of its names
            attention_bias=True,
            output_bias=True,
            tie_embeddings=self.is_tied,
            max_positions=self.max_positions,
        )

    def data_config(self, name: str | Path, vocab_size: int) -> DataConfig:
        languages = {
            side: language
            for side in ("source", "target")
            if isinstance(language := self.tokenizer_config.get(f"{side}_lang"), str)
        }
        return DataConfig(
            train=f"(converted from Marian: {name})",
            valid=None,
            test=None,
            vocab_size=vocab_size,
            max_tokens=min(DataConfig.max_tokens, self.max_positions),
            **languages,  # type: ignore[arg-type]  # source and target alone
        )

    def decoding_config(self) -> DecodingConfig:
        beam_size = self.generation.get("num_beams") or self.config.get("num_beams")
        if beam_size is None:
            return DecodingConfig()
        if type(beam_size) is not int:
            raise ConversionError(
                f"{self.path / GENERATION}: num_beams is {json.dumps(beam_size)}; no number"
            )
        return DecodingConfig(beam_size=beam_size)

    def tokenizer(self) -> MarianTokenizer:
        """The vocabulary in our order: pad, BOS, EOS, unk, then all others in Marian's order.

        BOS is the token that Marian's decoder starts with: usually a copy of pad, sometimes a separate token.
        """
        ids = self.piece_ids()
        pad, eos = (self.special_id(name, ids) for name in ("pad", "eos"))
        start, unk = self.number("decoder_start_token_id", least=0), ids.get(self.special_token("unk"))
        if unk is None or len({pad, eos, unk}) < 3 or start >= len(ids):
            raise ConversionError(
                f"{self.path}: decoder_start_token_id {start} and the ids of pad, eos and unk, "
                f"{(pad, eos, unk)}, must lie in 0 … {len(ids) - 1}, and the last three must differ"
            )
        others = [number for number in range(len(ids)) if number not in (pad, start, eos, unk)]
        marian_ids = [pad, start, eos, unk, *others]
        by_id = {number: piece for piece, number in ids.items()}
        bos = free_name("<s>", ids) if start in (pad, eos, unk) else by_id[start]
        pieces = [by_id[pad], bos, by_id[eos], by_id[unk], *(by_id[number] for number in others)]
        source, target = (read_bounded(self.path / name, LARGEST_FILE) for name in (SOURCE, TARGET))
        try:
            return MarianTokenizer(source, target, pieces, marian_ids)
        except ValueError as error:
            raise ConversionError(f"{self.path}: {error}") from None

    def piece_ids(self) -> dict[str, int]:
        """Marian's vocabulary; `ConversionError` unless it has every id of the model exactly once."""
        ids = self.read(VOCABULARY)
        if any(type(number) is not int for number in ids.values()) or sorted(ids.values()) != list(
            range(self.vocab_size)
        ):
            raise ConversionError(
                f"{self.path / VOCABULARY}: {len(ids)} pieces whose ids are not 0 … {self.vocab_size - 1} "
                f"(vocab_size {self.vocab_size}), each once"
            )
        return ids

    def special_id(self, name: str, ids: dict[str, int]) -> int:
        """The id in config.json; `ConversionError` unless the vocabulary has the same id for the token."""
        number, token = self.number(f"{name}_token_id", least=0), self.special_token(name)
        if ids.get(token) != number:
            found = f"{VOCABULARY} has {token!r} at {ids.get(token)}"
            raise self.refuse(f"{name}_token_id", number, found)
        return number

    def special_token(self, name: str) -> str:
        default = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}[name]
        token = self.tokenizer_config.get(f"{name}_token", default)
        return str(token.get("content") if isinstance(token, dict) else token)
