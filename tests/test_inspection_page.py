"""The page of an inspected sentence in a real browser: its content, its requests and its accessibility."""

import importlib.util
import re
import shutil
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from transformer.decoding.scoring import with_bos
from transformer.decoding.translator import Translator
from transformer.inspection.data import AXES, Attention, Choice, Gold, Head
from transformer.inspection.gold import toyland_gold
from transformer.inspection.inspect import Inspection, inspect
from transformer.inspection.page import frame, page
from transformer.inspection.page_data import page_data
from transformer.inspection.roles import by_words
from transformer.inspection.tokens import Axis
from transformer.model.build import build_model

SENTENCE, TRANSLATION = (
    "She closes the suitcase because it is clean.",
    "Sie macht den Koffer zu, weil er sauber ist.",
)
HOSTILE = "</script><script>document.title='hit'</script><img src=x onerror=document.title='hit'>"
PATIENCE = 180_000.0
"""Milliseconds after which the browser counts as broken; on a busy machine a page may take 10 seconds."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: the page cannot be tested in a browser")
    if CHROMIUM is None:
        pytest.skip("there is no chromium to test the page with (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def translator(tiny_run) -> Translator:
    """A model of two layers with three heads that was trained on a single sentence."""
    tiny = Translator.from_pretrained(tiny_run, device="cpu")
    config = replace(tiny.config, num_layers=2, num_heads=3, d_model=24, d_ff=48, dropout=0.0)
    torch.manual_seed(5)
    model = build_model(config)
    [source], [target] = tiny.encode([SENTENCE], 1), tiny.tokenizer.encode([TRANSLATION])
    src_tokens, tgt_tokens = torch.tensor([source]), torch.tensor([[*target, config.eos_id]])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        logits = model(src_tokens, with_bos(model, tgt_tokens))
        loss = torch.nn.functional.cross_entropy(logits[0], tgt_tokens[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Translator(model.eval(), tiny.tokenizer, model_config=config, decoding=tiny.decoding)


@pytest.fixture(scope="module")
def inspection(translator) -> Inspection:
    return inspect(translator, SENTENCE, gold=toyland_gold(SENTENCE), beam_size=3)


@pytest.fixture
def show(browser, tmp_path):
    """Opens the page of an inspection, and records all requests, errors and warnings of the browser."""
    contexts = []

    def opened(inspection, *, fragment="", width=1280, **options):
        path = tmp_path / "page.html"
        path.write_text(page(inspection), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        tab = context.new_page()
        tab.asked, tab.complaints = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.goto(f"{path.as_uri()}{fragment}")
        if options.get("java_script_enabled", True):
            tab.wait_for_selector("html[data-ready]", state="attached")
        return tab

    yield opened
    for context in contexts:
        context.close()


def words(tab, axis):
    return tab.locator(f'.word[data-axis="{axis}"]')


def weights_shown(tab, axis):
    """The attention weight shown by the colour of each word in a line."""
    script = "words => words.map(word => Number(word.style.getPropertyValue('--weight')))"
    return words(tab, axis).evaluate_all(script)


def in_words(inspection, kind, layer, head):
    rows, columns = (inspection.axes[name] for name in AXES[kind])
    return by_words(inspection.module(kind, layer).weights[head - 1], rows, columns)


# Content


def test_the_page_opens_with_a_word_and_the_head_that_shows_most(show, inspection):
    tab = show(inspection)
    choice = inspection.choice
    row = in_words(inspection, choice.kind, choice.layer, choice.head)[choice.word]
    best = int(row.argmax())
    target, source = (inspection.axes[name].words for name in ("target", "source"))
    says = f"predicting {target[choice.word]}, head {choice.layer}.{choice.head} looks at {source[best]}"
    assert tab.locator("#says").inner_text() == f"{says}: {float(row[best]):.3f}"
    assert tab.locator(".word.here").get_attribute("data-at") == str(choice.word)
    assert tab.locator('.head[aria-pressed="true"]').get_attribute("data-head") == str(choice.head)
    assert "Attention shows where a head looks" in tab.locator(".note").first.inner_text()
    assert "Row t is where token t is predicted" in tab.locator("#matrix-legend").inner_text()
    assert tab.complaints == []


def test_a_number_on_the_page_is_the_tensors_rounded_and_rows_sum_to_1(show, inspection):
    tab = show(inspection)
    for head in (1, 2, 3):
        tab.locator(f'.head[data-layer="2"][data-head="{head}"]').click()
        expected = in_words(inspection, "cross", 2, head)
        for row in range(0, len(expected), 3):
            words(tab, "target").nth(row).hover()
            shown = weights_shown(tab, "source")
            assert shown == [round(1000 * value) / 1000 for value in expected[row].tolist()]
            assert sum(shown) == pytest.approx(1, abs=0.0005 * len(shown))


def test_hovering_a_cell_marks_its_row_its_words_and_its_number(show, inspection):
    tab = show(inspection, fragment="#kind=cross&layer=1&head=2")
    expected = in_words(inspection, "cross", 1, 2)
    rows, columns = expected.shape
    for row, column in ((0, 0), (2, 3), (rows - 1, columns - 1)):
        x, y = cell(tab, rows, columns, row, column)
        tab.mouse.move(x, y)
        says = tab.locator("#says").inner_text()
        target, source = inspection.axes["target"].words[row], inspection.axes["source"].words[column]
        assert says == f"predicting {target}, head 1.2 looks at {source}: {float(expected[row, column]):.3f}"
        assert tab.locator(".word.here").get_attribute("data-at") == str(row)
        assert tab.locator(".word.here").get_attribute("data-axis") == "target"
    tab.mouse.move(5, 5)
    assert tab.locator(".word.here").get_attribute("data-at") == str(inspection.choice.word)


def cell(tab, rows, columns, row, column):
    """The centre of a cell: cells are square, and the matrix ends 2 pixels before the edge of the canvas."""
    canvas = tab.locator("#matrix")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    size = float(canvas.get_attribute("data-cell"))
    right, bottom = box["x"] + box["width"] - 2, box["y"] + box["height"] - 2
    return right - size * (columns - column - 0.5), bottom - size * (rows - row - 0.5)


def test_hovering_a_source_word_shows_which_words_look_at_it(show, inspection):
    tab = show(inspection, fragment="#kind=cross&layer=1&head=1")
    expected = in_words(inspection, "cross", 1, 1)
    words(tab, "source").nth(3).hover()
    assert weights_shown(tab, "target") == [round(1000 * value) / 1000 for value in expected[:, 3].tolist()]


def test_the_decoders_columns_are_the_words_before(show, inspection):
    tab = show(inspection, fragment="#kind=decoder&layer=1&head=1&axis=target&word=2")
    expected = in_words(inspection, "decoder", 1, 1)[2].tolist()
    shown = weights_shown(tab, "target")
    assert shown[:2] == [
        round(1000 * value) / 1000 for value in expected[1:3]
    ]  # the first column is the start
    assert not any(shown[3:])


def test_the_tree_is_the_search(show, inspection):
    """Every kept hypothesis with its sum, every complete output, and the list of the best."""
    tab = show(inspection)
    tab.locator("#collapse").uncheck()
    drawn = tab.locator("#tree .step").evaluate_all(
        "steps => steps.map(step => [...step.querySelectorAll('text')].map(text => text.childNodes[0].data))"
    )
    assert len(drawn) == len(inspection.search.steps)
    for number, (texts, step) in enumerate(zip(drawn, inspection.search.steps, strict=True), start=1):
        assert texts[0] == str(number)
        found = [text.removesuffix(" ◆") for text in texts[1 : 1 + 2 * len(step.nodes)]]
        kept = [part for node in step.nodes for part in (shortened(node.text), log(node.total))]
        assert found == kept
        ends = [text for text in texts if re.search("^(★ )?(end|cut off) ", text)]
        assert len(ends) == len(step.endings)
        for text, ending in zip(ends, step.endings, strict=True):
            assert text.endswith(log(ending.score))
            assert text.startswith("★") == (ending.place == 0)
    tab.locator("#tables summary").click()
    rows = tab.locator("#tables table").first.locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == [each.text for each in inspection.search.finished]


def log(value: float) -> str:
    return f"{value:.{4 if abs(value) < 0.1 else 2}f}".replace("-", "−")


def shortened(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:17]}…"


def test_the_candidates_of_a_step_are_a_table(show, inspection):
    tab = show(inspection, fragment="#step=1")
    step = inspection.search.steps[1]
    rows = [row.split("\t") for row in tab.locator("#candidates tbody tr").all_inner_texts()]
    assert [row[-1] for row in rows] == [candidate.fate for candidate in step.candidates]
    assert [row[4] for row in rows] == [f"{each.total:.3f}".replace("-", "−") for each in step.candidates]
    tab.keyboard.press("]")
    assert tab.locator("#step-number").inner_text().startswith("step 3 of ")


def test_equation_1_adds_up_to_the_weight(show, inspection):
    tab = show(inspection, fragment="#kind=cross&layer=2&head=1&unit=pieces&axis=target&word=1")
    table = tab.locator("#numbers table", has_text="Equation 1 for")
    rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    weights = inspection.module("cross", 2).weights[0, 1]
    assert float(rows[0][-1]) == pytest.approx(float(weights.max()), abs=0.0011)
    terms = [float(row[2]) for row in rows]
    assert sum(terms[:-1]) == pytest.approx(terms[-1], abs=0.001)
    assert float(rows[0][2]) / terms[-1] == pytest.approx(float(weights.max()), abs=0.002)


# Keys, and the address


def test_keys_move_through_words_layers_heads_and_kinds(show, inspection):
    start = 3
    tab = show(inspection, fragment=f"#kind=cross&layer=2&head=2&axis=target&word={start}")
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".word.here").get_attribute("data-at") == str(start + 1)
    for key, title in (
        ("1", "cross-attention, head 2.1"),
        ("ArrowUp", "cross-attention, head 1.1"),
        ("0", "cross-attention, the mean of layer 1"),
        ("d", "self-attention, the mean of layer 1 of the decoder"),
        ("e", "self-attention, the mean of layer 1 of the encoder"),
        ("3", "self-attention, head 1.3 of the encoder"),
    ):
        tab.keyboard.press(key)
        assert tab.locator("#chosen-title").inner_text() == title
    count = words(tab, "source").count()
    tab.keyboard.press("w")
    assert words(tab, "source").count() == len(inspection.axes["source"].pieces) > count
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#help").is_visible()


def test_a_word_is_pinned_and_the_address_keeps_the_state(show, inspection):
    tab = show(inspection)
    words(tab, "source").nth(2).focus()
    tab.keyboard.press("Enter")
    tab.mouse.move(5, 5)
    assert tab.locator(".word.pinned").get_attribute("data-at") == "2"
    fragment = tab.evaluate("location.hash")
    again = show(inspection, fragment=fragment)
    assert again.locator(".word.pinned").get_attribute("data-at") == "2"
    assert again.locator("#says").inner_text() == tab.locator("#says").inner_text()
    again.keyboard.press("Escape")
    assert again.locator(".word.pinned").count() == 0


def test_a_wrong_address_is_no_error(show, inspection):
    tab = show(inspection, fragment="#kind=x&layer=99&head=77&word=12345&step=9999&unit=1")
    assert tab.complaints == []


# Security


def test_the_page_asks_the_network_for_nothing(show, inspection, tmp_path):
    tab = show(inspection)
    for key in ("d", "e", "c", "w", "]", "?"):
        tab.keyboard.press(key)
    assert tab.asked == [(tmp_path / "page.html").as_uri()]
    assert tab.complaints == []


@pytest.mark.parametrize(
    "line",
    [HOSTILE, "a\u2028b\u2029c", "a" * 1000, "]]> --> <!-- &amp; ${x} `y` \\u003c", "\u202edesrever\u202c"],
    ids=["script", "U+2028", "1,000 characters", "marks", "right-to-left override"],
)
def test_a_sentence_is_only_ever_text(show, translator, line):
    found = inspect(translator, line, beam_size=1)
    tab = show(found)
    assert tab.complaints == []
    assert tab.title() != "hit"
    assert tab.locator("img").count() == 0
    assert tab.locator("script").count() == 2
    shown = "".join(words(tab, "source").all_inner_texts())
    assert shown == "".join(found.axes["source"].words)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1280


def test_no_character_of_a_text_reaches_the_page_raw(inspection):
    """A sentence cannot contain NUL, but a vocabulary can."""
    axis = inspection.axes["source"]
    strange = replace(axis, words=["\x00</script>", *axis.words[1:]])
    text = page(replace(inspection, axes=inspection.axes | {"source": strange}))
    assert "\x00" not in text
    assert text.count("</script>") == 2


def test_only_the_pages_own_script_may_run(show, inspection):
    tab = show(inspection)
    script = "Object.assign(document.createElement('script'), {text: 'document.title = 1'})"
    with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
        tab.evaluate(f"document.body.append({script})")
    assert tab.title() != "1"


def test_in_a_notebook_the_page_is_cut_off_from_it(inspection, browser, tmp_path):
    html = inspection._repr_html_()
    assert html == frame(inspection)
    assert html.startswith('<iframe sandbox="allow-scripts allow-downloads"')
    (tmp_path / "notebook.html").write_text(f"<!doctype html>{html}", encoding="utf-8")
    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto((tmp_path / "notebook.html").as_uri())
    inner = tab.frame_locator("iframe")
    inner.locator("html[data-ready]").wait_for(state="attached")
    assert inner.locator("#says").inner_text().startswith("predicting")
    tab.close()


# Saving


def saved(tab, name, folder):
    """The root of the SVG file that a button saves, and the file itself."""
    with tab.expect_download() as download:
        tab.locator(f"#save-{name}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return ElementTree.parse(path).getroot(), path


def texts_in(root):
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_matrix_is_saved_with_its_cells_words_and_weights(show, inspection, tmp_path):
    tab = show(inspection, fragment="#kind=cross&layer=1&head=2", color_scheme="light")
    root, path = saved(tab, "matrix", tmp_path)
    assert path.name == "matrix-cross-1.2.svg"
    expected = in_words(inspection, "cross", 1, 2)
    [group] = [each for each in root if each.get("class") == "cells"]
    greens = [int(cell.get("fill").split(",")[1]) for cell in group]  # the larger the weight, the less green
    assert len(greens) == expected.numel()
    darkest = torch.tensor(greens).view_as(expected).argmin(dim=1)
    weights = expected.gather(1, darkest[:, None])[:, 0]
    torch.testing.assert_close(weights, expected.max(dim=1).values, atol=0.01, rtol=0)
    words = [*inspection.axes["target"].words, *inspection.axes["source"].words]
    assert texts_in(root)[: len(words)] == words
    assert set(texts_in(root)) - set(words) <= {f"{value / 1000:.3f}"[1:] for value in range(1000)} | {"1"}
    dashed = [each for each in root.iter() if each.get("stroke-dasharray") == "4 2"]
    assert len(dashed) == len(inspection.gold.alignment)
    assert tab.complaints == []


@pytest.mark.parametrize(("name", "drawing"), [("lines", "links"), ("tree", "tree")])
def test_a_drawing_is_saved_with_the_styles_of_the_page(show, inspection, tmp_path, name, drawing):
    tab = show(inspection, color_scheme="light")
    root, _ = saved(tab, name, tmp_path)
    assert texts_in(root) == tab.locator(f"#{drawing} text").evaluate_all(
        "texts => texts.map(text => text.textContent)"
    )
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert (text.get("fill"), text.get("font-size")) != (None, None)
    strokes = {each.get("stroke") for each in root.iter() if each.tag.endswith(("line", "path"))}
    assert "rgb(154, 52, 18)" in strokes  # --heat, a colour that only the style sheet knows
    assert tab.complaints == []


# Accessibility


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_axe_finds_nothing_to_report(show, inspection, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab = show(inspection, color_scheme=scheme, width=width)
    tab.locator("#tables summary").click()
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], [node["html"][:80] for node in each["nodes"]][:3]) for each in found] == []


def test_without_javascript_there_are_the_translation_and_the_tables(show, inspection):
    tab = show(inspection, java_script_enabled=False)
    texts = tab.locator("#lines p").all_inner_texts()
    assert texts == [inspection.axes[name].text for name in ("source", "target")]
    captions = tab.locator("caption").all_inner_texts()
    assert [caption.split(",")[0] for caption in captions] == ["Best outputs", "Alignment", "Heads"]
    assert all(table.is_visible() for table in tab.locator("#tables table").all())
    assert not tab.locator("#attention").is_visible()


@pytest.fixture(scope="module")
def long_inspection() -> Inspection:
    return made_up(layers=6, heads=8, tokens=100)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_hundred_tokens_fit(show, long_inspection, width, scheme):
    tab = show(long_inspection, width=width, color_scheme=scheme)
    assert tab.complaints == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_of_a_hundred_tokens_is_under_two_megabytes(long_inspection):
    assert len(page(long_inspection).encode()) < 2_000_000


def test_a_model_without_attention_has_a_page_without_it(show):
    bare = replace(
        made_up(layers=1, heads=1, tokens=4), attention=[], heads=[], choice=None, missing=["No attention."]
    )
    tab = show(bare)
    for key in ("ArrowRight", "ArrowDown", "1", "e", "w", "]", "Escape"):
        tab.keyboard.press(key)
    assert tab.complaints == []
    assert tab.locator("#missing").inner_text().endswith("No attention.")
    assert not tab.locator("#attention").is_visible()


def test_right_to_left_text_is_a_line_from_the_right(show):
    arabic = ["أغلقت", "الحقيبة", "لأنها", "نظيفة"]
    source = Axis("source", " ".join(arabic), arabic, arabic, list(range(4)), [True] * 4)
    short = made_up(layers=1, heads=2, tokens=4)
    tab = show(replace(short, axes=short.axes | {"source": source}))
    boxes = [word.bounding_box()["x"] for word in words(tab, "source").all()]
    assert boxes == sorted(boxes, reverse=True)
    assert words(tab, "target").first.bounding_box()["x"] < words(tab, "target").last.bounding_box()["x"]


def made_up(*, layers: int, heads: int, tokens: int) -> Inspection:
    """An inspection with random weights."""
    generator = torch.Generator().manual_seed(1)

    def axis(label):
        names = [f"{label}{number}" for number in range(tokens)]
        word_of = [number // 2 for number in range(tokens)]
        words = [f"word{number}" for number in range((tokens + 1) // 2)]
        return Axis(label, " ".join(words), names, words, word_of, [True] * len(words))

    modules = []
    for kind in AXES:
        for layer in range(1, layers + 1):
            scores = 2.5 * torch.randn(heads, tokens, tokens, generator=generator)
            if kind == "decoder":
                hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(hidden, -torch.inf)
            modules.append(Attention(f"{kind}{layer}", kind, layer, scores.softmax(dim=-1), scores, 64))
    every = [
        Head(module.kind, module.layer, number, "mixed", {"broad": 0.5}, 0.1)
        for module in modules
        for number in range(1, heads + 1)
    ]
    return Inspection(
        task="translation",
        facts="made up",
        axes={name: axis(name) for name in ("source", "target", "read")},
        outputs=[],
        log_prob=-1.0,
        attention=modules,
        heads=every,
        predictions=[],
        sublayers=[],
        calls={},
        choice=Choice("cross", 1, 1, 1),
    )


def test_gold_words_are_outlined_only_where_the_translation_is_right(inspection):
    assert inspection.is_right
    source, target = (inspection.axes[name].words for name in ("source", "target"))
    pairs = [(source[one], target[other]) for one, other in page_data(inspection)["gold"]]
    assert [pair for pair in pairs if pair[0] == "closes"] == [("closes", "macht"), ("closes", "zu")]
    assert pairs[-1] == ("clean", "sauber")
    wrong = replace(inspection, gold=Gold("something else", [(0, 0)]))
    assert page_data(wrong)["gold"] is None


def test_the_files_of_the_page_are_part_of_the_package():
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "inspection/page_files/*" in settings["tool"]["setuptools"]["package-data"]["transformer"]
