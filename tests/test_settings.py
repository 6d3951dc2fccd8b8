"""Settings: a saved file reads back equal, later values override earlier ones, errors say what is valid."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.config import (
    DataConfig,
    DecodingConfig,
    ModelConfig,
    Precision,
    Settings,
    TrainingConfig,
    setting_names,
)
from transformer.config.command_line import read_settings
from transformer.config.errors import UsageError
from transformer.config.files import load_settings, save_settings
from transformer.config.model import FIXED_BY_TOKENIZER
from transformer.config.parser import command_parser

SHARES = st.floats(0, 1, exclude_max=True)
COUNTS = st.integers(1, 10**12)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
TEXTS = st.text() | st.sampled_from(
    ["null", "~", "1e-4", "yes", "- a", "{", "@x", "a: b", " x ", "# x", "Ελ\n", "\x85"]
)

SETTINGS = st.builds(
    Settings,
    output=TEXTS.filter(bool),
    seed=st.integers(0, 2**63 - 1),
    device=st.sampled_from(["auto", "cpu", "cuda:3"]),
    precision=st.sampled_from(get_args(Precision)),
    model=st.builds(
        ModelConfig,
        d_model=st.integers(1, 99).map(lambda n: 16 * n),
        d_k=st.none() | COUNTS,
        dropout=SHARES,
        norm=st.sampled_from(["post", "pre"]),
        output_bias=st.booleans(),
    ),
    data=st.builds(
        DataConfig, train=TEXTS, valid=st.none() | TEXTS, source=TEXTS, max_tokens=st.integers(1, 1024)
    ),
    training=st.builds(
        TrainingConfig,
        max_steps=COUNTS,
        adam_epsilon=POSITIVE | st.sampled_from([1e-9, 1e-4, 1e22]),
        max_norm=st.none() | POSITIVE | st.just(float("inf")),
        compile=st.booleans(),
    ),
    decoding=st.builds(DecodingConfig, alpha=st.floats(0, 10)),
)


def read(*arguments: str) -> Settings:
    return read_settings(arguments, prog="transformer train")[0]


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str, name: str = "x.yaml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="module")
def config_path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run") / "config.yaml"


@given(settings=SETTINGS)
def test_loading_what_was_saved_gives_the_same_settings(settings, config_path):
    save_settings(settings, config_path)
    assert load_settings(config_path) == settings


def test_a_saved_file_holds_every_setting_in_order_and_leaves_no_other_file(tmp_path):
    save_settings(Settings(), tmp_path / "config.yaml")
    keys = [line.split(":")[0].strip() for line in (tmp_path / "config.yaml").read_text().splitlines()]
    sections = {"model", "data", "training", "decoding"}
    assert keys.pop(0) == "format_version"
    assert [key for key in keys if key not in sections] == [name.split(".")[-1] for name in setting_names()]
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_without_arguments_the_settings_are_the_defaults():
    assert read() == Settings()


def test_later_files_win_and_the_command_line_wins_over_all(yaml_file):
    base = yaml_file(
        "seed: 2\nmodel: {d_model: 64, d_ff: 96}\ntraining: {max_steps: 10, keep: 2}", "base.yaml"
    )
    delta = yaml_file("training: {max_steps: 20}\nmodel: {d_model: 128}", "delta.yaml")
    settings = read("--model.d_model=256", "--config", base, "--config", delta)
    assert settings == replace(
        Settings(),
        seed=2,
        model=ModelConfig(d_model=256, d_ff=96),
        training=TrainingConfig(max_steps=20, keep=2),
    )
    assert read("--config", delta, f"--config={base}").training.max_steps == 10


@pytest.mark.parametrize(
    "arguments", [["--training.max-steps", "7"], ["--training.max_steps=7"], ["--training.max-steps=7"]]
)
def test_options_may_be_spelt_with_dash_or_underscore(arguments):
    assert read(*arguments) == read("--training.max_steps", "7")


def test_a_value_keeps_its_dashes_and_underscores():
    assert read("--output=runs/a-b_c--d", "--data.train", "x_y-z").output == "runs/a-b_c--d"
    assert read("--data.train", "x_y-z").data.train == "x_y-z"


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1.0e-4"])
def test_numbers_read_alike_in_files_and_on_the_command_line(text, yaml_file):
    assert read("--config", yaml_file(f"training: {{adam_epsilon: {text}}}")).training.adam_epsilon == 1e-4
    assert read(f"--training.adam_epsilon={text}").training.adam_epsilon == 1e-4


def test_underscores_nulls_booleans_and_dotted_keys(yaml_file):
    text = "training.max_steps: 25_000\ndata: {valid: null, test: 'null'}\nmodel: {output_bias: Yes, d_k: 8}"
    settings = read("--config", yaml_file(text), "--model.d_k", "null")
    assert settings.training.max_steps == 25_000
    assert settings.data.valid is None
    assert settings.data.test == "null"
    assert settings.model.output_bias is True
    assert settings.model.d_k is None


def test_the_commands_own_options_are_returned_with_the_settings():
    def add_options(parser):
        parser.add_argument("--resume", action="store_true", help="continue the run")

    settings, extra = read_settings(
        ["--resume", "--seed", "3"], prog="transformer train", add_options=add_options
    )
    assert settings.seed == 3
    assert vars(extra) == {"resume": True, "build": None, "task": None}
    settings, extra = read_settings(["--task", "a:B"], prog="transformer train", add_options=add_options)
    assert settings.task == "a:B"
    assert vars(extra) == {"resume": False, "build": None, "task": "a:B"}


@pytest.mark.parametrize("text", ["# a recipe\nseed: 3\n", "{seed: 3}", "seed:\n  3\n"])
def test_a_mark_and_windows_line_endings_are_no_part_of_a_file(text, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert read("--config", str(path)) == replace(Settings(), seed=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {d_modle: 3}", r"x\.yaml: unknown setting model\.d_modle; did you mean model\.d_model\?$"),
        ("modle: {d_model: 3}", r"x\.yaml: unknown setting modle; did you mean model\?$"),
        ("max_steps: 3", r"x\.yaml: unknown setting max_steps; did you mean training\.max_steps\?$"),
        ("model: {class_path: os.system}", r"x\.yaml: unknown setting model\.class_path"),
        ("training: {max_steps: many}", r"x\.yaml: training\.max_steps: expected int, found 'many'$"),
        ("seed: 1.0", r"x\.yaml: seed: expected int, found '1\.0'$"),
        ("seed: true", r"x\.yaml: seed: expected int, found 'true'$"),
        ("model: {d_k: [1]}", r"x\.yaml: model\.d_k: expected int or null, found a list$"),
        ("model: {norm: mid}", r"x\.yaml: model\.norm: expected one of post, pre, found 'mid'$"),
        ("output:", r"x\.yaml: output: expected str, found null$"),
        ("output: !!python/object/apply:os.system [ls]", r"x\.yaml: output: expected str, found a list$"),
        ("model: 3", r"x\.yaml: model: expected a mapping of settings, found '3'$"),
        ("model:", r"x\.yaml: model: expected a mapping of settings, found null$"),
        ("- seed: 1", r"x\.yaml: expected a mapping of settings, found a list$"),
        ("# nothing", r"x\.yaml: expected a mapping of settings, found nothing$"),
        ("seed: 1\noutput: a\nseed: 2", r"x\.yaml: seed is set twice, on lines 1 and 3$"),
        ("seed: 1\nmodel: [", r"x\.yaml:2:9: not valid YAML: "),
        ("seed: \x01", r"x\.yaml: not valid YAML: "),
        ("[" * 10_000, r"x\.yaml: not valid YAML: maximum recursion depth exceeded"),
    ],
)
def test_an_error_in_a_file_names_the_file_and_the_setting(text, message, yaml_file):
    with pytest.raises(UsageError, match=message):
        read("--config", yaml_file(text))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--model.d_modle=3",
            r"^command line: unknown option --model\.d_modle; did you mean --model\.d_model\?$",
        ),
        (
            "--model.d_mod=3",
            r"^command line: unknown option --model\.d_mod; did you mean --model\.d_model\?$",
        ),
        (
            "--model={d_model: 3}",
            r"^command line: --model is a section; give one of its settings, such as --model\.kind$",
        ),
        ("--training.max_steps=many", r"^command line: training\.max_steps: expected int, found 'many'$"),
        ("--model.norm=mid", r"^command line: model\.norm: expected one of post, pre, found 'mid'$"),
        ("--model.d_k=x", r"^command line: model\.d_k: expected int or null, found 'x'$"),
        ("--training.compile=maybe", r"^command line: training\.compile: expected bool, found 'maybe'$"),
        ("--seed", r"^command line: argument --seed: expected one argument$"),
        ("x.yaml", r"^command line: unrecognized arguments: x\.yaml$"),
    ],
)
def test_an_error_on_the_command_line_names_the_option(argument, message):
    with pytest.raises(UsageError, match=message):
        read(argument)


def test_a_refused_value_is_told_in_the_words_of_the_settings(yaml_file):
    with pytest.raises(ValueError, match=r"^model\.dropout is 1\.0; it must be at least 0"):
        read("--config", yaml_file("model: {dropout: 1.0}"))
    with pytest.raises(ValueError, match=r"^training\.keep is 0; it must be greater than 0$"):
        read("--training.keep", "0")


def test_a_refused_value_in_a_runs_config_is_told_with_its_file(yaml_file):
    with pytest.raises(
        UsageError,
        match=r"x\.yaml: data\.vocab_size is 1000000000000; it must be null or greater than 0",
    ):
        load_settings(yaml_file("data: {vocab_size: 1000000000000}"))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        read("--config", "nowhere.yaml")


def test_help_shows_every_setting_with_type_and_default(capsys):
    with pytest.raises(SystemExit) as exit_:
        read("--help")
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for name in setting_names():
        assert sum(line.startswith(f"--{name} ") for line in lines) == (name not in FIXED_BY_TOKENIZER)
    assert all(line.endswith("]") or "[" in line for line in lines if re.match(r"--\w+\.", line))
    assert "--training.adam_epsilon X Adam's ε [1e-09]" in lines
    assert "--model.norm NAME Place of LayerNorm: [post], pre" in lines
    assert "--training.max_norm X Maximum gradient norm [no clipping]" in lines
    assert "--model CONFIG" not in text


def test_help_fits_80_columns_with_one_line_for_each_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        read("--help")
    options = capsys.readouterr().out.partition("\noptions:\n")[2].splitlines()
    assert max(map(len, options)) <= 80
    assert all(line.startswith("  -") or not line.startswith(" ") for line in options)


def test_help_explains_a_setting_or_a_section(capsys):
    with pytest.raises(SystemExit):
        read("--help", "data.tokenizer")
    text = capsys.readouterr().out
    assert text.startswith("--data.tokenizer NAME\n")
    assert "moses: lowercase" in text
    assert "One of sentencepiece, characters, moses. Default: sentencepiece." in " ".join(text.split())
    with pytest.raises(SystemExit):
        read("--help", "decoding")
    assert re.findall(r"--([\w.]+) ", capsys.readouterr().out) == [
        name for name in setting_names() if name.startswith("decoding.")
    ]
    with pytest.raises(
        UsageError, match=r"--help data\.tokeniser: no such setting; did you mean data\.tokenizer\?"
    ):
        read("--help", "data.tokeniser")


class TestCommandParser:
    """The parser of commands that take no settings."""

    @pytest.fixture
    def parser(self):
        parser = command_parser("transformer translate", "Translate.")
        parser.add_argument("--beam-size", type=int, default=4, help="hypotheses kept alive")
        parser.add_argument("--run", type=Path, required=True, help="a run's folder")
        return parser

    def test_spellings_agree(self, parser):
        for option in ("--beam_size", "--beam-size"):
            assert parser.parse_args([option, "6", "--run", "a_b"]).beam_size == 6

    def test_help_shows_types_and_defaults(self, parser):
        assert "--beam-size N hypotheses kept alive (default: 4)" in " ".join(parser.format_help().split())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--beam-sise", "4"], r"unknown option --beam-sise; did you mean --beam-size\?$"),
            (["--run", "a", "--beam-size", "many"], "beam_size: expected int, found 'many'$"),
            ([], "^command line: --run is missing$"),
        ],
    )
    def test_errors_are_one_line(self, parser, arguments, message):
        with pytest.raises(UsageError, match=message) as error:
            parser.parse_args(arguments)
        assert "\n" not in str(error.value)
