"""The paper's model in eole, the successor of OpenNMT-py: its training and its beam search.

Installation: benchmarks/peers.py. The model differs from ours in one point: eole's decoder can only be
pre-norm, so both stacks are pre-norm, with a LayerNorm at the end of each. So our model's weights cannot be
loaded.
"""

import warnings
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer import ModelConfig
from transformer.config import Precision

with warnings.catch_warnings():  # about its own operators for a GPU
    warnings.simplefilter("ignore")
    from eole.config.models import TransformerModelConfig
    from eole.config.run import PredictConfig
    from eole.config.training import TrainingConfig
    from eole.inputters.inputter import dict_to_vocabs
    from eole.models.model import EncoderDecoderModel
    from eole.predict.beam_search import GNMTGlobalScorer
    from eole.predict.translator import Translator
    from eole.trainer import Trainer, TrainerConfig
    from eole.utils import Statistics
    from eole.utils.loss import LossCompute
    from eole.utils.optimizers import Optimizer


def vocabularies(config: ModelConfig) -> dict[str, Any]:
    """A vocabulary for both sides, whose special tokens have the same ids as ours."""
    tokens = [f"token {number}" for number in range(config.vocab_size)]
    specials = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    for number, token in zip(config.special_ids, specials.values(), strict=True):
        tokens[number] = token
    return dict_to_vocabs(
        {"src": tokens, "tgt": tokens, "specials": specials, "decoder_start_token": specials["bos_token"]}
    )


def model_config(config: ModelConfig) -> TransformerModelConfig:
    return TransformerModelConfig(
        hidden_size=config.d_model,
        layers=config.num_layers,
        heads=config.num_heads,
        transformer_ff=config.d_ff,
        embeddings={"word_vec_size": config.d_model, "position_encoding_type": "SinusoidalInterleaved"},
        add_ffnbias=True,
        generator_bias=False,
        share_embeddings=True,
        share_decoder_embeddings=True,
    )


class Eole(nn.Module):
    """Maps source and target tokens to logits, like the models in benchmarks/peer_models.py."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.vocabs = vocabularies(config)
        self.settings = TrainingConfig(
            param_init_method="xavier_uniform",
            dropout=[config.dropout],
            attention_dropout=[0.0],
            label_smoothing=0.1,
        )
        self.model_config = model_config(config)
        self.model = EncoderDecoderModel.for_training(
            self.model_config, self.vocabs, self.settings, device_id=-1
        )
        for module in self.model.modules():
            if hasattr(module, "dropout_1"):  # inside the feed-forward network, where the paper has none
                module.dropout_1 = nn.Identity()

    def forward(
        self, src_tokens: Int[Tensor, "batch source"], tgt_tokens: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        lengths = (src_tokens != self.pad_id).sum(dim=1)
        target = nn.functional.pad(tgt_tokens, (0, 1))  # eole's model leaves out the last token itself
        return self.model.generator(self.model(src_tokens, target, lengths).dec_out)


def eole_update(peer: nn.Module, config: ModelConfig, precision: Precision) -> Any:
    """eole's own training step, in bfloat16 with its autocast.

    It counts correct predictions in every update. Three settings differ from eole's defaults: Adam is fused,
    gradients are not clipped, and the loss is not scaled, because bfloat16 needs no scaling.
    """
    assert isinstance(peer, Eole)
    adam = torch.optim.Adam(peer.model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    both = SimpleNamespace(model=peer.model_config, training=peer.settings)
    trainer = Trainer(
        peer.model,
        train_loss=LossCompute.from_config(both, peer.model, peer.vocabs),
        valid_loss=None,
        scoring_preparator=None,
        valid_scorers={},
        optim=Optimizer(adam, 1e-4, use_amp=precision == "bfloat16"),
        config=TrainerConfig(norm_method="tokens", n_gpu=0, gpu_rank=0, dropout=[config.dropout]),
    )

    def update(src_tokens: Tensor, tgt_tokens: Tensor) -> None:
        rows = len(src_tokens)
        batch = {
            "src": src_tokens,
            "tgt": tgt_tokens,
            "srclen": (src_tokens != config.pad_id).sum(dim=1),
            "images": None,
            "prefix_len": None,
            "cid": ["text"] * rows,
            "cid_line_number": range(rows),
        }
        target_tokens = int((tgt_tokens[:, 1:] != config.pad_id).sum())
        trainer._train_step([batch], target_tokens, Statistics(), Statistics())

    return update


def make_translator(config: ModelConfig, *, beam: int, length: int) -> Translator:
    """eole's search with random weights: every output has `length` tokens, scored with our length penalty.

    These are eole's fastest settings: greedy search for a beam of 1, and one product for queries, keys and
    values.
    """
    peer = Eole(config).eval()
    settings = PredictConfig(
        model_path=["none"],
        src="none",
        model=peer.model_config,
        beam_size=beam,
        top_k=1 if beam == 1 else 0,
        fuse_kvq=True,
        length_penalty="wu",
        alpha=0.6,
        min_length=length,
        max_length=length,
        max_length_ratio=0,
    )
    return Translator(
        peer.model,
        peer.vocabs,
        settings,
        peer.model_config,
        device_id=-1,
        global_scorer=GNMTGlobalScorer.from_config(settings),
    )


def translate(translator: Translator, src_tokens: Int[Tensor, "batch source"]) -> int:
    """The number of tokens in the best outputs, without BOS."""
    lengths = (src_tokens != translator._src_pad_idx).sum(dim=1)
    found = translator.predict_batch({"src": src_tokens, "srclen": lengths}, attn_debug=False)
    return sum(len(outputs[0]) for outputs in found["predictions"])
