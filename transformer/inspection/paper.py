# ruff: noqa: E501  (rows of a table)
"""The table of docs/paper_to_code.md, which maps each part of the paper to its code, as records.

`transformer explain` and the page of `transformer inspect` read these records, so they cannot disagree with
the document. `python -m transformer.inspection.paper` prints the table; a test compares it with the document.
"""

import re
from typing import NamedTuple


class Place(NamedTuple):
    """A part of the paper, the code that computes it, and the tests that check it, as Markdown."""

    paper: str
    code: str
    tests: str

    @property
    def symbol(self) -> str:
        """The first piece of code, such as `transformer/model/attention.py: attention`."""
        return re.findall(r"`([^`]+)`", self.code)[0]


TABLE_3 = (
    ("base", "N = 6, d_model 512, d_ff 2048, h = 8"),
    ("A1", "h = 1, d_k = d_v = 512"),
    ("A2", "h = 4, d_k = d_v = 128"),
    ("A3", "h = 16, d_k = d_v = 32"),
    ("A4", "h = 32, d_k = d_v = 16"),
    ("B1", "d_k = 16"),
    ("B2", "d_k = 32"),
    ("C1", "N = 2"),
    ("C2", "N = 4"),
    ("C3", "N = 8"),
    ("C4", "d_model 256, d_k = d_v = 32"),
    ("C5", "d_model 1024, d_k = d_v = 128"),
    ("C6", "d_ff 1024"),
    ("C7", "d_ff 4096"),
    ("D1", "P_drop 0"),
    ("D2", "P_drop 0.2"),
    ("D3", "ε_ls 0"),
    ("D4", "ε_ls 0.2"),
    ("E", "learned positions"),
    ("big", "d_model 1024, d_ff 4096, h = 16, P_drop 0.3, 300,000 updates"),
)


def _table_3(row: tuple[str, str]) -> Place:
    name, changes = row
    code, tests = (
        f"`configs/table3/{name}.yaml`",
        "`tests/test_table3.py: test_the_recipe_changes_what_the_row_changes`",
    )
    if name == "E":
        code += ", `transformer/model/positions.py: LearnedEncoding`"
        tests += ", `tests/test_positions.py: test_learned_positions_are_rows_of_a_table`"
    return Place(f"Table 3, row {name}: {changes}", code, tests)


PLACES = (
    Place(
        "§3.1 encoder and decoder stacks, figure 1",
        "`transformer/model/encoder_decoder.py: EncoderDecoder`, "
        "`transformer/model/encoder.py: Encoder`, `transformer/model/decoder.py: Decoder`, "
        "`transformer/model/blocks.py: DecoderBlock`",
        "`tests/test_parity.py: test_the_model_equals_the_papers_equations`, `tests/test_models.py`",
    ),
    Place(
        "§3.1 residual connection and LayerNorm",
        "`transformer/model/layers.py: PostNorm`",
        "`tests/test_layers.py: test_post_norm_is_the_papers_formula`",
    ),
    Place(
        "§3.2.1 equation 1",
        "`transformer/model/attention.py: attention`, `transformer/model/attention.py: attention_weights`; training "
        "calls `transformer/kernels/attention.py: fused_attention`, which computes the same",
        "`tests/test_attention.py: test_written_out_attention_equals_torch`; by hand in [attention_by_hand.md](attention_by_hand.md)",
    ),
    Place(
        "§3.2.1 the scale 1/√d_k",
        "`transformer/model/attention.py: attention_weights`",
        "`tests/test_attention.py: test_scores_are_scaled_by_the_width_of_a_key`",
    ),
    Place(
        "§3.2.2 multi-head attention",
        "`transformer/model/attention.py: MultiHeadAttention`",
        "`tests/test_attention.py: test_heads_attend_each_in_its_own_subspace`, "
        "`tests/test_parity.py: test_attention_equals_torch`",
    ),
    Place(
        "§3.2.3 the three uses of attention",
        "`transformer/model/masks.py: Context`, `transformer/model/blocks.py: TransformerBlock`, "
        "`transformer/model/blocks.py: DecoderBlock`",
        "`tests/test_models.py: test_every_position_of_an_encoder_sees_every_other`",
    ),
    Place(
        "§3.2.3 masking",
        "`transformer/model/masks.py: padding_mask`, "
        "`transformer/model/masks.py: causal_mask`; what makes training causal: `transformer/model/masks.py: causal_context`, "
        "whose `is_causal` tells `transformer/kernels/attention.py: fused_attention` to hide the future",
        "`tests/test_masks.py`, `tests/test_models.py: test_the_future_cannot_change_the_past`",
    ),
    Place(
        "§3.3 equation 2",
        "`transformer/model/layers.py: FeedForward`",
        "`tests/test_layers.py: test_feed_forward_is_equation_2`",
    ),
    Place(
        "§3.4 embeddings × √d_model",
        "`transformer/model/layers.py: TokenEmbedding`",
        "`tests/test_layers.py: test_embeddings_are_scaled_before_positions_are_added`",
    ),
    Place(
        "§3.4 one matrix for source, target and output",
        "`transformer/model/build.py: ModelBuilder`",
        "`tests/test_build.py: test_tied_embeddings_are_one_storage`",
    ),
    Place(
        "§3.5 positional encoding",
        "`transformer/model/positions.py: SinusoidalEncoding`",
        "`tests/test_positions.py: test_sinusoids_equal_the_closed_form`, "
        "`tests/test_positions.py: test_a_shift_is_a_rotation`",
    ),
    Place(
        "§4 why self-attention, Table 1",
        "`transformer/model/attention.py: MultiHeadAttention`, compared with an LSTM by `benchmarks/scaling.py` ([performance.md](performance.md#self-attention-and-recurrence-table-1))",
        "`tests/test_models.py: test_every_position_of_an_encoder_sees_every_other`",
    ),
    Place(
        "§5.1 shared BPE",
        "`transformer/data/tokenizers/sentence_piece.py: train_tokenizer`",
        "`tests/test_tokenizer.py`",
    ),
    Place(
        "§5.1 batches by approximate length",
        "`transformer/data/batches.py: TokenBatches`",
        "`tests/test_batches.py: test_an_epoch_has_every_row_once_within_the_budget`",
    ),
    Place(
        "§5.2 100,000 and 300,000 updates",
        "`configs/wmt14_en_de_base.yaml`, `configs/wmt14_en_de_big.yaml`",
        "`tests/test_configs.py: test_the_papers_models_have_the_sizes_derived_by_hand`",
    ),
    Place(
        "§5.3 Adam",
        "`transformer/training/optimizer.py: adam`",
        "`tests/test_objectives.py: test_without_weight_decay_the_optimizer_is_adam_with_the_papers_numbers`",
    ),
    Place(
        "§5.3 equation 3",
        "`transformer/training/schedule.py: inverse_sqrt_rate`; training calls "
        "`transformer/training/schedule.py: learning_rate`, which also applies the settings of the schedule",
        "`tests/test_schedule.py: test_the_rate_is_equation_3`",
    ),
    Place(
        "§5.4 residual dropout",
        "`transformer/model/layers.py: PostNorm`, `transformer/model/layers.py: TokenEmbedding`, "
        "`transformer/kernels/dropout.py: Dropout`",
        "`tests/test_layers.py: test_residual_dropout_drops_the_sublayers_output_and_never_its_input`, "
        "`tests/test_dropout.py`",
    ),
    Place(
        "§5.4 label smoothing",
        "`transformer/training/objectives.py: smoothed_cross_entropy`; training calls "
        "`transformer/kernels/loss.py: overwriting_cross_entropy`, which computes the same",
        "`tests/test_objectives.py: test_the_loss_is_the_papers_formula_with_the_mass_on_every_class`, "
        "`tests/test_fused_loss.py`",
    ),
    Place(
        "§6.1 averaging checkpoints",
        "`transformer/checkpoint/averaging.py: average_checkpoints`",
        "`tests/test_checkpoint.py: test_an_average_is_the_mean_of_the_newest_weights`",
    ),
    Place(
        "§6.1 beam search",
        "`transformer/decoding/beam.py: beam_search`",
        "`tests/test_search.py: test_a_full_beam_equals_brute_force`",
    ),
    Place(
        "§6.1 length penalty",
        "`transformer/decoding/length_penalty.py: length_penalty`",
        "`tests/test_search.py: test_length_penalty_is_the_papers`",
    ),
    Place(
        "§6.1 at most input + 50 tokens",
        "`transformer/decoding/lines.py: LineTranslator` (`limit`)",
        "`tests/test_translator.py: test_translations_end_at_the_papers_limit`",
    ),
    Place(
        "§6.2 Table 3 as a whole",
        "`transformer/evaluation/table3.py: ROWS`, `benchmarks/table3.py`, [table3.md](table3.md)",
        "`tests/test_table3.py`",
    ),
    *map(_table_3, TABLE_3),
    Place(
        "§6.3 constituency parsing, Table 4",
        "`configs/toyland_parsing.yaml`, "
        "`transformer/evaluation/metrics.py: bracket_f1`, [reproducing.md](reproducing.md#constituency-parsing-on-toyland-63)",
        "`tests/test_parsing.py`",
    ),
    Place(
        "Table 2 BLEU, tokenized, compounds split",
        "`transformer/evaluation/compounds.py: paper_bleu`",
        "`tests/test_compounds.py: test_half_of_a_compound_earns_credit_and_the_score_is_that_by_hand`",
    ),
    Place(
        "Table 2 base, big",
        "`configs/wmt14_en_de_base.yaml`, `configs/wmt14_en_de_big.yaml`",
        "`tests/test_configs.py: test_the_papers_models_have_the_sizes_derived_by_hand`",
    ),
    Place(
        "Figures 3-5 what heads attend to",
        "`transformer/model/recording.py: record_attention`",
        "`tests/test_attention.py: test_recorded_weights_are_those_of_the_fused_path`",
    ),
)


def place(beginning: str) -> Place:
    """Return the only entry whose `paper` column starts with `beginning`."""
    [found] = [each for each in PLACES if each.paper.startswith(beginning)]
    return found


def markdown() -> str:
    """Make the table of docs/paper_to_code.md."""
    rows = [" | ".join(each) for each in PLACES]
    return "\n".join(f"| {row} |" for row in ("paper | code | test", "--- | --- | ---", *rows)) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
