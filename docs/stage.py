"""Prepare the pages of the site in build/docs: the documents, and a page for every file that they link to.

python docs/stage.py

On the web and in a checkout the documents link to files next to docs/, such as `../transformer/recipe.py`. A
site has no such files, so each one becomes a page of its own, and the links lead there. `make docs` runs this
before it builds the site; mkdocs.yml names build/docs.
"""

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS, STAGED = ROOT / "docs", ROOT / "build" / "docs"
LINK = re.compile(r"\]\((?P<path>[^)#:]+)(?P<anchor>#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".md": "markdown", ".toml": "toml"}


def main() -> None:
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(DOCUMENTS / "pictures", STAGED / "pictures")
    for picture in DOCUMENTS.glob("*.svg"):
        shutil.copy(picture, STAGED)
    linked: set[Path] = set()
    for document in sorted(DOCUMENTS.glob("*.md")):
        text = document.read_text(encoding="utf-8")
        write(STAGED / document.name, relinked(text, document, STAGED / document.name, linked))
    done: set[Path] = set()
    while todo := linked - done:  # the README, for one, links to more files
        for path in sorted(todo):
            write(page_of(path), page(path, linked))
        done |= todo
    print(f"{STAGED.relative_to(ROOT)}: {len(list(DOCUMENTS.glob('*.md')))} pages, {len(done)} files")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def page_of(path: Path) -> Path:
    """The page of a file or folder of the project."""
    name = path.relative_to(ROOT).as_posix()
    return STAGED / "files" / (f"{name}/index.md" if path.is_dir() else f"{name}.md")


def relinked(text: str, document: Path, place: Path, linked: set[Path]) -> str:
    """`text` of `document` with its links changed for the page `place`; adds the linked files to `linked`."""

    def change(match: re.Match[str]) -> str:
        target = (document.parent / match["path"]).resolve()
        if not target.exists():
            return match[0]  # the builder reports it
        if target.parent in (DOCUMENTS, DOCUMENTS / "pictures"):
            staged = STAGED / target.relative_to(DOCUMENTS)
        else:
            linked.add(target)
            staged = page_of(target)
        return f"]({Path(os.path.relpath(staged, place.parent)).as_posix()}{match['anchor'] or ''})"

    return LINK.sub(change, text)


def page(path: Path, linked: set[Path]) -> str:
    """A document as it is, a folder as the list of its files, and anything else as code."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in LANGUAGES)
        text = f"# {name}\n\n" + "".join(f"- [{each.name}]({each.name})\n" for each in files)
        return relinked(text, path / "index.md", page_of(path), linked)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return relinked(text, path, page_of(path), linked)
    return f"# {name}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


if __name__ == "__main__":
    main()
