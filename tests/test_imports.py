"""Imports point down, and files stay short."""

import ast
from collections.abc import Container
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "transformer"
FILES = sorted(PACKAGE.rglob("*.py"))

# The parts that each part may import besides itself, lowest first. Search knows models only through a
# protocol, so it imports only kernels and checks of padding.
BELOW: dict[str, list[str]] = {
    "messages": [],
    "version": [],
    "progress": ["messages"],
    "locks": [],
    "files": ["locks"],
    "pictures": ["config", "files"],
    "tasks.registry": [],
    "config": ["files", "messages", "tasks.registry"],
    "processes": [],
    "hardware": ["config", "processes"],
    "kernels": ["config"],
    "model": ["config", "kernels"],
    "model.padding": [],
    "toyland": [],
    "data": ["config", "files", "toyland"],
    "checkpoint": ["config", "files", "locks", "hardware", "model", "data", "tasks.registry"],
    "training": [
        "config",
        "messages",
        "progress",
        "files",
        "locks",
        "hardware",
        "processes",
        "kernels",
        "model",
        "data",
        "checkpoint",
        "tasks.registry",
        "version",
    ],
    "decoding.length_penalty": [],
    "decoding.search": ["kernels", "model.padding"],
    "decoding.finished": ["decoding.length_penalty", "decoding.search"],
    "decoding.beam": ["decoding.length_penalty", "decoding.search", "decoding.finished"],
    "decoding.sampling": [],
    "decoding": ["config", "messages", "hardware", "kernels", "model", "data", "checkpoint"],
}
BELOW["evaluation"] = [*BELOW["training"], "pictures", "toyland", "training", "decoding"]
BELOW["tasks"] = [*BELOW["evaluation"], "evaluation"]
BELOW["convert"] = [*BELOW["decoding"], "files", "processes", "decoding"]
BELOW["inspection"] = [*BELOW["decoding"], "pictures", "tasks.registry", "toyland", "decoding"]
BELOW["serving"] = ["config", "data", "decoding", "training"]
BELOW["testing"] = ["config", "kernels", "model", "decoding"]
BELOW["custom"] = list(BELOW)
BELOW["trained"] = list(BELOW)
BELOW["preparation"] = [*BELOW, "custom"]
BELOW["recipe"] = list(BELOW)
BELOW["cli"] = list(BELOW)
BELOW["__main__"] = ["cli"]
BELOW["__init__"] = [part for part in BELOW if part not in ("cli", "__main__")]


def part_of(module: str) -> str:
    """The longest name in `BELOW` that contains `module`, a name without the prefix `transformer.`."""
    parts = [part for part in BELOW if f"{module}.".startswith(f"{part}.")]
    assert parts, f"transformer.{module} has no place among the parts; add it to BELOW"
    return max(parts, key=len)


def module_of(path: Path) -> str:
    names = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(names[:-1] if len(names) > 1 and names[-1] == "__init__" else names)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_files(tree: ast.AST, modules: Container[str]) -> set[str]:
    """The `modules` that a file imports; in `from transformer.toyland import clock`, `clock` is a module."""
    found = set(imported_modules(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("transformer."):
            package = str(node.module).removeprefix("transformer.")
            names = {f"{package}.{alias.name}" for alias in node.names}
            found |= names
            if all(name in modules for name in names):
                found.discard(package)
    return {name for name in found if name in modules}


def imported_modules(tree: ast.AST) -> list[str]:
    """The modules of this package that are imported anywhere in the file, including inside functions."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            # `from transformer import model` imports transformer.model
            inside = [f"transformer.{alias.name}" for alias in node.names]
            names += inside if node.module == "transformer" else [str(node.module)]
    return [name.removeprefix("transformer.") for name in names if name.startswith("transformer.")]


def test_imports_point_down():
    forbidden = []
    for path in FILES:
        part = part_of(module_of(path))
        for module in imported_modules(parsed(path)):
            target = part_of(module)
            if not any(f"{target}.".startswith(f"{below}.") for below in (part, *BELOW[part])):
                forbidden.append(
                    f"transformer.{module_of(path)} ({part}) may not import transformer.{module}"
                )
    assert not forbidden, "\n".join(forbidden)


def test_no_package_contains_an_import_cycle():
    """Nor is there a cycle between packages: imports between files, even inside functions, have no cycle."""
    modules = {module_of(path): path for path in FILES if module_of(path) != "__init__"}
    imports = {module: imported_files(parsed(path), modules) - {module} for module, path in modules.items()}
    assert sum(map(len, imports.values())) > 400, "most imports are not found"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"an import cycle: {' <- '.join(error.args[1])}")


def test_files_stay_short():
    lengths = {module_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {module: lines for module, lines in lengths.items() if lines > 300}
    assert not long, f"more than 300 lines; does the file have a second responsibility? {long}"
