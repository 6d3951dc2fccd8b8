"""An encoder without a decoder, as in BERT; the heads in `heads.py` use its hidden states."""

from transformer.model.encoder import Encoder


class EncoderOnly(Encoder):
    """`Encoder` under the name of the variant: maps tokens to hidden states."""
