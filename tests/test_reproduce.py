"""benchmarks/reproduce.py: a name for every figure of docs/reproducing.md; only trainings are cut short."""

import re
import shlex
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from statistics import mean

import pytest

from transformer.cli import main

ROOT = Path(__file__).parents[1]
NAMES = (
    *("toyland", "multi30k", "multi30k_from_german", "multi30k_french", "multi30k_tiny"),
    *("tatoeba", "tatoeba_french", "tinyshakespeare", "trec", "trec_english", "sst2_english"),
    *("trec_from_scratch", "sst2", "retrieval", "parsing"),
)
SHORT = """--model.d_model 16 --model.d_ff 24 --model.num_heads 2 --model.num_layers 1 --data.vocab_size 300
    --training.max_steps 10 --training.warmup_steps 2 --training.tokens_per_batch 300
    --training.save_every 1 --training.valid_every 10 --training.log_every 10
    --decoding.beam_size 2 --decoding.max_extra 4"""
SHORT_TOYLAND = """--data.train toyland:train[:60] --data.valid toyland:valid[:5] --data.test toyland:test[:5]
    --data.vocab_size 350 --training.valid_sample 5"""
"""Options that make any recipe take a second."""
CAPTION = "a man and two dogs are walking in the snow next to an old red house"
LINE_OF_RETRIEVAL = """model     seed  parameters  seconds       0   5,000  29,000       0   5,000  29,000
transformer  1   2,573,824       63  99.1 %  97.9 %  95.9 %  98.9 %  97.7 %  95.7 %
words        1  10,240,000       40  99.0 %  95.9 %  92.9 %  99.0 %  96.8 %  93.5 %
"""
LINE_OF_CLASSIFICATION = """logistic regression               89.2 %
Transformer from english_masked   50.5 ± 1.4 %  (50.0, 50.4, 51.1)
"""


@pytest.fixture
def reproduce(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("reproduce")


def rows() -> list[str]:
    text = (ROOT / "docs/reproducing.md").read_text(encoding="utf-8")
    table = text.partition("| --- |")[2].partition("\n\n")[0]
    return [line for line in table.splitlines()[1:] if line.startswith("| ")]


# The table of figures


def test_every_row_of_the_document_has_a_name_and_every_name_a_row(reproduce):
    found = {
        name: [row for row in rows() if row.startswith(f"| {figure.row}")]
        for name, figure in reproduce.FIGURES.items()
    }
    assert set(found) == set(NAMES)
    assert all(len(each) == 1 for each in found.values())
    assert {row for each in found.values() for row in each} == set(rows())


def test_the_document_shows_what_the_program_expects(reproduce):
    for figure in reproduce.FIGURES.values():
        (row,) = (row for row in rows() if row.startswith(f"| {figure.row}"))
        assert figure.shown in row
        numbers = [float(number) for number in re.findall(r"[\d.]+", figure.shown)]
        if len(numbers) > 1:
            assert numbers == pytest.approx(list(figure.written))
        else:  # one decimal or two of the mean
            assert numbers[0] == pytest.approx(mean(figure.written), abs=0.06)


def test_the_figures_of_each_seed_are_in_the_document(reproduce):
    text = (ROOT / "docs/reproducing.md").read_text(encoding="utf-8")
    for name, figure in reproduce.FIGURES.items():
        for value in figure.written:
            if name != "retrieval":  # means of two directions, in the document's table by direction
                assert f"{value:g}" in text


def test_the_tolerance_is_that_of_one_more_run(reproduce):
    stats = pytest.importorskip("scipy.stats")
    written = (1.0, 2.0, 6.0)
    figure = reproduce.Figure("row", "unit", (), float, written, "3", 1)
    # the interval within which one more value of the same normal distribution falls with 95 % probability
    expected = stats.t.ppf(0.975, 2) * stats.tstd(written) * (1 + 1 / 3) ** 0.5
    assert figure.tolerance == pytest.approx(expected, rel=1e-3)
    assert figure.agrees(3 + 0.999 * figure.tolerance)
    assert figure.agrees(3 - 0.999 * figure.tolerance)
    assert not figure.agrees(3 + 1.001 * figure.tolerance)
    assert not figure.agrees(float("nan"))


def test_every_tolerance_is_positive_and_has_a_reason(reproduce):
    for figure in reproduce.FIGURES.values():
        assert 0 < figure.tolerance < 10
        assert (figure.why == reproduce.ONE_RUN) == (len(set(figure.written)) > 1)


def test_without_a_name_all_names_are_listed(reproduce, capsys):
    assert reproduce.main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == list(NAMES)


# The commands


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """A working directory with tiny texts in `data`, in the formats of the real ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFORMER_DATA", raising=False)
    folder = tmp_path / "data"
    words = CAPTION.split()
    lines = [" ".join(words[start : start + length]) for start in range(10) for length in range(2, 6)]
    for part in ("train", "val", "test_2016_flickr"):
        write(folder / f"multi30k/{part}.en", lines)
        for language in ("de", "fr"):
            write(folder / f"multi30k/{part}.{language}", [line.title() for line in lines])
    for part in ("train", "valid", "test"):
        write(folder / f"tatoeba_en_de/{part}.en", lines)
        write(folder / f"tatoeba_en_de/{part}.de", [line.title() for line in lines])
        write(folder / f"tatoeba_en_fr/{part}.en", lines)
        write(folder / f"tatoeba_en_fr/{part}.fr", [line.title() for line in lines])
    for part in ("train", "dev", "test"):
        write(folder / f"sst2/{part}.tsv", [f"{line}\t{number % 2}" for number, line in enumerate(lines)])
    for part in ("train", "test"):
        write(
            folder / f"trec/{part}.txt",
            [f"{('HUM', 'LOC')[number % 2]}:x {line}" for number, line in enumerate(lines)],
        )
    write(folder / "tinyshakespeare/input.txt", lines * 20)
    write(folder / "english.txt", lines * 3)
    return tmp_path


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cut_short(command: str) -> str:
    """Run a command in this process, a training with a tiny model and few updates."""
    program, *arguments = shlex.split(command)
    if program == "python":
        assert (ROOT / arguments[0]).is_file()
        return LINE_OF_RETRIEVAL if "retrieval.py" in command else LINE_OF_CLASSIFICATION
    assert program == "transformer"
    if arguments[0] == "train":
        arguments += shlex.split(SHORT) + shlex.split(SHORT_TOYLAND if "toyland" in command else "")
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([argument.replace(":300]", ":5]") for argument in arguments]) == 0
    return printed.getvalue()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("texts")
def test_each_figure_is_trained_scored_and_compared(reproduce, monkeypatch, capsys, name):
    monkeypatch.setattr(reproduce, "run", cut_short)
    code = reproduce.main([name])
    *_, written, why, found, verdict = capsys.readouterr().out.splitlines()
    figure = reproduce.FIGURES[name]
    assert written.startswith(f"expected  {mean(figure.written):.4g} ± {figure.tolerance:.2g} {figure.unit}")
    assert why.strip() == figure.why
    value = float(found.split()[1])
    if name == "retrieval":
        assert (value, code, verdict) == (95.8, 0, "within the spread between seeds")
    else:  # a model that has learned nothing yet
        assert 0 <= value < 100
        assert (code, verdict) == (1, "OUTSIDE the spread between seeds")


def test_a_missing_text_is_named(reproduce, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFORMER_DATA", raising=False)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["tinyshakespeare"])
    assert stopped.value.code == 2
    assert "tinyshakespeare needs tinyshakespeare/input.txt in data" in capsys.readouterr().err


def test_the_texts_may_be_in_another_folder(reproduce, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_DATA", "/texts")
    assert reproduce.options_for_texts("sst2") == [
        f"--data.{part}=/texts/sst2/{name}.tsv"
        for part, name in (("train", "train"), ("valid", "dev"), ("test", "test"))
    ]
    assert reproduce.options_for_texts("toyland") == []
    # every file of a recipe is among those that the program looks for
    for figure in reproduce.FIGURES.values():
        for command in figure.commands:
            if "--config" in command:
                recipe = shlex.split(command)[shlex.split(command).index("--config") + 1]
                for option in reproduce.options_for_texts(recipe):
                    text = option.partition("=/texts/")[2].partition("[")[0]
                    assert any(name.startswith(text) for name in figure.needs)


def test_a_command_that_fails_gives_nothing_to_compare(reproduce, monkeypatch, capfd):
    command = f"transformer evaluate --json --run {ROOT}/no-such-run"
    figure = replace(reproduce.FIGURES["toyland"], commands=(command,))
    monkeypatch.setitem(reproduce.FIGURES, "toyland", figure)
    assert reproduce.main(["toyland"]) == 2
    printed = capfd.readouterr()
    assert "nothing to compare: failed with exit code 2" in printed.err
    assert printed.out == ""


def test_a_folder_with_spaces_is_one_argument(reproduce, monkeypatch):
    called = []
    monkeypatch.setattr(reproduce, "run", lambda command: called.append(shlex.split(command)) or " a b \n")
    figure = replace(reproduce.FIGURES["multi30k"], read=str.strip)
    reproduce.reproduce(figure, Path("my runs"))
    assert [call[call.index("--run") + 1] for call in called[1:]] == ["my runs/multi30k_en_de", "a b"]
