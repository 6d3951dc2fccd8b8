"""The encoder alone, as in BERT; `heads.py` has the modules that make use of its hidden states."""

from transformer.model.encoder import Encoder


class EncoderOnly(Encoder):
    """The same stack under the name of the variant: tokens to hidden states."""
