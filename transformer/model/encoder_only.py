"""An encoder alone, as in BERT; `heads.py` has the heads that use its hidden states."""

from transformer.model.encoder import Encoder


class EncoderOnly(Encoder):
    """`Encoder` under the name of the variant: from tokens to hidden states."""
