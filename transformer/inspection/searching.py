"""Searching for one line's output, and recording the step in which the search drops other outputs."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from transformer.config import DecodingConfig
from transformer.data.tokenizers.protocol import EOS_ID, Tokenizer
from transformer.decoding.beam import beam_search
from transformer.decoding.search import greedy_search
from transformer.inspection.search_record import Recorder, SearchRecord
from transformer.inspection.tokens import Texts


def search_line(
    model: nn.Module,
    tokenizer: Tokenizer,
    tokens: Tensor,
    decoding: DecodingConfig,
    limit: int,
    log_probs_of: Callable[[Sequence[int]], list[float]],
    paths: Mapping[str, Sequence[int]],
) -> SearchRecord:
    """Run the beam search for one row of tokens and record it.

    The record also follows the output of greedy search and the named outputs `paths` through the search.
    `log_probs_of` returns the log-probability of each token of an output.
    """
    eos_id = getattr(model, "eos_id", EOS_ID)
    recorder = Recorder(decoding.beam_size, decoding.alpha, eos_id, Texts(tokenizer))
    found = beam_search(
        model,  # type: ignore[arg-type]  # an nn.Module with prefill and step
        tokens,
        beam_size=decoding.beam_size,
        alpha=decoding.alpha,
        max_length=limit,
        observe=recorder,
    )
    if not int(found.lengths[0, 0]):
        raise ValueError("the search found no output for this sentence")
    greedy = greedy_search(model, tokens, max_length=limit)  # type: ignore[arg-type]
    followed = {"greedy": greedy.tokens[0, 0].tolist(), **paths}
    return recorder.record([(name, path, log_probs_of(path)) for name, path in followed.items()])
