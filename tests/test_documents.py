"""Commands, programs and links in the README and docs work."""

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import python
from test_examples import LITTLE_TEXT, run_example

from transformer.cli import COMMANDS, main
from transformer.evaluation.table3 import ROWS
from transformer.toyland import generate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings: lower case, hyphens instead of spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_their_headings(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        if not target.startswith("https://"):
            linked = document.parent / path if path else document
            assert linked.exists(), target
            assert not heading or heading in anchors(linked), target


def section(title: str, text: str = README) -> str:
    """The text under a heading, up to the next heading of the same or a higher level."""
    level = title.split()[0]
    end = rf"^#{{1,{len(level)}}} |\Z"
    return re.split(end, text.split(f"\n{title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def table_rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without the header rows."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    heads = [number - 1 for number, row in enumerate(rows) if row[0] == "---"]
    return [row for number, row in enumerate(rows) if number not in heads and row[0] != "---"]


def symbols_of(path: Path) -> set[str]:
    """The names defined in a file: `name` at the top level, `Class.name` in a class."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= names_of(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in names_of(inner)}
    return found


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_files_are_listed_in_four_parts_in_at_most_six_words_each() -> None:
    files = section("## The files, in reading order")
    titles = re.findall(r"^### (.+)$", files, flags=re.MULTILINE)
    assert [title.split(".")[0] for title in titles] == ["I", "II", "III", "IV", "Skip at first"]
    linked = [re.findall(r"\]\(transformer/([^)]+)\)", row[0]) for row in table_rows(files)]
    for names, (_, what) in zip(linked, table_rows(files), strict=True):
        assert names, what
        assert 1 <= len(what.split()) <= 6, (names, what)
    listed = [name for names in linked for name in names]
    assert len(listed) == len(set(listed)), "a file is listed twice"
    package = ROOT / "transformer"
    unlisted = [
        path.relative_to(package).as_posix()
        for path in (*package.glob("*.py"), *package.glob("model/*.py"))
        if not path.name.startswith("__") and path.relative_to(package).as_posix() not in listed
    ]
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    unlisted += sorted(folders - {name.split("/")[0] for name in listed})
    assert not unlisted, f"add to the README's table of files: {unlisted}"


def test_where_is_names_symbols_that_exist_in_at_most_three_files() -> None:
    rows = table_rows(section("## Where is …?"))
    questions = (
        "label smoothing, the causal mask, the length penalty, the learning rate, bf16, SIGTERM, BLEU, "
    )
    questions += "the vocabulary, a new positional encoding, a new task"
    assert [row[0] for row in rows] == questions.split(", ")
    for question, answer in rows:
        places = re.findall(r"`([\w/.]+\.py): ([\w.]+)`", answer)
        assert ", ".join(f"`{path}: {symbol}`" for path, symbol in places) == answer, question
        assert 1 <= len({path for path, _ in places}) <= 3, question
        for path, symbol in places:
            assert symbol in symbols_of(ROOT / path), f"{question}: {path} defines no {symbol}"


def test_paper_to_code_names_symbols_and_tests_that_exist() -> None:
    text = (ROOT / "docs/paper_to_code.md").read_text(encoding="utf-8")
    places = re.findall(r"`([\w/.]+\.(?:py|yaml))(?:: (\w+))?`", text)
    assert len(places) > 90
    for path, symbol in places:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not symbol or re.search(rf"^(?:def |class )?{symbol}\b", source, flags=re.MULTILINE), symbol


def test_paper_to_code_has_every_section_equation_and_row() -> None:
    text = (ROOT / "docs/paper_to_code.md").read_text(encoding="utf-8")
    parts = ["3.1", "3.2.1", "3.2.2", "3.2.3", "3.3", "3.4", "3.5", "4"]
    parts += ["5.1", "5.2", "5.3", "5.4", "6.1", "6.2", "6.3"]
    wanted = [f"§{part} " for part in parts]
    wanted += [f"equation {number}" for number in (1, 2, 3)]
    wanted += [f"Table 3, row {row.name}: " for row in ROWS] + ["Table 1", "Table 2"]
    entries = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    for part in wanted:
        rows = [entry for entry in entries if part in entry[0]]
        assert rows, part
        assert all("`transformer/" in row[1] or "`configs/" in row[1] for row in rows), part
        assert all("`tests/" in row[2] for row in rows), part


@pytest.mark.parametrize("page", ["attention_by_hand", "common_bugs"])
def test_the_program_of_a_page_is_right(page: str) -> None:
    [program] = blocks("python", (ROOT / f"docs/{page}.md").read_text(encoding="utf-8"))
    exec(program, {})


def test_the_attention_by_hand_shows_the_numbers_that_its_program_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["attention_by_hand.py"])
    runpy.run_path(str(ROOT / "examples/attention_by_hand.py"), run_name="__main__")
    numbers = re.findall(r"\d\.\d\d", capsys.readouterr().out)
    assert len(numbers) == 11
    text = (ROOT / "docs/attention_by_hand.md").read_text(encoding="utf-8")
    assert not [number for number in numbers if number not in text]


def test_each_common_bug_names_a_test_that_exists() -> None:
    rows = table_rows((ROOT / "docs/common_bugs.md").read_text(encoding="utf-8"))
    assert len(rows) > 25
    for *_, law in rows:
        named = re.findall(r"`(test_\w+\.py)(?:: (test_\w+))?`", law)
        assert named, law
        for file, test in named:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert not test or f"\ndef {test}(" in source, test


def test_the_site_lists_every_page_and_stages_every_link() -> None:
    listed = re.findall(r"^ +- (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert sorted(listed) == sorted(pages)
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert not [name for name in pages - {"index.md"} if f"]({name}" not in index]
    stage = runpy.run_path(str(ROOT / "docs/stage.py"))
    linked: set[Path] = set()
    for page in sorted(pages):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for target in re.findall(
            r"\]\(([^)#:]+)[#)]",
            stage["relinked"](text, ROOT / "docs" / page, stage["STAGED"] / page, linked),
        ):
            assert not target.startswith("../"), (page, target)
    assert ROOT / "README.md" in linked


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_programs_run(number: int, tmp_path: Path) -> None:
    """With 2,000 sentences of toyland to train on, 20 to translate, and 4 updates instead of 100."""
    program = LITTLE_TEXT + blocks("python")[number].replace("max_steps=100", "max_steps=4")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([python(), "-c", program], cwd=tmp_path, env=environment, check=True)


def test_the_minimal_example_fits_a_page_and_runs(tmp_path: Path) -> None:
    example = ROOT / "examples/minimal.py"
    assert len(example.read_text(encoding="utf-8").splitlines()) <= 60
    printed = run_example(example, 8, tmp_path)
    assert "The old man buys a red apple." in printed
    assert re.search(r"predicting “.+”, head \d\.\d looks at “.+”: \d\.\d\d\n$", printed)


def test_the_commands_for_own_data_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "data/mine"
    folder.mkdir(parents=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for split, size in (("train", 300), ("valid", 20), ("test", 10)):
        pairs = list(generate("train" if split == "train" else split, size))
        (folder / f"{split}.en").write_text("".join(f"{pair.source}\n" for pair in pairs), encoding="utf-8")
        (folder / f"{split}.de").write_text("".join(f"{pair.target}\n" for pair in pairs), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    [block] = [block for block in blocks("sh") if "data/mine" in block]
    lines = block.replace("\\\n", " ").splitlines()
    assert [shlex.split(line)[:2] for line in lines] == [
        ["transformer", name] for name in ("train", "evaluate", "translate")
    ]
    smaller = "--training.max_steps 3 --training.tokens_per_batch 500"
    assert main(shlex.split(lines[0])[1:] + smaller.split()) == 0
    assert main(shlex.split(lines[1])[1:]) == 0
    with (folder / "test.en").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        capsysbinary.readouterr()
        assert main(shlex.split(lines[2].split("<")[0])[1:]) == 0
    assert len(capsysbinary.readouterr().out.splitlines()) == 10


def test_every_command_in_the_documents_exists() -> None:
    for document in (*DOCUMENTS, *sorted((ROOT / "configs").rglob("*.yaml")), ROOT / "Makefile"):
        for name in re.findall(
            r"(?:^|[(/ ])transformer ([a-z][\w-]+) --", document.read_text(encoding="utf-8")
        ):
            assert name in COMMANDS, (document.name, name)
