"""An inspected sentence: it shows the real search and the model's real weights, and says what is missing."""

import importlib
import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import tiny_settings
from helpers import assert_close
from test_commands import Streams

from transformer.data.tokenizers.characters import CharacterTokenizer
from transformer.decoding.alignment import align
from transformer.decoding.beam import beam_search
from transformer.decoding.length_penalty import length_penalty
from transformer.decoding.scoring import with_bos
from transformer.decoding.search import greedy_search
from transformer.decoding.translator import Translator
from transformer.inspection import paper
from transformer.inspection.data import AXES, Attention, Gold
from transformer.inspection.gold import toyland_gold
from transformer.inspection.inspect import Inspection, inspect, mean_over_sentences
from transformer.inspection.loading import open_model
from transformer.inspection.page_data import page_data
from transformer.inspection.roles import breadth, by_words, first_choice, measures, role_of
from transformer.inspection.text import explain, summary
from transformer.inspection.tokens import Axis, axis_of, visible
from transformer.model.attention import MultiHeadAttention
from transformer.model.build import ModelBuilder
from transformer.model.projections import JoinedAttention
from transformer.model.recording import record_attention, without_head
from transformer.recipe import train
from transformer.toyland import analyse, antecedents, generate, particles

ROOT = Path(__file__).parents[1]
SUITCASE = "She closes the suitcase because it is clean."


@pytest.fixture(scope="module")
def translator(tiny_run) -> Translator:
    return Translator.from_pretrained(tiny_run, device="cpu")


@pytest.fixture(scope="module")
def inspection(translator) -> Inspection:
    return inspect(translator, SUITCASE, gold=toyland_gold(SUITCASE), beam_size=4)


# The recorded numbers are those of the model


def test_the_output_is_the_translators(translator, inspection):
    [found] = translator.translate_n_best([SUITCASE], n_best=1, beam_size=4)
    best = found[0]
    assert inspection.outputs[0].text == best.text
    assert inspection.outputs[0].score == pytest.approx(best.score, abs=1e-5)
    assert inspection.axes["target"].text == best.text
    assert inspection.axes["source"].text == SUITCASE
    penalty = length_penalty(len(inspection.search.winner), translator.decoding.alpha)
    assert inspection.log_prob == pytest.approx(best.score * penalty, abs=1e-4)
    assert sum(each.log_prob for each in inspection.predictions) == pytest.approx(
        inspection.log_prob, abs=1e-4
    )


def test_the_weights_are_those_of_the_cached_search(translator, inspection):
    """The forced pass gives the same numbers as decoding step by step with a cache."""
    model = translator.model
    [source] = translator.encode([SUITCASE], 1)
    output = list(inspection.search.winner)
    _, state = model.prefill(torch.tensor([source]), max_length=len(output))
    for row, token in enumerate(output[:-1], start=1):
        with record_attention(model) as steps:
            model.step(torch.tensor([token]), state)
        found = inspection.module("cross", 1).weights[:, row]
        assert_close(steps["decoder.blocks.0.cross_attention"][0, :, 0], found)


def test_rows_sum_to_1_and_shapes_are_those_of_the_axes(inspection):
    assert {module.kind for module in inspection.attention} == set(AXES)
    for module in inspection.attention:
        rows, columns = (inspection.axes[name] for name in AXES[module.kind])
        assert module.weights.shape == (2, len(rows.pieces), len(columns.pieces))
        assert_close(module.weights.sum(dim=-1), torch.ones(module.weights.shape[:2]))
        assert_close(module.scores.softmax(dim=-1), module.weights)
        words = by_words(module.weights[0], rows, columns)
        assert_close(words.sum(dim=1), torch.ones(len(rows.words)))


def test_a_heads_cost_is_what_the_log_probability_loses(translator, inspection):
    model = translator.model
    [source] = translator.encode([SUITCASE], 1)
    src_tokens, tokens = torch.tensor([source]), torch.tensor([inspection.search.winner])
    with torch.no_grad(), without_head(model.decoder.blocks[0].cross_attention, 1):
        log_probs = model(src_tokens, with_bos(model, tokens)).log_softmax(dim=-1)
    without = float(log_probs[0].gather(1, tokens[0][:, None]).sum())
    [head] = [each for each in inspection.heads if (each.kind, each.name) == ("cross", "1.2")]
    assert head.cost == pytest.approx(inspection.log_prob - without, abs=1e-4)


def test_the_last_layers_prediction_is_the_models(inspection):
    for each in inspection.predictions:
        assert len(each.by_layer) == len(each.own) == 1
        assert math.log(each.own[-1]) == pytest.approx(each.log_prob, abs=1e-4)
        assert all(
            first.probability >= second.probability for first, second in itertools.pairwise(each.by_layer[0])
        )


# The search


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_record_is_the_search(translator, beam_size, alpha):
    """It has every kept prefix with its score and every finished output, in no more lanes than necessary."""
    line = "The old man sleeps."
    found = inspect(translator, line, beam_size=beam_size, alpha=alpha).search
    steps = []
    [source] = translator.encode([line], 1)
    best = beam_search(
        translator.model,
        torch.tensor([source]),
        beam_size=beam_size,
        alpha=alpha,
        max_length=translator.limit(source, []),
        observe=steps.append,
    )
    assert list(found.winner) == best.tokens[0, 0, : int(best.lengths[0, 0])].tolist()
    assert len(found.steps) == len(steps)
    for step, original in zip(found.steps, steps, strict=True):
        kept = [
            (tuple(tokens), score)
            for tokens, score in zip(*(part[0].tolist() for part in original.after[1:3]), strict=True)
            if score > -math.inf
        ]
        assert [(node.tokens, node.total) for node in step.nodes] == kept
        assert step.penalty == length_penalty(original.length, alpha)
        lanes = [node.lane for node in step.nodes]
        assert len(set(lanes)) == len(lanes)
        assert max(lanes, default=0) <= beam_size
    scores = [score for score in steps[-1].finished.scores[0].tolist() if score > -math.inf]
    assert [each.score for each in found.finished] == scores
    endings = [ending for step in found.steps for ending in step.endings]
    assert sorted(each.place for each in endings if each.place is not None) == list(range(len(scores)))


def test_the_winner_stays_in_lane_0_and_others_keep_theirs(inspection):
    search = inspection.search
    before = None
    for step in search.steps:
        for node in step.nodes:
            assert (node.lane == 0) == (node.tokens == search.winner[: len(node.tokens)])
            if before and node.lane and any(node.lane == other.lane for other in before):
                heirs = [each for each in step.nodes if each.parent == node.parent]
                assert (
                    before[node.parent].lane == node.lane or len(heirs) > 1 or before[node.parent].lane == 0
                )
        before = step.nodes


def test_every_candidate_has_a_fate(translator):
    found = inspect(translator, "The old man sleeps.", beam_size=3).search
    fates = {candidate.fate for step in found.steps for candidate in step.candidates}
    assert fates <= {
        *("kept", "pruned", "ended", "ended, but ranked below the beam"),
        *("cut off at the limit", "dropped: no live hypothesis could still win"),
    }
    for step in found.steps:
        totals = [candidate.total for candidate in step.candidates]
        assert totals == sorted(totals, reverse=True)
        assert len(step.nodes) == sum(
            each.fate not in ("pruned", "ended", "ended, but ranked below the beam")
            for each in step.candidates
        )
        for candidate in step.candidates:
            assert candidate.score == pytest.approx(candidate.total / step.penalty)


def test_paths_are_followed_to_where_they_are_lost(translator, inspection):
    search = inspection.search
    reference = next(path for path in search.paths if path.name == "reference")
    assert reference.text == analyse(SUITCASE).target
    kept = [{node.tokens for node in step.nodes} for step in search.steps]
    if reference.tokens != search.winner:
        assert reference.lost_at is not None
        assert all(reference.tokens[: number + 1] in kept[number] for number in range(reference.lost_at - 1))
        assert reference.tokens[: reference.lost_at] not in kept[reference.lost_at - 1]
        assert "sum" in reference.fate
    [source] = translator.encode([SUITCASE], 1)
    limit = translator.limit(source, [])
    one = greedy_search(translator.model, torch.tensor([source]), max_length=limit)
    greedy = next(path for path in search.paths if path.name == "greedy")
    assert list(greedy.tokens) == one.tokens[0, 0].tolist()
    assert sum(greedy.log_probs) == pytest.approx(float(one.scores), abs=1e-4)


# Roles


def axis(*words: str) -> Axis:
    return Axis("a", " ".join(words), list(words), list(words), list(range(len(words))), [True] * len(words))


def head_with(pairs, rows: int, columns: int) -> torch.Tensor:
    weights = torch.full((rows, columns), 0.1 / columns)
    for row, column in pairs:
        weights[row, column] += 0.9
    return weights / weights.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "looks_at", "role"),
    [
        ("encoder", lambda row: max(row - 1, 0), "previous word"),
        ("encoder", lambda row: min(row + 1, 5), "next word"),
        ("encoder", lambda row: row, "itself"),
        ("encoder", lambda _: 5, "end"),
        ("decoder", lambda row: row, "previous word"),
        ("decoder", lambda _: 0, "start"),
        ("cross", lambda _: 5, "end"),
        ("cross", lambda row: [0, 1, 3, 2, 4, 5][row], "aligns"),
    ],
)
def test_a_heads_role_is_where_it_looks(kind, looks_at, role):
    weights = head_with([(row, looks_at(row)) for row in range(6)], 6, 6)
    words = axis("a", "b", "c", "d", "e", "⟨end⟩")
    gold = Gold("", [(0, 0), (1, 1), (3, 2), (2, 3), (4, 4)]) if role == "aligns" else None
    assert role_of(measures(kind, weights, words, words, gold)) == role


def test_equal_weights_are_broad_and_one_weight_is_not():
    assert breadth(torch.full((4, 5), 0.2)) == pytest.approx(1)
    assert breadth(torch.eye(4)) == 0
    words = axis("a", "b", "c", "d")
    assert role_of(measures("encoder", torch.full((4, 4), 0.25), words, words, None)) == "broad"


def test_a_pronouns_head_is_the_one_that_opens_the_page():
    source, target = axis("the", "hat", "it", "⟨end⟩"), axis("der", "Hut", "er", "⟨end⟩")
    gold = Gold("", [], pronouns=[(1, 2)])
    follows = head_with([(0, 0), (1, 1), (2, 1), (3, 3)], 4, 4)
    aligns = head_with([(0, 0), (1, 1), (2, 2), (3, 3)], 4, 4)
    module = Attention("m", "cross", 1, torch.stack([aligns, follows]), None, 4)
    assert first_choice([module], {"source": source, "target": target}, gold) == ("cross", 2, 1, 2)
    assert measures("cross", follows, target, source, gold)["pronoun → noun"] > 0.9
    assert first_choice([], {}, None) is None


def test_words_sum_over_the_pieces_looked_at_and_average_those_that_look():
    rows = Axis("r", "ab c", ["a", "b", "c"], ["ab", "c"], [0, 0, 1], [True, True])
    columns = Axis("c", "x yz", ["x", "y", "z"], ["x", "yz"], [0, 1, 1], [True, True])
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
    assert_close(by_words(weights, rows, columns), torch.tensor([[0.3, 0.7], [1.0, 0.0]]))


def test_means_over_sentences(translator):
    lines = ["The dog sleeps.", SUITCASE]
    single = [inspect(translator, line).heads for line in lines]
    for head, *both in zip(mean_over_sentences(translator, lines), *single, strict=True):
        assert head.cost == pytest.approx(sum(each.cost for each in both) / 2)
        for name, value in head.measures.items():
            assert value == pytest.approx(sum(each.measures[name] for each in both) / 2)


# Knowledge of the oracle


def test_toylands_pronouns_and_particles_are_found():
    example = analyse(SUITCASE)
    english, german = example.source.split(), example.target.split()
    assert [(english[one], german[two]) for one, two in antecedents(example)] == [("suitcase", "er")]
    assert [(english[one], german[two]) for one, two in particles(example)] == [("closes", "zu,")]
    counts = {"it": 0, "particle": 0}
    for example in generate("test", 300):
        english, german = example.source.split(), example.target.split()
        for noun, pronoun in antecedents(example):
            counts["it"] += 1
            assert german[pronoun].strip(".,").lower() in ("er", "sie", "es", "ihn")
            assert "it" in example.source.lower().replace(".", "").split()
            assert english[noun].islower()
        for _, particle in particles(example):
            counts["particle"] += 1
            assert german[particle].strip(".,?").islower()
    assert min(counts.values()) > 5
    assert toyland_gold("Colourless green ideas sleep furiously.") is None


# Words and pieces


def test_marks_at_the_end_of_a_word_are_words_and_gold_words_are_found(translator):
    tokenizer = translator.tokenizer
    line = "Sie macht den Koffer zu, weil er sauber ist."
    [ids] = tokenizer.encode([line])
    found = axis_of(tokenizer, [*ids, 2], "x")
    assert found.words == [
        "Sie",
        "macht",
        "den",
        "Koffer",
        "zu",
        ",",
        "weil",
        "er",
        "sauber",
        "ist",
        ".",
        "⟨end⟩",
    ]
    assert found.text == line
    assert [found.words[found.word_at(number)] for number in range(9)] == [
        word.strip(",.") for word in line.split()
    ]
    assert len(found.word_of) == len(found.pieces) == len(ids) + 1
    assert found.word_of == sorted(found.word_of)


def test_scripts_without_spaces_have_a_word_for_each_piece():
    line = "私は魚を食べる。"
    tokenizer = CharacterTokenizer("".join(sorted(set(line))))
    [ids] = tokenizer.encode([line])
    assert axis_of(tokenizer, ids, "x").words == list(line)


def test_what_cannot_be_seen_is_pictured():
    assert visible("a\x00b\u2028c\nd\x85") == "a␀b⟨U+2028⟩c↵d⟨U+0085⟩"


# Other models


def test_a_language_models_continuation(tmp_path):
    settings = tiny_settings(
        tmp_path / "lm",
        data={
            "train": str(text_file(tmp_path)),
            "valid": None,
            "test": None,
            "tokenizer": "characters",
            "context": 32,
        },
    )
    settings = replace(settings, model=replace(settings.model, kind="decoder_only"))
    opened = open_model(train(settings), device="cpu")
    found = inspect(opened.model, "the cat", beam_size=2, max_length=6)
    assert found.axes["source"].text == "the cat"
    assert [module.weights.shape for module in found.attention] == [
        (2, len(found.search.winner), 6 + 1 + len(found.search.winner) - 1)
    ]
    assert len(found.predictions) == len(found.search.winner)
    assert found.log_prob == pytest.approx(sum(each.log_prob for each in found.predictions), abs=1e-4)
    places = page_data(found)["readPlaces"]
    assert places[0] == ("source", 0)
    assert places[7:] == [("target", number) for number in range(len(found.search.winner) - 1)]
    assert "continuation" not in found.missing
    assert "§3.2.1 equation 1" in explain(found)
    with pytest.raises(ValueError, match="max_length is 0; it must be at least 1"):
        inspect(opened.model, "the cat", max_length=0)


def text_file(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text("the cat sat on the mat. a dog ran.\n" * 40, encoding="utf-8")
    return path


@pytest.mark.parametrize("task", ["masked_language_model", "classification"])
def test_encoders(task, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(
        "".join(f"the cat sat on mat {n % 7}\t{'ab'[n % 2]}\n" for n in range(60)), encoding="utf-8"
    )
    settings = tiny_settings(
        tmp_path / "run",
        data={"train": str(path), "valid": None, "test": None, "label_format": "tab", "vocab_size": 280},
    )
    settings = replace(settings, task=task, model=replace(settings.model, kind="encoder_only"))
    opened = open_model(train(settings), device="cpu")
    line = "the <mask> sat on" if task == "masked_language_model" else "the cat sat on"
    found = inspect(opened.model, line)
    assert {module.kind for module in found.attention} == {"encoder"}
    assert found.search is None
    [prediction] = found.predictions
    assert prediction.log_prob == pytest.approx(found.log_prob, abs=1e-5)
    if task == "masked_language_model":
        assert found.axes["source"].pieces[prediction.place] == "<mask>"
        assert found.choice.word == found.axes["source"].word_of[prediction.place]
        [[best]] = opened.model.fill([line], count=1)
        assert best[0].probability == pytest.approx(math.exp(prediction.log_prob), abs=1e-5)
    else:
        [label] = opened.model.classify([line])
        assert (prediction.text, math.exp(prediction.log_prob)) == (
            label.name,
            pytest.approx(label.probability),
        )
    assert page_data(found)["search"] is None
    assert summary(found)


def test_nothing_of_a_frozen_model_is_missing(translator, inspection):
    """Freezing changes the class of its attention modules, not what they compute."""
    modules = translator.model.modules()
    assert any(isinstance(module, JoinedAttention) for module in modules)
    assert inspection.missing == []


def test_custom_attention_is_shown_and_what_is_missing_is_said(translator):
    class Own(MultiHeadAttention):
        def weights(self, x, kv, **options):
            return (super().weights(x, kv, **options) ** 2).softmax(dim=-1)

    class Builder(ModelBuilder):
        def decoder_block(self):
            block = super().decoder_block()
            block.cross_attention = self.attention(Own)
            return block

    config = translator.config
    own = Translator(Builder(config).build().eval(), translator.tokenizer, model_config=config)
    found = inspect(own, "The dog sleeps.")
    assert found.module("cross", 1).scores is None
    [missing] = found.missing
    assert missing.startswith("No equation 1 for decoder.blocks.0.cross_attention: Own computes its weights")
    assert page_data(found)["terms"][0] is not None
    assert "a formula of its own" in explain(found)


def test_a_model_of_another_kind_shows_what_it_can(translator, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    model = importlib.import_module("recurrent").build(replace(translator.config, dropout=0.0)).eval()
    found = inspect(
        Translator(model, translator.tokenizer, model_config=translator.config), "The dog sleeps."
    )
    assert [module.name for module in found.attention] == ["attention"]
    assert found.search is not None
    assert any("No lengths of vectors" in each for each in found.missing)
    assert found.alignment == []
    assert "§6.1 beam search" in explain(found)


def test_what_cannot_be_inspected_is_refused(translator):
    with pytest.raises(ValueError, match="the sentence is blank"):
        inspect(translator, "  ")
    with pytest.raises(ValueError, match="the tokenizer finds no tokens in this sentence"):
        inspect(translator, "\u200b")
    with pytest.raises(ValueError, match=r"decoding.beam_size is 0"):
        inspect(translator, "a", beam_size=0)


# The document


def test_the_document_has_the_table_of_the_records():
    """`python -m transformer.inspection.paper` prints the table."""
    assert paper.markdown() in (ROOT / "docs/paper_to_code.md").read_text(encoding="utf-8")


def test_explain_names_places_of_the_paper(inspection):
    text = explain(inspection)
    for section in (
        "§3.2.1 equation 1",
        "§3.3 equation 2",
        "§3.1 residual",
        "§3.4 embeddings",
        "§3.5",
        "§6.1 length",
    ):
        assert f"\n{paper.place(section).paper}    {paper.place(section).symbol}\n" in text
    module = inspection.module(inspection.choice.kind, inspection.choice.layer)
    rows = inspection.axes["target"].word_of
    pieces = [row for row, word in enumerate(rows) if word == inspection.choice.word]
    weight = float(module.weights[inspection.choice.head - 1, pieces].max())
    assert f"= {weight:.3f}\n" in text
    other = explain(inspection, word=0)
    assert f"predicting {inspection.axes['target'].words[0]}," in other
    with pytest.raises(ValueError, match="there is no word 100"):
        explain(inspection, word=99)


def test_the_alignment_is_the_translators(translator, inspection):
    [source] = translator.encode([SUITCASE], 1)
    words = [token for token in inspection.search.winner if token != 2]
    assert inspection.alignment == align(translator.model, translator.tokenizer, [source], [words])[0]


# The commands


@pytest.fixture
def call(monkeypatch) -> Streams:
    return Streams(monkeypatch)


def test_the_command_writes_a_page_and_a_summary(call, tiny_run, tmp_path):
    path = tmp_path / "page.html"
    code, out, err = call("inspect", "--run", str(tiny_run), SUITCASE, "-o", str(path))
    assert code == 0
    assert out.decode().splitlines()[0] == SUITCASE
    reference = "Sie macht den Koffer zu, weil er sauber ist."
    assert f"wrong; the translation by toyland's grammar: {reference}" in out.decode()
    assert err.splitlines()[-1].startswith(f"wrote {path}; open it in a browser: file:///")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_measures_roles_over_a_file(call, tiny_run, tmp_path):
    (tmp_path / "lines").write_text("The dog sleeps.\n\nThe cat sleeps.\n", encoding="utf-8")
    code, out, err = call("inspect", "--run", str(tiny_run), "--sentences", str(tmp_path / "lines"))
    assert (code, err) == (0, "")
    head, *rows = [line.split("\t") for line in out.decode().splitlines()]
    assert head == ["attention", "layer", "head", "role", "without", "measures"]
    assert [row[:3] for row in rows] == [
        [kind, "1", head] for kind in ("encoder", "decoder", "cross") for head in "12"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a sentence to inspect, or --sentences FILE"),
        (["a", "--max-length", "3"], "the run's task is translation, which has no --max-length"),
        (["a", "--beam-size", "0"], "decoding.beam_size is 0; it must be greater than 0"),
        (["  "], "the sentence is blank; give one to inspect"),
        (
            ["--sentences", "/dev/null", "-o", "page.html"],
            "--output is for the page about a sentence; the table is printed",
        ),
        (["--sentences", "/dev/null"], "/dev/null has no sentences: every line is blank"),
    ],
)
def test_errors_are_one_line(call, tiny_run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("inspect", "--run", str(tiny_run), *arguments)
    assert (code, out, err) == (2, b"", f"transformer inspect: error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_explain_prints_equations(call, tiny_run):
    code, out, err = call("explain", "--run", str(tiny_run), SUITCASE, "--word", "1")
    assert (code, err) == (0, "")
    assert "§3.2.1 equation 1    transformer/model/attention.py: attention" in out.decode()
    code, out, err = call("explain", "--run", str(tiny_run), SUITCASE, "--word", "0")
    assert (code, out) == (2, b"")
    assert err == "transformer explain: error: --word is 0; words are counted from 1\n"
