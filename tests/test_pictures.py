"""Pictures show the numbers they are given, in the fonts of every script, as PNG, SVG and PDF."""

import sys
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures (extra plots)")

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font

from transformer.cli import main
from transformer.config.files import load_settings
from transformer.config.recipes import find_recipe
from transformer.decoding.translator import Translator
from transformer.evaluation.figures import draw_positions, draw_schedule, draw_table3
from transformer.evaluation.table3 import ROWS
from transformer.inspection.data import AXES
from transformer.inspection.figures import draw_attention, draw_search
from transformer.inspection.gold import toyland_gold
from transformer.inspection.inspect import Inspection, inspect
from transformer.inspection.roles import by_words
from transformer.model.positions import SinusoidalEncoding
from transformer.pictures import FONTS, installed_fonts, label_columns, label_rows, plain_text, write_picture
from transformer.training.schedule import learning_rate

SENTENCE = "She closes the suitcase because it is clean."
TEXTS = {
    "German": "Straße, Öl, „größer“",
    "Japanese": "彼女はスーツケースを閉める。",
    "Arabic": "هي تغلق الحقيبة",
}


@pytest.fixture(scope="module")
def inspection(tiny_run) -> Inspection:
    return inspect(Translator.from_pretrained(tiny_run, device="cpu"), SENTENCE, gold=toyland_gold(SENTENCE))


@pytest.fixture
def axes():
    return Figure(layout="constrained").subplots()


def texts_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("kind", list(AXES))
def test_a_matrix_has_the_weights_of_its_head_between_words(inspection, axes, kind):
    rows, columns = (inspection.axes[name] for name in AXES[kind])
    assert draw_attention(inspection, axes, kind=kind, layer=1, head=2) is axes
    expected = by_words(inspection.module(kind, 1).weights[1], rows, columns)
    torch.testing.assert_close(torch.tensor(axes.images[0].get_array()), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == rows.words
    assert [label.get_text() for label in axes.get_xticklabels()] == columns.words


def test_the_oracles_alignment_is_outlined_if_the_translation_is_right(inspection, axes):
    def outlines() -> int:
        axes.clear()
        draw_attention(inspection, axes, kind="cross", layer=1, head=1)
        return len(axes.patches)

    assert inspection.gold is not None
    assert outlines() == (len(inspection.gold.alignment) if inspection.is_right else 0)


def test_the_search_has_every_token_kept_and_every_score(inspection, axes):
    record = inspection.search
    assert draw_search(record, axes) is axes
    written = texts_of(axes)
    for step in record.steps:
        for node in step.nodes:
            assert node.text in written
            assert f"{node.total:z.2f}".replace("-", "−") in written
    endings = sum(len(step.endings) for step in record.steps)
    assert sum(text.startswith(("★", "■")) for text in written) == endings
    assert sum(text.startswith("★") for text in written) == 1
    lost = [path for path in record.paths if path.lost_at is not None]
    assert [path.name for path in lost] == ["reference"]
    assert [text for text in written if text.startswith("✗")] == [f"✗ {lost[0].pieces[lost[0].lost_at - 1]}"]
    winner = next(text for text in written if text.startswith("★"))
    assert winner == f"★ {record.finished[0].score:z.2f}".replace("-", "−")


def test_the_schedule_is_that_of_training(axes):
    settings = load_settings(find_recipe("wmt14_en_de_base"))
    draw_schedule({"base": settings}, axes)
    steps, rates = axes.lines[0].get_data()
    warmup = settings.training.warmup_steps
    assert (steps[0], steps[-1]) == (1, settings.training.max_steps)
    assert steps[rates.argmax()] == warmup
    assert (
        rates.max() == learning_rate(warmup, 512, settings.training) == pytest.approx((512 * warmup) ** -0.5)
    )


def test_positions_are_those_of_the_module(axes):
    encoding = SinusoidalEncoding(8)
    draw_positions(encoding, 5, axes)
    torch.testing.assert_close(torch.tensor(axes.images[0].get_array()), encoding(torch.arange(5)))


def test_table_3_has_a_point_and_a_name_for_each_row(axes):
    draw_table3(axes)
    names = ", ".join(texts_of(axes)).split(", ")
    assert sorted(names) == sorted(row.name for row in ROWS)
    scores = [score for line in axes.lines for score in line.get_ydata()]
    assert sorted(scores) == sorted(row.bleu for row in ROWS)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("language", list(TEXTS))
def test_no_glyph_is_missing(tmp_path, axes, language, ending):
    fonts = [get_font(fontManager.findfont(FontProperties(name))) for name in installed_fonts()]
    letters = {ord(letter) for letter in TEXTS[language] if letter != " "}
    known = set().union(*(font.get_charmap() for font in fonts))
    if not letters <= known:
        pytest.skip(f"no installed font of {', '.join(FONTS)} draws {language}")
    axes.imshow([[0.0]])
    label_rows(axes, [TEXTS[language]])
    label_columns(axes, [TEXTS[language]])
    axes.text(0, 0, TEXTS[language], **plain_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a missing glyph
        write_picture(axes.figure, tmp_path / f"picture.{ending}")


def test_words_are_no_formulas(tmp_path, axes):
    axes.imshow([[0.0]])
    label_rows(axes, ["$\\frac{"])
    label_columns(axes, ["$5$"])
    write_picture(axes.figure, tmp_path / "picture.svg")
    assert "<!-- $5$ -->" in (tmp_path / "picture.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("picture", ["attention", "search", "schedule", "positions", "table3", "curves"])
def test_each_picture_is_a_command(tiny_run, tmp_path, picture, ending):
    about = {"attention": ["--run", str(tiny_run), SENTENCE], "search": ["--run", str(tiny_run), SENTENCE]}
    about["curves"] = ["--run", str(tiny_run)]
    path = tmp_path / f"picture.{ending}"
    assert main(["plot", picture, *about.get(picture, []), "--output", str(path)]) == 0
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention", SENTENCE, "--head", "cross.9.1"], "--head is cross.9.1; the heads of this model are "),
        (
            ["attention", SENTENCE, "--output", "a.gif"],
            "a.gif: the name of a picture must end in one of .png, .svg, .pdf",
        ),
        (["positions", "--length", "0"], "--length is 0; it must be at least 1"),
        (["positions", "--d-model", "7"], "d_model is 7; sinusoidal positions need an even width"),
        (["schedule", "--config", "toylan"], "--config toylan: no such file, and no recipe of this name"),
    ],
)
def test_bad_options_are_errors_of_one_line(tiny_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    run = ["--run", str(tiny_run)] if arguments[0] == "attention" else []
    assert main(["plot", *arguments, *run]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["plot", "table3"]) == 2
    told = capsys.readouterr().err
    assert "plot needs matplotlib; install the extra in the project's folder: pip install" in told


def test_a_run_that_is_called_like_a_picture_can_be_plotted(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("search").symlink_to(tiny_run)
    assert main(["plot", "./search"]) == 0
    assert main(["plot", "--run", "search"]) == 0
    assert Path("curves.png").exists()
