"""The PyTorch reference implementation of "Attention Is All You Need" (Vaswani et al., 2017).

The public names below are imported on first use, so that `transformer --help` need not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer.config import DataConfig as DataConfig
    from transformer.config import DecodingConfig as DecodingConfig
    from transformer.config import ModelConfig as ModelConfig
    from transformer.config import Settings as Settings
    from transformer.config import TrainingConfig as TrainingConfig
    from transformer.config.files import load_settings as load_settings
    from transformer.data.tokenizers.custom import CustomTokenizer as CustomTokenizer
    from transformer.decoding.beam import beam_search as beam_search
    from transformer.decoding.length_penalty import length_penalty as length_penalty
    from transformer.decoding.sampling import Sampler as Sampler
    from transformer.decoding.search import Hypotheses as Hypotheses
    from transformer.decoding.search import generate as generate
    from transformer.decoding.search import greedy as greedy
    from transformer.decoding.search import greedy_search as greedy_search
    from transformer.decoding.translation import Translation as Translation
    from transformer.decoding.translator import Translator as Translator
    from transformer.inspection.inspect import Inspection as Inspection
    from transformer.inspection.inspect import inspect as inspect
    from transformer.model.attention import KeyValue as KeyValue
    from transformer.model.attention import MultiHeadAttention as MultiHeadAttention
    from transformer.model.attention import attention as attention
    from transformer.model.attention import attention_weights as attention_weights
    from transformer.model.blocks import DecoderBlock as DecoderBlock
    from transformer.model.blocks import TransformerBlock as TransformerBlock
    from transformer.model.build import ModelBuilder as ModelBuilder
    from transformer.model.build import build_model as build_model
    from transformer.model.decoder import Decoder as Decoder
    from transformer.model.decoder_only import DecoderOnly as DecoderOnly
    from transformer.model.encoder import Encoder as Encoder
    from transformer.model.encoder_decoder import EncoderDecoder as EncoderDecoder
    from transformer.model.encoder_only import EncoderOnly as EncoderOnly
    from transformer.model.heads import MaskedLanguageModel as MaskedLanguageModel
    from transformer.model.heads import SentenceEmbedder as SentenceEmbedder
    from transformer.model.heads import SequenceClassifier as SequenceClassifier
    from transformer.model.layers import FeedForward as FeedForward
    from transformer.model.layers import PostNorm as PostNorm
    from transformer.model.layers import PreNorm as PreNorm
    from transformer.model.layers import TokenEmbedding as TokenEmbedding
    from transformer.model.masks import causal_mask as causal_mask
    from transformer.model.masks import padding_mask as padding_mask
    from transformer.model.positions import LearnedEncoding as LearnedEncoding
    from transformer.model.positions import SinusoidalEncoding as SinusoidalEncoding
    from transformer.model.recording import record_attention as record_attention
    from transformer.model.recording import record_sublayers as record_sublayers
    from transformer.model.recording import without_head as without_head
    from transformer.recipe import train as train
    from transformer.trained import evaluate as evaluate
    from transformer.trained import load_pretrained as load_pretrained
    from transformer.training.log import Event as Event
    from transformer.training.schedule import inverse_sqrt_rate as inverse_sqrt_rate

PUBLIC_NAMES = {
    "config": ("DataConfig", "DecodingConfig", "ModelConfig", "Settings", "TrainingConfig"),
    "data.tokenizers.custom": ("CustomTokenizer",),
    "decoding.beam": ("beam_search",),
    "decoding.sampling": ("Sampler",),
    "decoding.length_penalty": ("length_penalty",),
    "decoding.search": ("Hypotheses", "generate", "greedy", "greedy_search"),
    "decoding.translation": ("Translation",),
    "decoding.translator": ("Translator",),
    "inspection.inspect": ("Inspection", "inspect"),
    "model.attention": ("KeyValue", "MultiHeadAttention", "attention", "attention_weights"),
    "model.blocks": ("DecoderBlock", "TransformerBlock"),
    "model.build": ("ModelBuilder", "build_model"),
    "model.decoder": ("Decoder",),
    "model.decoder_only": ("DecoderOnly",),
    "model.encoder": ("Encoder",),
    "model.encoder_decoder": ("EncoderDecoder",),
    "model.encoder_only": ("EncoderOnly",),
    "model.heads": ("MaskedLanguageModel", "SentenceEmbedder", "SequenceClassifier"),
    "model.layers": ("FeedForward", "PostNorm", "PreNorm", "TokenEmbedding"),
    "model.masks": ("causal_mask", "padding_mask"),
    "model.positions": ("LearnedEncoding", "SinusoidalEncoding"),
    "model.recording": ("record_attention", "record_sublayers", "without_head"),
    "recipe": ("train",),
    "trained": ("evaluate", "load_pretrained"),
    "training.log": ("Event",),
    "config.files": ("load_settings",),
    "training.schedule": ("inverse_sqrt_rate",),
}
"""The public names in each module. Type checkers read the imports above; a test compares the two lists."""

MODULE_OF = {name: module for module, names in PUBLIC_NAMES.items() for name in names}
__all__ = sorted(MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module 'transformer' has no attribute {name!r}")
    value = getattr(import_module(f"transformer.{MODULE_OF[name]}"), name)
    globals()[name] = value  # the next access finds the value there and does not call this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
