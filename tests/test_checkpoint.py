"""A checkpoint is complete or absent, and a damaged one is reported in one line."""

import ast
import json
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from helpers import tiny_config, tiny_model
from torch import nn

import transformer.checkpoint.reading
import transformer.checkpoint.writing
from transformer.checkpoint import averaging
from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.format import FORMAT_VERSION, MANIFEST, MODEL, OPTIMIZER, STATE, CheckpointError
from transformer.checkpoint.reading import read_manifest, read_state
from transformer.checkpoint.run import Run, checkpoint_to_resume, find_run
from transformer.checkpoint.weights import load_model, read_tensors, unique_tensors
from transformer.checkpoint.writing import write_checkpoint
from transformer.config.files import load_settings, save_settings
from transformer.decoding.translator import Translator
from transformer.model.build import ModelBuilder, build_model

PACKAGE = Path(__file__).parents[1] / "transformer"


def write(run: Run, step: int, value: float = 1.0) -> Path:
    folder = run.checkpoint(step)
    write_checkpoint(
        folder,
        tensors={MODEL: {"w": torch.full((3,), value)}},
        state={"step": step, "value": value},
        tokenizer_hash="abc",
    )
    return folder


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def copied_run(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


@pytest.fixture
def model_folder(tmp_path) -> Path:
    folder = tmp_path / "checkpoints" / "step-00000001"
    tensors = {MODEL: unique_tensors(tiny_model())}
    write_checkpoint(folder, tensors=tensors, state={}, tokenizer_hash="")
    return folder


def rewrite(folder: Path, change) -> None:
    """Change the stored weights, and update the manifest to match."""
    weights = read_tensors(folder / MODEL)
    change(weights)
    write_checkpoint(folder, tensors={MODEL: weights}, state={}, tokenizer_hash="")


# Writing


@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": False, "output_bias": True}], ids=["tied", "free"]
)
def test_a_model_comes_back_as_it_was(changes, tmp_path):
    model, other = tiny_model(**changes), build_model(tiny_config(**changes))
    folder = tmp_path / "step-00000001"
    write_checkpoint(folder, tensors={MODEL: unique_tensors(model)}, state={"step": 7}, tokenizer_hash="abc")
    load_model(other, folder)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert read_state(folder) == {"step": 7}
    assert read_manifest(folder)["tokenizer"] == "abc"
    assert {path.name for path in folder.iterdir()} == {MODEL, STATE, MANIFEST}


def test_a_tied_weight_is_stored_once_and_stays_tied(model_folder):
    model = build_model(tiny_config())
    stored = read_tensors(model_folder / MODEL)
    assert stored.keys() == dict(model.named_parameters()).keys()
    assert sum(tensor.numel() for tensor in stored.values()) == sum(p.numel() for p in model.parameters())
    load_model(model, model_folder)
    assert unique_tensors(model).keys() == stored.keys()


def test_hashes_are_those_of_the_files_although_nothing_is_read_back(tmp_path):
    torch.manual_seed(0)
    numbers = torch.randn(3, 5)
    tensors = {
        "a number": torch.tensor(2.5),
        "none": torch.empty(0, 4),
        "transposed": numbers.T,
        "booleans": numbers > 0,
        "complex": torch.complex(numbers, numbers),
        **{
            str(dtype): numbers.to(dtype)
            for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.int8)
        },
    }
    folder = tmp_path / "step-00000001"
    write_checkpoint(folder, tensors={MODEL: tensors, "more": {}}, state={"ü": 1}, tokenizer_hash="")
    manifest = read_manifest(folder)  # checks the hash of every file
    assert manifest["files"].keys() == {MODEL, "more", STATE}
    for name, stored in read_tensors(folder / MODEL).items():
        assert torch.equal(stored, tensors[name])


def test_wherever_writing_fails_each_checkpoint_is_complete_or_absent(run, monkeypatch):
    """Let writing fail at its first operation, then at the second, and so on until it succeeds."""
    write(run, 1, value=1.0)
    calls, fail_at = 0, 0

    def fragile(function):
        def step(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise OSError(28, "No space left on device")
            return function(*arguments, **keywords)

        return step

    for owner, name in (
        (transformer.checkpoint.writing, "save_file"),
        (transformer.checkpoint.writing, "hash_of_tensors"),
        (transformer.files, "flush"),
        (transformer.files, "new_folder"),
        (transformer.files, "take_lock"),
        *((Path, name) for name in ("mkdir", "rename", "rmdir", "unlink", "write_bytes")),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(owner, name, fragile(getattr(owner, name)))

    def attempt(step: int, value: float) -> bool:
        nonlocal calls
        calls = 0
        try:
            write(run, step, value)
        except OSError:
            return False
        return True

    for number in count(1):
        fail_at = number
        replaced, added = attempt(1, value=2.0), attempt(2, value=3.0)
        fail_at = 0
        for step, values in ((1, (1.0, 2.0)), (2, (3.0,))):
            if run.checkpoint(step).exists():
                read_manifest(run.checkpoint(step))
                assert read_state(run.checkpoint(step))["value"] in values
        write(run, 1, value=1.0)
        assert not [path for path in run.checkpoints.iterdir() if path.name.startswith(".")]
        shutil.rmtree(run.checkpoint(2), ignore_errors=True)
        if replaced and added:
            break
    assert number > 8


def test_what_another_program_is_writing_is_left_alone(run):
    unfinished = run.checkpoints / ".unfinished-average-00000001-00000002-of-2"
    unfinished.mkdir(parents=True)
    write(run, 1)
    assert unfinished.is_dir()


def test_the_newest_and_the_best_are_kept(run):
    for step in range(1, 6):
        folder = write(run, step)
        if step == 2:
            run.mark("best", folder)
        run.keep_newest(2)
    assert run.steps() == [2, 4, 5]
    run.mark("best", run.checkpoint(5))
    run.keep_newest(1)
    assert run.steps() == [5]


@pytest.mark.parametrize("name", ["step-00000003-copy", "step-3", "step-4"])
def test_other_folders_next_to_the_checkpoints_are_ignored(run, name):
    write(run, 3)
    shutil.copytree(run.checkpoint(3), run.checkpoints / name)
    assert run.steps() == [3]


# Finding


def test_a_run_means_its_best_checkpoint_or_its_last(run):
    first, second = write(run, 1), write(run, 2)
    run.mark("last", second)
    assert find_run(run.path) == (run, second)
    run.mark("best", first)
    assert find_run(str(run.path)) == (run, first)
    shutil.rmtree(first)
    assert find_run(run.path) == (run, second)


@pytest.mark.parametrize("content", [b"", b"\n", b"step-0000\xb0002\n", b"\0"])
def test_a_damaged_mark_names_no_checkpoint(run, content):
    run.mark("last", write(run, 2))
    (run.path / "best").write_bytes(content)
    assert find_run(run.path) == (run, run.checkpoint(2))
    (run.path / "last").write_bytes(content)
    assert checkpoint_to_resume(run, print) == run.checkpoint(2)


def test_a_checkpoint_means_itself_and_knows_its_run(run, monkeypatch):
    folder = write(run, 1)
    assert find_run(folder) == (Run(run.path.resolve()), folder)
    monkeypatch.chdir(folder)
    assert find_run(".") == (Run(run.path.resolve()), Path())


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_what_is_not_a_run_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        CheckpointError, match=f"{name}: neither a run's folder with a checkpoint nor a check"
    ):
        find_run(tmp_path / name)


# Reading what is damaged


def test_a_flipped_byte_anywhere_in_a_file_is_noticed(copied_run):
    _, checkpoint = find_run(copied_run)
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / STATE]:
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(CheckpointError, match=f"{path.name}: missing or damaged, its hash is not"):
                read_manifest(checkpoint)
        path.write_bytes(content)
    Translator.from_pretrained(copied_run)


def test_a_flipped_bit_in_the_manifest_is_noticed(run):
    folder = write(run, 1)
    content = (folder / MANIFEST).read_bytes()
    for place in range(len(content)):
        (folder / MANIFEST).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with suppress(CheckpointError):
            # a changed hash of the tokenizer is noticed when the tokenizer is loaded
            assert read_manifest(folder)["tokenizer"] != "abc"


@pytest.mark.parametrize("name", [MODEL, STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "cut short", "empty"])
def test_a_missing_or_cut_file_is_noticed(run, name, damage):
    path = write(run, 1) / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut short" else b"")
    with pytest.raises(CheckpointError, match="damaged") as error:
        read_manifest(run.checkpoint(1))
    assert name in str(error.value)


def test_what_stays_unread_need_not_be_sound_but_all_else_must(copied_run):
    folder = Run(copied_run).marked("best")
    (folder / OPTIMIZER).write_bytes(b"x")
    Translator.from_pretrained(copied_run, device="cpu")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        read_manifest(folder)
    (folder / MODEL).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        Translator.from_pretrained(copied_run, device="cpu")


def test_a_newer_format_is_named_even_if_it_looks_otherwise(run):
    (write(run, 1) / MANIFEST).write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
    expected = f"format version {FORMAT_VERSION + 1}, but this version of the program reads 1 and 2$"
    with pytest.raises(CheckpointError, match=expected):
        read_manifest(run.checkpoint(1))


def test_a_manifest_cannot_name_files_elsewhere(run, tmp_path):
    folder = write(run, 1)
    (tmp_path / "secret").write_text("x")
    manifest = json.loads((folder / MANIFEST).read_text())
    name = "../../../secret"
    manifest["files"][name] = transformer.checkpoint.reading.file_hash(tmp_path / "secret")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="missing or damaged"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop(min(weights)),
            r"lacks \S+ \(1 such\); the model was built differently$",
        ),
        (
            lambda weights: weights.update(zz=torch.ones(1)),
            r"has the unexpected zz \(1 such\); the model was bu",
        ),
        (
            lambda weights: weights.update({max(weights): torch.ones(2, 3, 4)}),
            r" has shape \(2, 3, 4\), but the model's is \(",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_weights_of_another_model_are_refused(model_folder, change, message):
    rewrite(model_folder, change)
    model = build_model(tiny_config())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_model(model, model_folder)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100])
def test_a_file_that_is_not_safetensors_is_refused(model_folder, content):
    (model_folder / MODEL).write_bytes(content)
    for read in (
        lambda: load_model(nn.Linear(1, 1), model_folder),
        lambda: read_tensors(model_folder / MODEL),
    ):
        with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
            read()


ABSURD = [("num_layers", 10**9), ("d_model", 10**12), ("d_ff", 10**9), ("d_k", 10**9), ("vocab_size", 10**12)]


@pytest.mark.parametrize(("name", "value"), ABSURD)
def test_a_config_of_absurd_sizes_is_refused_before_a_model_is_built(copied_run, monkeypatch, name, value):
    monkeypatch.delattr(ModelBuilder, "build")
    settings = load_settings(copied_run / "config.yaml")
    save_settings(
        replace(settings, model=replace(settings.model, **{name: value})), copied_run / "config.yaml"
    )
    with pytest.raises(CheckpointError, match=r"a model of the sizes in config\.yaml has [\d,]+ weights"):
        Translator.from_pretrained(copied_run)


def test_nothing_that_is_read_can_run_code():
    """No module of the package uses a function that unpickles."""
    modules = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & modules, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load":
                loaders = [ast.unparse(each.value) for each in node.keywords if each.arg == "Loader"]
                assert loaders == ["yaml.BaseLoader"], path  # it makes only texts, lists and mappings
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle" or ast.unparse(node.value) == "False", path


# Averaging


def test_an_average_is_the_mean_of_the_newest_weights(run):
    weights = [{"a": torch.randn(3, 4), "b": torch.randn(5)} for _ in range(4)]
    for step, tensors in enumerate(weights, start=1):
        write_checkpoint(
            run.checkpoint(step), tensors={MODEL: tensors}, state={"step": step}, tokenizer_hash="abc"
        )
    folder = average_checkpoints(run, 3)
    averaged = read_tensors(folder / MODEL)
    for name in ("a", "b"):
        expected = torch.stack([tensors[name].double() for tensors in weights[1:]]).mean(dim=0)
        assert averaged[name].dtype == torch.float32
        torch.testing.assert_close(averaged[name].double(), expected, rtol=1e-7, atol=1e-8)
    assert read_state(folder) == {"averaged": [2, 3, 4]}
    assert read_manifest(folder)["tokenizer"] == "abc"
    assert run.steps() == [1, 2, 3, 4]  # the average does not count as a checkpoint of the run
    assert average_checkpoints(run, 3) == folder  # averaging again replaces the old result


def test_an_average_can_be_of_checkpoints_so_many_minutes_apart(run):
    times = {1: 0, 2: 400, 3: 610, 4: 1000, 5: 1200, 6: 1210}
    for step, seconds in times.items():
        folder = run.checkpoint(step)
        write_checkpoint(
            folder,
            tensors={MODEL: {"weight": torch.full((2,), float(step))}},
            state={"step": step, "seconds": seconds},
            tokenizer_hash="",
        )
    folder = average_checkpoints(run, 3, minutes=10)
    assert read_state(folder)["averaged"] == [1, 3, 6]
    assert read_tensors(folder / MODEL)["weight"].tolist() == pytest.approx([10 / 3] * 2)
    with pytest.raises(CheckpointError, match="has 3 checkpoints with 10 minutes between them, so the"):
        average_checkpoints(run, 4, minutes=10)
    for minutes in (-5, math.nan, math.inf):
        with pytest.raises(CheckpointError, match="minutes between checkpoints; the time must be 0 or more"):
            average_checkpoints(run, 1, minutes=minutes)


def test_checkpoints_that_training_deletes_meanwhile_are_not_averaged(run, monkeypatch):
    for step in range(1, 5):
        write(run, step, value=step)

    def read_as_training_goes_on(folder):
        shutil.rmtree(run.checkpoint(1), ignore_errors=True)
        return {"seconds": 60 * read_state(folder)["step"]}

    monkeypatch.setattr(averaging, "read_state", read_as_training_goes_on)
    assert read_state(average_checkpoints(run, 3, minutes=1)) == {"averaged": [2, 3, 4]}


@pytest.mark.parametrize("number", [0, -1, 3])
def test_more_checkpoints_than_there_are_cannot_be_averaged(run, number):
    write(run, 1)
    write(run, 2)
    with pytest.raises(CheckpointError, match=f"has 2 checkpoints, so the last {number} cannot be averaged"):
        average_checkpoints(run, number)


def test_a_damaged_checkpoint_is_not_averaged(run):
    (write(run, 1) / MODEL).write_bytes(b"x")
    write(run, 2)
    with pytest.raises(CheckpointError, match="missing or damaged"):
        average_checkpoints(run, 2)


@pytest.mark.parametrize(
    "other", [{"a": torch.ones(2)}, {"a": torch.ones(3), "b": torch.ones(1)}, {"b": torch.ones(3)}, {}]
)
def test_different_models_are_not_averaged(run, other):
    for step, tensors in ((1, {"a": torch.ones(3)}), (2, other)):
        write_checkpoint(run.checkpoint(step), tensors={MODEL: tensors}, state={}, tokenizer_hash="")
    with pytest.raises(
        CheckpointError, match="step-00000002: its weights differ in name or shape from those of update 1"
    ):
        average_checkpoints(run, 2)


def test_an_average_translates_like_any_checkpoint(copied_run):
    folder = average_checkpoints(Run(copied_run), 2)
    assert len(Translator.from_pretrained(folder, device="cpu").translate(["the clock", ""])) == 2
