"""Reading settings from YAML files, and writing a run's `config.yaml`.

Every value is checked against the dataclasses in `config/`, so that an error can name the file, the setting
and the values that would be valid.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from transformer.config import Settings, setting_names
from transformer.config.checks import in_short, whole_number
from transformer.config.errors import UsageError, did_you_mean, shortened
from transformer.files import read_bounded, write_whole

LARGEST_FILE = 2**20
"""Maximum size of a settings file in bytes; larger files are rejected."""
FORMAT_VERSION = 1
"""The format version, stored under `format_version` in `config.yaml`; recipes can omit this key."""
SECTIONS = tuple(dict.fromkeys(name.rpartition(".")[0] for name in setting_names() if "." in name))
NULL = "tag:yaml.org,2002:null"
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load_settings(path: Path | str) -> Settings:
    """Load settings from a YAML file such as a run's `config.yaml`; missing settings get their defaults."""
    values = read_file(Path(path))
    try:
        settings: Settings = build_settings(Settings, values)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return settings


def save_settings(settings: Settings, path: Path | str) -> None:
    """Write all settings atomically, in the order of their declaration."""
    # Non-ASCII characters are escaped, because PyYAML reads some unescaped line breaks back as spaces.
    tree = {"format_version": FORMAT_VERSION, **asdict(settings)}
    write_whole(Path(path), yaml.safe_dump(tree, sort_keys=False))


def build_settings(section: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Build the dataclass `section` from `values`; missing settings get their defaults.

    The keys of `values` are dotted names such as `model.d_ff`.
    """
    arguments = {}
    for item, kind in get_type_hints(section).items():
        name = prefix + item
        if name in SECTIONS:
            arguments[item] = build_settings(kind, values, f"{name}.")
        elif name in values:
            arguments[item] = values[name]
    return section(**arguments)


def read_file(path: Path) -> dict[str, Any]:
    """Read the settings that one YAML file gives, by dotted name."""
    content = read_bounded(path, LARGEST_FILE)
    try:
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError(f"{where}: not valid YAML: {shortened(str(error.problem))}") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    types = dict(setting_types())
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    try:
        for name, line, node in leaves(root, types):
            if name in values:
                raise UsageError(f"{name} is set twice, on lines {lines[name]} and {line}")
            values[name], lines[name] = read_value(name, node, types[name]), line
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return values


def leaves(
    node: yaml.Node | None, types: dict[str, Any], section: str = ""
) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield name, line and value of every setting under `node`; a key may be dotted, as in `model.d_ff`."""
    if not isinstance(node, yaml.MappingNode):
        of = f"{section}: expected " if section else "expected "
        raise UsageError(f"{of}a mapping of settings, found {found(node)}")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            of = f"{section}: " if section else ""
            raise UsageError(f"{of}expected the name of a setting, found {found(key)} as a key")
        name = f"{section}.{key.value}" if section else key.value
        if name in SECTIONS:
            yield from leaves(value, types, name)
        elif name == "format_version":
            require_known_format(value)
        elif name in types:
            yield name, key.start_mark.line + 1, value
        else:
            raise UsageError(f"unknown setting {shortened(name)}{did_you_mean(name, [*types, *SECTIONS])}")


def require_known_format(node: yaml.Node) -> None:
    version = read_value("format_version", node, int)
    if version != FORMAT_VERSION:
        newer = "; a newer version has written the file" if version > FORMAT_VERSION else ""
        raise UsageError(
            f"format version {in_short(version)}, but this version of the program reads "
            f"{FORMAT_VERSION}{newer}"
        )


def setting_types(section: type = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the type annotation of every setting."""
    for name, kind in get_type_hints(section).items():
        if prefix + name in SECTIONS:
            yield from setting_types(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def read_value(name: str, node: yaml.Node, kind: Any) -> Any:
    """Convert a YAML scalar to the type of its setting.

    Apart from null, the types that YAML infers are not used, because YAML takes 1e-4 for a string.
    """
    # `get_origin` returns Union for `Literal | None`, but UnionType for `int | None`.
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for option in options:
        with suppress(ValueError, KeyError):
            return read_scalar(node, option)
    expected = " or ".join(type_name(option) for option in options)
    too_long = int in options and re.fullmatch(r"[-+]?[0-9]{1000,}", str(node.value))
    raise UsageError(
        f"{name}: expected {expected}, found {found(node)}{', a number too large' * bool(too_long)}"
    )


def read_scalar(node: yaml.Node, kind: Any) -> Any:
    """Convert a YAML scalar to one type. Raises `ValueError` or `KeyError` if that is not possible."""
    if not isinstance(node, yaml.ScalarNode) or (node.tag == NULL) != (kind is NoneType):
        raise ValueError
    if kind is NoneType:
        return None
    text: str = node.value
    if get_origin(kind) is Literal:
        return get_args(kind)[get_args(kind).index(text)]
    if kind is bool:
        return BOOLEANS[text.lower()]
    if kind is float:
        return float(text.replace(".inf", "inf"))  # YAML writes .inf, Python inf
    return whole_number(text) if kind is int else kind(text)


def type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "null" if kind is NoneType else str(kind.__name__)


def found(node: yaml.Node | None) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "null" if node.tag == NULL else shortened(repr(node.value))
    if node is None:
        return "nothing"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
