"""The options of `translate` and `score`, compared with results computed from Python in other ways."""

import json
import math

import pytest
from jsonargparse import Namespace
from test_commands import Streams

from transformer.cli import main
from transformer.cli.requests import Request
from transformer.cli.translate import json_lines
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN
from transformer.decoding.alignment import alignment_error_rate, best_words, pharaoh, words_of
from transformer.decoding.processors import MinLength, NoRepeat
from transformer.decoding.scoring import score_pairs
from transformer.decoding.translator import Translator
from transformer.toyland import generate
from transformer.toyland.alignment import alignments

LINES = ["the clock strikes seven .", "", "Is the house old?", "x", "the dog sleeps"]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture(autouse=True)
def anything(monkeypatch):
    """The lines of these tests need not be toyland's: nothing warns of them."""
    monkeypatch.setattr("transformer.cli.translate.learned_toyland", lambda _: False)


@pytest.fixture(scope="module")
def translator(tiny_run) -> Translator:
    return Translator.from_pretrained(tiny_run, device="cpu")


@pytest.fixture
def call(monkeypatch) -> Streams:
    return Streams(monkeypatch)


@pytest.fixture
def translate(call, tiny_run):
    def run(*options, given=TEXT):
        code, out, err = call("translate", "--run", str(tiny_run), *options, given=given)
        assert code == 0, err
        return out.decode().split("\n")[:-1]

    return run


def windows(data: bytes) -> bytes:
    """The text as Windows programs write it: with a byte order mark and CRLF line endings."""
    return "\ufeff".encode() + data.replace(b"\n", b"\r\n")


def test_windows_text_is_the_same_text(call, tiny_run, tmp_path):
    """Byte order marks and line endings are not part of lines, JSON, pairs, prefixes and files."""
    run = ["--run", str(tiny_run)]
    (tmp_path / "prefixes").write_bytes(TEXT)
    (tmp_path / "windows").write_bytes(windows(TEXT))
    records = "".join(json.dumps({"source": line, "target": "die Uhr"}) + "\n" for line in LINES).encode()
    pairs = "".join(f"{line}\tdie Uhr\n" for line in LINES).encode()
    for arguments, given in (
        (["translate", *run, "--scores"], TEXT),
        (["translate", *run, "--json"], records),
        (["score", *run, "--tokens"], pairs),
        (["score", *run, "--json"], records),
        (["translate", *run, "--prefixes", str(tmp_path / "prefixes")], TEXT),
    ):
        code, plain, err = call(*arguments, given=given)
        assert (code, err) == (0, "")
        arguments = [
            argument.replace("prefixes", "windows") if "/" in argument else argument for argument in arguments
        ]
        assert call(*arguments, given=windows(given)) == (0, plain, "")
    out = str(tmp_path / "out")
    assert call("translate", *run, "--input", str(tmp_path / "windows"), "--output", out)[0] == 0
    assert (tmp_path / "out").read_bytes() == call("translate", *run, given=TEXT)[1]


def test_every_translation_has_the_least_length(translate, translator):
    for length in (3, 9):
        processors = [MinLength(length, 2), NoRepeat(1)]
        found = translator.translate_n_best(LINES, n_best=1, processors=processors)
        for line, source, [output] in zip(LINES, translator.encode(LINES), found, strict=True):
            limit = len(source) + translator.decoding.max_extra
            assert not line or min(length, limit) <= len(output.tokens) + 1 <= limit + 1
            assert len(set(output.tokens)) == len(output.tokens)
        texts = translate("--min-length", str(length), "--no-repeat", "1")
        assert texts == [output.text for [output] in found]


def test_translations_start_with_their_prefix(translate, tmp_path):
    prefixes = ["Die Uhr", "", "", "Der", "Das Haus ist"]
    (tmp_path / "prefixes").write_text("".join(f"{prefix}\n" for prefix in prefixes))
    forced = translate("--prefixes", str(tmp_path / "prefixes"), "--buffer", "2")
    free = translate()
    for prefix, text, without in zip(prefixes, forced, free, strict=True):
        assert text.startswith(prefix)
        if not prefix:
            assert text == without
    given = [{"source": line, "prefix": prefix} for line, prefix in zip(LINES, prefixes, strict=True)]
    lines = translate("--json", given="".join(json.dumps(record) + "\n" for record in given).encode())
    assert [json.loads(line)["translation"] for line in lines] == forced


def test_json_has_no_infinity(translator):
    """If every token is forbidden, nothing is found and the score is -inf, which JSON cannot express."""
    everything_forbidden = [lambda log_probs, *_: log_probs.fill_(-math.inf)]
    found = translator.translate_n_best(["x"], n_best=2, processors=everything_forbidden)
    outputs = [(output, None) for output in found[0]]
    [line] = json_lines(Request("x", "", {"id": 7}), 1, outputs, Namespace(n_best=2))
    nothing = {"translation": "", "score": None}
    assert json.loads(line, parse_constant=pytest.fail) == {"id": 7, **nothing, "n_best": [nothing] * 2}


def test_json_passes_unknown_fields_through(translate):
    records = [{"id": 7, "source": line, "nested": {"ä": [1, None]}} for line in LINES]
    given = "".join(json.dumps(record) + "\n" for record in records).encode()
    plain, scores = zip(*(line.split("\t")[::-1] for line in translate("--scores")), strict=True)
    for record, line, text, score in zip(
        records, translate("--json", given=given), plain, scores, strict=True
    ):
        found = json.loads(line)
        assert found.pop("translation") == text
        assert f"{found.pop('score'):.4f}" == score
        assert found == record
    for line in translate("--json", "--n-best", "2", "--alignment", given=given):
        found = json.loads(line)
        assert len(found["n_best"]) == 2
        assert found["n_best"][0] == {name: found[name] for name in ("translation", "score", "alignment")}
        assert found["n_best"][0]["score"] >= found["n_best"][1]["score"]


@pytest.mark.parametrize("command", ["translate", "score"])
def test_json_comes_back_as_it_was_written(command, call, tiny_run):
    """Including numbers that Python cannot represent, and deep nesting."""
    deep = "[" * 500 + "]" * 500
    members = ['"a": 1e999', '"b": 1.00000000000000000001', '"c": ' + "9" * 5000, f'"d": {deep}']
    members += ['"e\\"\\u00e4": {"x" : [1,2, -0.0]}', '"source": "x"', '"target": "y"']
    given = ("{ " + " ,\t".join(members) + " }\n").replace("[1,2", "[1,\r2")
    code, out, err = call(command, "--run", str(tiny_run), "--json", given=given.encode())
    assert (code, err) == (0, "")
    expected = "{" + ", ".join(members) + ", "
    assert out.decode().startswith(expected.replace("\\u00e4", "ä").replace("[1,2", "[1, 2"))
    assert out.count(b"\n") == 1


@pytest.mark.parametrize("command", ["translate", "score"])
def test_json_of_any_depth_is_read_and_written_or_refused(command, call, tiny_run):
    for depth in (950, 980, 990, 995, 1000, 100_000):
        given = '{"source": "a", "target": "b", "x": ' + "[" * depth + "]" * depth + "}\n"
        code, out, err = call(command, "--run", str(tiny_run), "--json", given=given.encode())
        assert code in (0, 2)
        assert out.startswith(given[:-2].encode()) if code == 0 else "line 1 is not JSON: it is nested" in err


@pytest.mark.parametrize("command", ["translate", "score"])
def test_json_passes_half_a_character_through(command, call, tiny_run):
    """A JSON string may contain half of a surrogate pair, which UTF-8 cannot encode."""
    given = b'{"id": "\\ud83d and \\ud83d\\ude00", "\\udc00": 1, "source": "a", "target": "b"}\n'
    code, out, err = call(command, "--run", str(tiny_run), "--json", given=given)
    assert (code, err) == (0, "")
    assert json.loads(given).items() <= json.loads(out).items()
    broken = b'{"source": "a", "target": "b\\ud800"}\n'
    code, _, err = call("score", "--run", str(tiny_run), "--json", given=broken)
    assert (code, err.count("\n")) == (2, 1)
    assert 'line 1 is not a JSON object with the strings "source" and "target"' in err


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        (["--json"], b'{"source": "a"}\nb\n', "line 2 is not JSON: "),
        (["--json"], b'{"target": "a"}\n', 'line 1 is not a JSON object with the string "source"'),
        (["--json"], b'["a"]\n', 'line 1 is not a JSON object with the string "source"'),
        (["--json"], b'{"source": "a", "prefix": 3}\n', 'line 1: "prefix" is not a valid string'),
        (["--json"], b'{"source": "a\\ud800"}\n', 'line 1 is not a JSON object with the string "source"'),
        (
            ["--json"],
            b'{"source": "a\\u0000"}\n',
            'line 1 is not a JSON object with the string "source": "source"',
        ),
        (["--json"], b'{"source": "a", "x": NaN}\n', "line 1 is not JSON: NaN is not JSON"),
        (["--json"], b'{"source": "a", "x": -Infinity}\n', "line 1 is not JSON: -Infinity is not JSON"),
        (["--json"], b'{"source": "a", "prefix": "\\udc00"}\n', 'line 1: "prefix" is not a valid string'),
        (["--prefixes", "/dev/null"], b"a\n", "/dev/null ends before line 1; give a prefix"),
        (["--json", "--on-error", "skip"], b"", "--on-error skip makes an empty line, which is not JSON"),
        (["--top-k", "0"], b"", "--temperature, --top-k, --top-p and --seed need --sample"),
        (["--seed", "1"], b"", "--temperature, --top-k, --top-p and --seed need --sample"),
        (["--sample", "--beam-size", "2"], b"", "--beam-size and --alpha are for beam search"),
        (["--sample", "--alpha", "0"], b"", "--beam-size and --alpha are for beam search"),
        (["--sample", "--n-best", "1001"], b"a\n", "n_best is 1001; it must be between 1 and 1000 when"),
        (["--sample", "--temperature", "0"], b"a\n", "temperature is 0.0; it must be greater than 0"),
        (["--min-length", "0"], b"", "--min-length is 0; it must be at least 1"),
        (["--no-repeat", "-1"], b"", "--no-repeat is -1; it must be at least 1"),
        (["--input", "x"], b"", "--input and --output go together"),
        (["--beam-size", "1001"], b"a\n", "decoding.beam_size is 1001; it must be at most 1000"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(call, tiny_run, options, given, message):
    code, _, err = call("translate", "--run", str(tiny_run), *options, given=given)
    assert code == 2
    assert err.startswith(f"transformer translate: error: {message}")
    assert err.count("\n") == 1


def test_draws_are_repeatable_and_different(translate):
    draws = [translate("--sample", "--seed", seed, "--temperature", "2") for seed in ("1", "1", "2")]
    assert draws[0] == draws[1] != draws[2]
    many = [line.split("\t") for line in translate("--sample", "--n-best", "3", "--scores")]
    assert [row[0] for row in many] == [str(n) for n in range(1, 6) for _ in range(3)]
    for start in range(0, 15, 3):
        scores = [float(row[1]) for row in many[start : start + 3]]
        assert scores == sorted(scores, reverse=True)
    nearly_greedy = translate("--sample", "--top-k", "1")
    assert nearly_greedy == translate("--beam-size", "1")


def test_runs_translate_together(call, translate, tiny_run):
    alone = translate()
    code, out, _ = call("translate", "--run", str(tiny_run), str(tiny_run), given=TEXT)
    assert (code, out.decode().split("\n")[:-1]) == (0, alone)


def test_an_ensemble_needs_one_vocabulary(tiny_run, tmp_path):
    from fixtures_run import tiny_settings

    from transformer.recipe import train

    other = train(tiny_settings(tmp_path / "other", data={"vocab_size": 340}, max_steps=2))
    with pytest.raises(ValueError, match="other: its vocabulary differs from that of "):
        Translator.from_pretrained([tiny_run, other])


# score


def test_forced_decoding_gives_the_scores_that_the_search_found(translator):
    """An output cut off at its limit has no EOS, so the last term of its forced score is left out."""
    found = translator.translate_n_best(LINES, n_best=2, alpha=0.0)
    pairs = [
        (source, output)
        for source, outputs in zip(translator.encode(LINES), found, strict=True)
        for output in outputs
        if source
    ]
    sources, targets = [source for source, _ in pairs], [output.tokens for _, output in pairs]
    is_cut = [len(target) == len(source) + 4 for source, target in zip(sources, targets, strict=True)]
    for batch_tokens in (1, 60, 4096):
        scores = score_pairs(translator.model, sources, targets, batch_tokens=batch_tokens)
        for (_, output), cut, score in zip(pairs, is_cut, scores, strict=True):
            assert len(score.tokens) == len(output.tokens) + 1
            terms = score.tokens[:-1] if cut else score.tokens
            assert sum(terms) == pytest.approx(output.score, abs=1e-3)
            assert score.total == pytest.approx(sum(score.tokens))


def test_score_does_not_depend_on_the_batch(call, tiny_run, translator):
    targets = ["Die Uhr.", "", "Haus", "", "Der Hund schläft den ganzen Tag."]
    together = translator.score(LINES, targets)
    for line, target, score in zip(LINES, targets, together, strict=True):
        assert translator.score([line], [target])[0].total == pytest.approx(score.total, abs=1e-4)
    records = [{"source": s, "target": t, "id": 1} for s, t in zip(LINES, targets, strict=True)]
    given = "".join(json.dumps(record) + "\n" for record in records).encode()
    code, out, _ = call("score", "--run", str(tiny_run), "--json", given=given)
    assert code == 0
    for record, line, score in zip(records, out.decode().splitlines(), together, strict=True):
        found = json.loads(line)
        assert found.pop("score") == pytest.approx(score.total, abs=1e-4)
        assert found.pop("token_scores") == pytest.approx(score.tokens, abs=1e-4)
        assert found == record
    code, out, err = call("score", "--run", str(tiny_run), given=b"a\tb\nc\td\nno tab here\n")
    assert (code, err) == (2, "transformer score: error: line 3 has no tab; write SOURCE<TAB>TARGET\n")
    assert len(out.splitlines()) == 2  # the lines before it have their scores


# Alignments


def test_words_are_what_blanks_separate(translator):
    for text in ("Der alte Mann kauft einen Apfel.", "x", "ä ö  ü", "Ja"):
        [ids] = translator.tokenizer.encode([text])
        words = words_of(translator.tokenizer, ids)
        assert words == sorted(words)
        assert set(words) == set(range(len(text.replace("  ", " ").split(" ")))) or "  " in text


def test_a_word_goes_where_most_of_its_attention_goes():
    import torch

    weights = torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.5, 0.4], [0.0, 0.5, 0.5]])
    assert best_words(weights, [0, 1, 2], [0, 1, 1]) == [(0, 0), (1, 1)]
    assert best_words(weights, [0, 1, 1], [0, 1, 2]) == [(0, 0), (1, 1), (1, 2)]
    assert pharaoh([(0, 0), (1, 2)]) == "0-0 1-2"


def test_the_alignment_error_rate_of_counted_links():
    gold = [[(0, 0), (1, 1)], [(0, 1)]]
    assert alignment_error_rate(gold, gold) == 0
    assert alignment_error_rate([[(0, 1), (1, 0)], [(0, 0)]], gold) == 1
    assert alignment_error_rate([[(0, 0)], [(0, 1)]], gold) == pytest.approx(1 - 4 / 5)


def test_alignments_name_words_that_are_there(translate, translator):
    rows = [line.split("\t") for line in translate("--alignment")]
    for line, (text, links) in zip(LINES, rows, strict=True):
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        words = [word for word in text.split(" ") if word]
        assert all(source < len(line.split()) and target < max(1, len(words)) for source, target in pairs)
        assert len({target for _, target in pairs}) == len(pairs)
    examples = list(generate("test", 3))
    sources = [example.source for example in examples]
    assert (
        len(translator.align(sources, [row[0] for row in translator.translate_n_best(sources, n_best=1)]))
        == 3
    )
    assert all(alignments(example) for example in examples)


# Limits


def test_a_line_of_a_million_characters_costs_no_more_than_the_cap(translator, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setattr(translator, "warn", warnings.append)
    seen = []
    encode = translator.tokenizer.encode
    monkeypatch.setattr(
        translator.tokenizer, "encode", lambda lines: seen.extend(map(len, lines)) or encode(lines)
    )
    limit = translator.config.max_positions
    found = translator.translate_n_best(["a", "ab " * 400_000, " " * 10**6], n_best=1, beam_size=1)
    assert max(seen) == MAX_CHARACTERS_PER_TOKEN * limit
    assert warnings[0] == f"line 2 has 1200000 characters; only its first {limit} tokens are translated"
    assert len(found) == 3


def test_a_prefix_or_target_that_is_too_long_is_cut_and_told(translator, monkeypatch):
    warnings: list[str] = []
    seen = []
    monkeypatch.setattr(translator, "warn", warnings.append)
    encode = translator.tokenizer.encode_target
    monkeypatch.setattr(
        translator.tokenizer, "encode_target", lambda lines: seen.extend(map(len, lines)) or encode(lines)
    )
    room = translator.config.max_positions - 1
    [[output], _] = translator.translate_n_best(
        ["a", "b"], n_best=1, beam_size=1, prefixes=["ab " * 400_000, "ab"], first_line=7
    )
    cut = encode(["ab " * 100])[0][:room]
    assert output.tokens[:room] == cut
    scores = translator.score(["a", "b"], ["ab", "ab " * 100], first_line=3)
    assert len(scores[1].tokens) == room + 1
    assert warnings == [
        f"the prefix of line 7 is too long; only its first {room} tokens are used",
        f"the target of line 4 is too long; only its first {room} tokens are used",
    ]
    assert max(seen) == MAX_CHARACTERS_PER_TOKEN * (room + 1)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_batches_hold_a_bounded_number_of_hypotheses(translator, beam_size):
    budget = translator.decoding.batch_limit()
    sources = [[5, 2]] * 3000 + [[5] * 60]
    for rows in translator.batches(sources, beam_size):
        assert len(rows) * beam_size <= budget / 8
        assert len(rows) * beam_size * max(len(sources[row]) for row in rows) <= budget


@pytest.mark.parametrize("options", [["--buffer", "1"], ["--buffer", "3"], ["--input"]])
def test_reading_in_parts_changes_no_option(translate, tiny_run, tmp_path, options):
    asked = ["--n-best", "2", "--alignment", "--no-repeat", "2", "--min-length", "4"]
    if options == ["--input"]:
        (tmp_path / "in").write_bytes(TEXT)
        files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--buffer", "2"]
        assert main(["translate", "--run", str(tiny_run), *files, *asked]) == 0
        assert (tmp_path / "out").read_text().split("\n")[:-1] == translate(*asked)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    else:
        assert translate(*asked, *options) == translate(*asked)
