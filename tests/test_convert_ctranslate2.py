"""CTranslate2 computes the same as our models, and its search finds the same through our interface."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import tiny_settings
from fork_server import python
from helpers import VARIANTS, be_second_of_two, random_rows, tiny_config, tiny_model

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.config import DecodingConfig
from transformer.config.files import load_settings, save_settings
from transformer.convert.common import ConversionError, conversion_folder
from transformer.convert.ctranslate2 import lines_to_compare, to_ctranslate2
from transformer.convert.ctranslate2_spec import write_model
from transformer.convert.engine import CTranslate2Translator, load_engine, seal
from transformer.data.tokenizers.characters import CharacterTokenizer
from transformer.decoding.translation import is_missing
from transformer.decoding.translator import Translator
from transformer.recipe import train

ctranslate2 = pytest.importorskip(
    "ctranslate2", reason="ctranslate2 is not installed: nothing to compare with"
)

BOS, EOS = 1, 2
LETTERS = CharacterTokenizer("abcdefghi")  # 13 tokens, including the special ones
EXPRESSIBLE = {
    **{name: changes for name, changes in VARIANTS.items() if name != "free widths"},
    "wide heads": {"d_k": 12, "d_v": 12},
    "another epsilon": {"norm_epsilon": 0.1},
    "pre-norm, another epsilon": {"norm": "pre", "norm_epsilon": 0.1},
    "silu": {"activation": "silu"},
    "output bias alone": {"output_bias": True},
}


def converted(folder: Path, model, config, quantization: str = "float32"):
    folder.mkdir()
    write_model(folder, model, config, LETTERS, quantization)
    return load_engine(folder, "cpu")


@pytest.mark.parametrize("changes", EXPRESSIBLE.values(), ids=EXPRESSIBLE)
def test_log_probabilities_are_equal(changes, tmp_path):
    config = tiny_config(**{"max_positions": 16, **changes})
    model = tiny_model(**{"max_positions": 16, **changes})
    engine = converted(tmp_path / "model", model, config)
    sources, targets = random_rows(15, 1, 7), random_rows(3, 15, 8)
    theirs = engine.score_batch(
        *([[LETTERS.pieces[i] for i in row] for row in rows] for rows in (sources, targets))
    )
    for source, target, found in zip(sources, targets, theirs, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*source, EOS]]), torch.tensor([[BOS, *target]]))
        expected = logits.log_softmax(dim=-1)[0, torch.arange(len(target) + 1), [*target, EOS]]
        torch.testing.assert_close(torch.tensor(found.log_probs), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    """Our translator and CTranslate2's for the same random model, which ends some translations with EOS."""
    torch.manual_seed(5)
    changes = {"tie_embeddings": False, "output_bias": True, "max_positions": 40}
    model, config = tiny_model(**changes), tiny_config(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.4)
        model.output.bias[EOS] += 0.9
    engine = converted(tmp_path_factory.mktemp("engine") / "model", model, config)
    options = {"model_config": config, "decoding": DecodingConfig(max_extra=6, batch_tokens=200)}
    return Translator(model, LETTERS, **options), CTranslate2Translator(engine, LETTERS, **options)


@pytest.mark.parametrize(("quantization", "workers"), [("float32", 1), ("int8", 3)])
def test_int8_has_a_worker_for_each_thread_and_finds_the_same(quantization, workers, tmp_path, monkeypatch):
    config = tiny_config(max_positions=40)
    converted(tmp_path / "model", tiny_model(max_positions=40), config, quantization)
    found = []
    for threads in (3, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        engine = load_engine(tmp_path / "model", "cpu", quantization)
        assert engine.num_translators == (workers if threads == 3 else 1)
        decoding = DecodingConfig(max_extra=6)
        translator = CTranslate2Translator(engine, LETTERS, model_config=config, decoding=decoding)
        found.append(translator.translate_n_best(random_lines(20), n_best=2))
    for many, one in zip(*found, strict=True):
        assert [output.text for output in many] == [output.text for output in one]
        assert [output.score for output in many] == pytest.approx([output.score for output in one], abs=1e-4)


def random_lines(count: int) -> list[str]:
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    return [
        "".join("abcdefghi"[i] for i in torch.randint(9, (length,), generator=generator).tolist())
        for length in lengths
    ]


@pytest.mark.parametrize(
    ("beam_size", "n_best", "alpha"), [(1, 1, 0.6), (4, 1, 0.0), (4, 1, 0.6), (4, 4, 0.0), (2, 1, 1.0)]
)
def test_its_search_finds_what_ours_finds(beam_size, n_best, alpha, talkative):
    lines = random_lines(40)
    ours, theirs = (
        each.translate_n_best(lines, n_best=n_best, beam_size=beam_size, alpha=alpha) for each in talkative
    )
    at_limit = ended = 0
    for line, expected, found in zip(lines, ours, theirs, strict=True):
        # CTranslate2 returns only `beam_size` hypotheses; after duplicates are removed, there may be fewer
        expected = expected[: sum(not is_missing(output) for output in found)]
        found = found[: len(expected)]
        assert [output.tokens for output in found] == [output.tokens for output in expected], line
        assert [output.score for output in found] == pytest.approx(
            [output.score for output in expected], abs=1e-4
        )
        at_limit += len(found[0].tokens) == len(line) + 1 + 6
        ended += len(found[0].tokens) < len(line) + 1 + 6
    assert at_limit
    assert ended


def test_lines_come_back_as_they_went(talkative):
    ours, theirs = talkative
    lines = ["", "abc", "   ", "a" * 100, "x", "b"]
    warnings: list[str] = []
    ours.warn = theirs.warn = warnings.append
    assert theirs.translate(lines) == ours.translate(lines)
    assert warnings == ["line 4 has 101 tokens; only its first 40 are translated"] * 2
    assert theirs.translate([]) == []
    with pytest.raises(ValueError, match="n_best is 3"):
        theirs.translate_n_best(lines, n_best=3, beam_size=2)
    with pytest.raises(ValueError, match=r"beam_size is 1001; it must be at most 1000"):
        theirs.translate_n_best(lines, n_best=1, beam_size=1001)


# Models that CTranslate2 cannot represent


def test_heads_of_two_widths_are_refused_by_name(tmp_path):
    changes = VARIANTS["free widths"]
    with pytest.raises(ConversionError, match=r"model\.d_k is 5; .* model\.d_v, which is 3"):
        converted(tmp_path / "model", tiny_model(**changes), tiny_config(**changes))


def test_a_pre_norm_stack_without_its_final_norm_is_refused_by_name(tmp_path):
    changes = {"norm": "pre", "final_norm": False}
    with pytest.raises(ConversionError, match=r"model\.final_norm is False; CTranslate2 ends every pre-norm"):
        converted(tmp_path / "model", tiny_model(**changes), tiny_config(**changes))


def test_two_tokens_with_one_text_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="two tokens 'a'"):
        write_model(tmp_path, tiny_model(), tiny_config(), CharacterTokenizer("abcdefgha"), "float32")


def test_another_task_is_refused(tmp_path, tiny_run):
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = load_settings(folder / "config.yaml")
    save_settings(replace(config, model=replace(config.model, kind="decoder_only")), folder / "config.yaml")
    with pytest.raises(CheckpointError, match="trained for language_model; translation is needed here"):
        to_ctranslate2(folder, tmp_path / "output")
    assert not (tmp_path / "output").exists()


# Folders


def test_a_folder_is_whole_or_absent(tmp_path):
    output = tmp_path / "new" / "model"
    with pytest.raises(ZeroDivisionError), conversion_folder(output) as folder:
        (folder / "file").write_text(f"half {1 / 0}")
    assert list((tmp_path / "new").iterdir()) == []
    with conversion_folder(output) as folder:
        (folder / "file").write_text("whole")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]
    with pytest.raises(ConversionError, match="exists already"), conversion_folder(output):
        pass
    assert (output / "file").read_text() == "whole"


@pytest.mark.parametrize("quantization", ["float32", "bfloat16", "int8"])
def test_a_run_is_converted_and_compared(quantization, tiny_run, tmp_path, capfd):
    output = tmp_path / "model"
    arguments = ["--run", str(tiny_run), "--to", "ctranslate2", "--output", str(output)]
    assert main(["convert", *arguments, "--quantization", quantization]) == 0
    error = capfd.readouterr().err
    assert "compared with our own search on toyland:valid[:8]: " in error
    assert " of 8 translations identical" in error
    if quantization == "float32":
        assert "8 of 8 translations identical (100.0 %)" in error
    assert error.endswith(f"converted model: {output}\n")
    names = {"model.bin", "config.json", "shared_vocabulary.json", "tokenizer.model"}
    assert {path.name for path in output.iterdir()} == names
    assert (output / "tokenizer.model").read_bytes() == Run(tiny_run).tokenizer.read_bytes()
    vocabulary = json.loads((output / "shared_vocabulary.json").read_text())
    assert vocabulary[:4] == ["<pad>", "<s>", "</s>", "<unk>"]


def test_other_text_serves_where_there_is_none_to_validate_on(tiny_run):
    config = load_settings(Run(tiny_run).config)
    for valid in (None, "gone/valid"):
        text, lines = lines_to_compare(replace(config, data=replace(config.data, valid=valid)))
        assert (text, len(lines)) == ("toyland:valid[:50]", 50)
    text, lines = lines_to_compare(config)
    assert (text, len(lines)) == ("toyland:valid[:8]", 8)


# Serving a run


def converted_models(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run / "checkpoints")) for path in run.rglob("ctranslate2-*"))


def translate(run: Path, monkeypatch, capsysbinary, *options: str) -> list[tuple[float, str]]:
    """Score and translation of each line; scores are printed with four decimals."""
    lines = "Is the house old?\n\nthe dog sleeps\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert main(["translate", "--run", str(run), "--scores", "--device", "cpu", *options]) == 0
    printed = capsysbinary.readouterr().out.decode().splitlines()
    return [(float(score), text) for score, text in (line.split("\t") for line in printed)]


def same(found: list[tuple[float, str]], expected: list[tuple[float, str]]) -> bool:
    """Whether the texts are equal and the scores differ only by rounding."""
    return [text for _, text in found] == [text for _, text in expected] and [
        score for score, _ in found
    ] == pytest.approx([score for score, _ in expected], abs=2.5e-4)


def test_the_engine_prints_what_our_own_search_prints(tmp_path, monkeypatch, capsysbinary):
    run = train(tiny_settings(tmp_path / "run", max_steps=4))
    (Run(run).path / "best").write_text("step-00000002\n")
    ours = translate(run, monkeypatch, capsysbinary)
    assert same(translate(run, monkeypatch, capsysbinary, "--engine", "ctranslate2"), ours)
    assert converted_models(run) == ["step-00000002/ctranslate2-float32"]
    model = run / "checkpoints/step-00000002/ctranslate2-float32/model.bin"
    written = model.stat().st_mtime_ns
    assert same(translate(run, monkeypatch, capsysbinary, "--engine", "ctranslate2"), ours)
    assert model.stat().st_mtime_ns == written  # not converted again

    (Run(run).path / "best").write_text("step-00000004\n")  # a new best checkpoint is converted
    newer = translate(run, monkeypatch, capsysbinary)
    assert not same(newer, ours)
    assert same(translate(run, monkeypatch, capsysbinary, "--engine", "ctranslate2"), newer)
    translate(run, monkeypatch, capsysbinary, "--engine", "ctranslate2-int8")
    assert converted_models(run) == [
        "step-00000002/ctranslate2-float32",
        "step-00000004/ctranslate2-float32",
        "step-00000004/ctranslate2-int8",
    ]


TRANSLATE_AND_TELL = """
import sys
from transformer.cli import main
code = main(["translate", *sys.argv[1:]])
print("with torch" if "torch" in sys.modules else "without torch", file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("engine", ["ctranslate2", "ctranslate2-int8"])
def test_a_converted_model_is_served_without_importing_torch(engine, tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    options = ["--run", str(run), "--engine", engine, "--device", "cpu", "--scores"]
    program = ["-c", TRANSLATE_AND_TELL, *options]
    lines = "Is the house old?\nThe dog sleeps.\n"
    (tmp_path / "lines").write_text(lines)
    of_files = ["--input", str(tmp_path / "lines"), "--output", str(tmp_path / "output")]
    first, second, third = (
        subprocess.run([executable, *program, *more], input=lines, capture_output=True, text=True, check=True)
        for executable, more in ((python(), []), (sys.executable, []), (sys.executable, of_files))
    )  # the first, which converts the model, runs in a fork that has imported torch
    told = [each.stderr.splitlines()[-1] for each in (second, third)]
    assert told == ["without torch", "without torch"]
    assert [len(line.split("\t")) for line in first.stdout.splitlines()] == [2, 2]
    assert first.stdout == second.stdout == (tmp_path / "output").read_text()


def test_cpu_threads_are_as_many_as_torch_uses_by_default():
    program = "from transformer.processes import cpu_threads; own = cpu_threads(); import torch; "
    program += "print(own, torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for setting in ({}, {"OMP_NUM_THREADS": "1"}):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment | setting, capture_output=True, text=True, check=True)
        own, of_torch = done.stdout.split()
        assert own == of_torch
        assert own == setting.get("OMP_NUM_THREADS", own)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model.bin",
            b"damaged",
            r"model\.bin is missing or damaged, its hash is not the one in hashes\.json",
        ),
        ("config.json", None, r"config\.json is missing or damaged, its hash is not"),
        ("strange.txt", b"", r"strange\.txt is missing or damaged, its hash is not"),
        ("hashes.json", b"[" * 10**5, r"no readable hashes\.json"),
        ("hashes.json", b"{}", r"config\.json is missing or damaged, its hash is not"),
    ],
)
def test_a_converted_model_that_has_changed_is_refused(tiny_run, tmp_path, name, content, message):
    checkpoint = Run(Path(shutil.copytree(tiny_run, tmp_path / "run"))).checkpoint(6)
    CTranslate2Translator.from_pretrained(checkpoint, device="cpu")
    path = checkpoint / "ctranslate2-float32" / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"ctranslate2-float32: {message}.*; delete the folder to"):
        CTranslate2Translator.from_pretrained(checkpoint, device="cpu")


def test_the_converted_model_of_another_checkpoint_is_refused(tiny_run, tmp_path):
    run = Run(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    CTranslate2Translator.from_pretrained(run.checkpoint(6), device="cpu")
    shutil.copytree(*(run.checkpoint(step) / "ctranslate2-float32" for step in (6, 4)))
    with pytest.raises(CheckpointError, match=r"ctranslate2-float32: model\.safetensors .* its hash is not"):
        CTranslate2Translator.from_pretrained(run.checkpoint(4), device="cpu")


def test_a_converted_model_without_hashes_is_converted_again(tiny_run, tmp_path):
    checkpoint = Run(Path(shutil.copytree(tiny_run, tmp_path / "run"))).checkpoint(6)
    folder = checkpoint / "ctranslate2-float32"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"from an early version")
    assert CTranslate2Translator.from_pretrained(checkpoint, device="cpu").translate(["a"])


def test_what_ctranslate2_cannot_load_is_one_line(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"CTranslate2 cannot load it: .*; delete the folder"):
        load_engine(tmp_path, "cpu")


def test_a_conversion_that_fails_leaves_nothing(tiny_run, tmp_path, monkeypatch):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    monkeypatch.setattr("transformer.convert.ctranslate2_spec.write_model", lambda *_: 1 / 0)
    before = sorted(run.rglob("*"))
    with pytest.raises(ZeroDivisionError):
        CTranslate2Translator.from_pretrained(run, device="cpu")
    assert sorted(run.rglob("*")) == before


def test_another_process_may_be_faster(tiny_run, tmp_path, monkeypatch):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    checkpoint = Run(run).marked("best") or Run(run).checkpoint(6)

    def seal_and_copy(opened, folder):
        seal(opened, folder)
        shutil.copytree(folder, checkpoint / "ctranslate2-float32")

    monkeypatch.setattr("transformer.convert.engine.seal", seal_and_copy)
    translator = CTranslate2Translator.from_pretrained(run, device="cpu")
    assert len(translator.translate(["a"])) == 1
    with pytest.raises(TypeError, match="not one string"):
        translator.translate("a")
    with pytest.raises(ValueError, match=r"^line 2 holds U\+D83D"):
        translator.translate(["a", "\ud83d"])


@pytest.mark.parametrize(
    ("device", "gpus", "expected"),
    [("auto", 2, ("cuda", 1)), ("cuda", 2, ("cuda", 1)), ("auto", 0, ("cpu", 0)), ("cpu", 2, ("cpu", 0))],
)
def test_each_process_of_a_machine_has_its_own_gpu(device, gpus, expected, monkeypatch, tmp_path):
    be_second_of_two(monkeypatch)
    found = []
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: gpus)
    monkeypatch.setattr(
        ctranslate2,
        "Translator",
        lambda _, *, device, device_index, **_threads: found.append((device, device_index)),
    )
    load_engine(tmp_path, device)
    assert found == [expected]


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_a_device_that_does_not_exist_is_refused(device, tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    with pytest.raises(
        ValueError, match=f"device is '{device}'; choose auto, cpu, cuda, cuda:N, mps, xpu or"
    ):
        CTranslate2Translator.from_pretrained(run, device=device)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:1", "device is 'cuda:1', but CTranslate2 sees 1 CUDA GPUs here"), ("mps", "only on cpu or cuda")],
)
def test_a_device_that_ctranslate2_does_not_have_is_refused(device, message, monkeypatch, tmp_path):
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    with pytest.raises(ValueError, match=message):
        load_engine(tmp_path, device)


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "--engine", "ctranslate2"],
        ["convert", "--to", "ctranslate2", "--output", "model"],
    ],
)
def test_without_ctranslate2_one_line_says_how_to_get_it(arguments, tiny_run, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert main([*arguments, "--run", str(tiny_run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"transformer {arguments[0]}: error: ctranslate2 is not installed; install the")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
