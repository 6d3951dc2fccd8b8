"""Reading the settings and vocabularies of a Hugging Face Marian folder, such as an OPUS-MT model."""

import json
from functools import cached_property
from pathlib import Path

from transformer.config import DecodingConfig, ModelConfig
from transformer.convert.common import ConversionError
from transformer.convert.fields import Fields
from transformer.convert.marian_programs import ProgramName
from transformer.convert.marian_safetensors import INDEX, SHARDS, WEIGHTS, SafetensorsWeights
from transformer.convert.marian_vocabulary import Vocabulary
from transformer.data.tokenizers.marian import LARGEST_FILE, SOURCE, TARGET
from transformer.files import read_bounded

CONFIG, GENERATION = "config.json", "generation_config.json"
VOCABULARY, TARGET_VOCABULARY = "vocab.json", "target_vocab.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
FILES = (
    *(CONFIG, GENERATION, WEIGHTS, INDEX, SHARDS),
    *(VOCABULARY, TARGET_VOCABULARY, TOKENIZER_CONFIG, SOURCE, TARGET),
)

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "silu", "swish": "silu"}
MAX_POSITIONS = 65_536
ONLY = {
    "model_type": "marian",
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "static_position_embeddings": True,
}
"""For each of these settings, the only value that can be converted. A missing setting has this value."""


class MarianFolder:
    """A folder's settings, weights and vocabularies.

    Raises `ConversionError` if our model does not support a setting.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = self.read(CONFIG)
        self.tokenizer_config = self.read(TOKENIZER_CONFIG, is_optional=True)
        self.generation = self.read(GENERATION, is_optional=True)
        self.require_expressible()
        self.max_positions = self.config.number("max_position_embeddings", most=MAX_POSITIONS)

    def read(self, name: str, *, is_optional: bool = False) -> Fields:
        path = self.path / name
        if is_optional and not path.exists():
            return Fields(path, {})
        try:
            content = json.loads(read_bounded(path, LARGEST_FILE))
        except (ValueError, RecursionError):
            raise ConversionError(f"{path}: not JSON, or damaged") from None
        if not isinstance(content, dict):
            raise ConversionError(f"{path}: not a JSON object")
        return Fields(path, content)

    def require_expressible(self) -> None:
        config = self.config
        if "model_type" not in config.values:
            raise config.refuse("model_type", None, "only marian can be converted")
        config.require_only(ONLY)
        if config.values.get("quantization_config") is not None:
            raise ConversionError(f"{config.where}: quantization_config: only plain weights can be read")
        if self.tokenizer_config.values.get("sp_model_kwargs"):
            raise ConversionError(f"{self.tokenizer_config.where}: sp_model_kwargs cannot be converted")

    # The weights

    @property
    def is_shared(self) -> bool:
        return self.config.flag("share_encoder_decoder_embeddings", True)

    @property
    def is_output_tied(self) -> bool:
        return self.config.flag("tie_word_embeddings", True)

    @property
    def is_scaled(self) -> bool:
        return self.config.flag("scale_embedding", False)

    @cached_property
    def weights(self) -> SafetensorsWeights:
        return SafetensorsWeights(
            self.path,
            is_shared=self.is_shared,
            is_output_tied=self.is_output_tied,
            is_scaled=self.is_scaled,
        )

    # The vocabulary

    @cached_property
    def sentencepiece_models(self) -> tuple[bytes, bytes]:
        source, target = (read_bounded(self.path / name, LARGEST_FILE) for name in (SOURCE, TARGET))
        return source, target

    @cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        rows = self.config.number("vocab_size")
        if not (
            self.tokenizer_config.values.get("separate_vocabs") or (self.path / TARGET_VOCABULARY).exists()
        ):
            if self.config.values.get("decoder_vocab_size") not in (None, rows):
                found = self.config.values["decoder_vocab_size"]
                raise self.config.refuse("decoder_vocab_size", found, f"it must be vocab_size, {rows}")
            joint = self.vocabulary(VOCABULARY, rows)
            return joint, joint
        if self.is_shared:
            raise self.config.refuse(
                "share_encoder_decoder_embeddings", True, f"with {TARGET_VOCABULARY} it must be false"
            )
        target_rows = self.config.number("decoder_vocab_size")
        return self.vocabulary(VOCABULARY, rows), self.vocabulary(TARGET_VOCABULARY, target_rows)

    def vocabulary(self, name: str, rows: int) -> Vocabulary:
        """Read a vocabulary file.

        The ids of EOS, pad and the start token come from config.json, except that a separate target
        vocabulary has its own id for pad.
        """
        ids = self.read(name)
        eos, unk = self.special_id("eos", ids), ids.values.get(self.special_token("unk"))
        is_target = name == TARGET_VOCABULARY
        pad = ids.values.get(self.special_token("pad")) if is_target else self.special_id("pad", ids)
        if unk is None:
            raise ConversionError(f"{ids.where}: lacks {self.special_token('unk')!r}, for unknown pieces")
        start = self.config.number("decoder_start_token_id", least=0, most=rows - 1)
        return Vocabulary(ids.where, dict(ids.values), rows, eos=eos, unk=unk, pad=pad, start=start)

    def special_id(self, name: str, ids: Fields) -> int:
        """Return a special token's id in config.json.

        Raises `ConversionError` if the token has another id in the vocabulary.
        """
        number, token = self.config.number(f"{name}_token_id", least=0), self.special_token(name)
        if ids.values.get(token) != number:
            found = f"{ids.where.name} has {token!r} at {ids.values.get(token)}"
            raise self.config.refuse(f"{name}_token_id", number, found)
        return number

    def special_token(self, name: str) -> str:
        default = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}[name]
        token = self.tokenizer_config.values.get(f"{name}_token", default)
        return str(token.get("content") if isinstance(token, dict) else token)

    # Conversion to our settings

    def model_config(self, vocab_size: int) -> ModelConfig:
        """Return the model's settings; the caller sets the positional encoding and LayerNorm's ε."""
        config = self.config
        source, target = self.vocabularies
        is_tied = self.is_shared and self.is_output_tied and self.is_scaled
        return ModelConfig(
            vocab_size=vocab_size,
            d_model=config.number("d_model"),
            num_heads=config.same("encoder_attention_heads", "decoder_attention_heads"),
            d_ff=config.same("encoder_ffn_dim", "decoder_ffn_dim"),
            num_layers=config.same("encoder_layers", "decoder_layers"),
            dropout=config.share("dropout", 0.1),
            attention_dropout=config.share("attention_dropout", 0.0),
            activation_dropout=config.share("activation_dropout", 0.0),
            activation=config.word("activation_function", "gelu", ACTIVATIONS),  # type: ignore[arg-type]
            attention_bias=True,
            output_bias=True,
            tie_embeddings=is_tied and source is target,
            max_positions=self.max_positions,
        )

    def trained_with(self, config: ModelConfig) -> ProgramName:
        """Guess the program that trained the weights: marian if there is evidence, else transformers.

        There are two kinds of evidence for marian: the folder stores Marian's positional encoding, or the
        decoder starts with pad, whose embedding is the vector of zeros with which Marian's own decoder
        starts. A stored positional encoding of transformers is not evidence for either program, because old
        versions of transformers always stored it.
        """
        stored = self.weights.take_positions(config)
        values = self.config.values
        starts_with_pad = values.get("decoder_start_token_id") == values.get("pad_token_id")
        return "marian" if stored == "marian" or starts_with_pad else "transformers"

    def languages(self) -> dict[str, str]:
        values = self.tokenizer_config.values
        return {
            side: language
            for side in ("source", "target")
            if isinstance(language := values.get(f"{side}_lang"), str)
        }

    def decoding_config(self) -> DecodingConfig:
        beam_size = self.generation.values.get("num_beams") or self.config.values.get("num_beams")
        if beam_size is None:
            return DecodingConfig()
        if type(beam_size) is not int:
            raise self.generation.refuse("num_beams", beam_size, "it must be a whole number")
        return DecodingConfig(beam_size=beam_size)
