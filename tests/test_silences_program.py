"""benchmarks/silences.py and its table, with tiny models of toyland."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import transformer
from transformer.evaluation.scored import Scored

ROOT = Path(__file__).parents[1]
RECIPE = """
model: {d_model: 16, num_heads: 2, d_ff: 24, num_layers: 1, dropout: 0.3}
data: {train: "toyland:train[:300]", valid: "toyland:valid[:20]", test: "toyland:test[:20]", vocab_size: 330}
training: {max_steps: 20, warmup_steps: 5, tokens_per_batch: 400, save_every: 2, log_every: 1, keep: 3}
decoding: {beam_size: 2, max_extra: 4}
"""
OTHERS = "zero_start", "loss_by_sentence"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder with runs and figures of the default, with two seeds, and of two variants."""
    folder = tmp_path_factory.mktemp("silences")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        run(folder, "--variants", "default", "--seeds", "1", "2")
        run(folder, "--variants", *OTHERS, "--seeds", "1")
    return folder


def run(folder: Path, *options: str) -> None:
    places = [
        "--config",
        f"{folder}/recipe.yaml",
        "--output",
        f"{folder}/runs",
        "--figures",
        f"{folder}/figures",
    ]
    import_module("silences").main([*places, "--updates", "6", "--tokens", "400", *options])


def losses(run: Path) -> list[tuple[int, float]]:
    events = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [(event["step"], event["loss"]) for event in events if event["event"] in ("train", "valid")]


def test_each_run_leaves_its_figures_and_translations(trained):
    names = {"default_1", "default_2", *(f"{name}_1" for name in OTHERS)}
    assert {file.stem for file in (trained / "figures").iterdir()} == names
    for name in names:
        figures = json.loads((trained / f"figures/{name}.json").read_text(encoding="utf-8"))
        assert (figures["variant"], figures["seed"]) == (name[:-2], int(name[-1]))
        assert figures["averaged"] == "4, 5, 6"
        assert figures["perplexity"] > 1
        assert figures["bleu_signature"].startswith("nrefs:1|case:mixed")
        assert {"change", "command", "commit", "hardware", "date"} <= figures.keys()
        lines = (trained / f"figures/{name}.txt").read_text(encoding="utf-8").split("\n")
        assert len(lines) == 21  # 20 sentences and the end


def test_the_default_is_the_packages_own_training_to_the_last_digit(trained, tmp_path):
    settings = transformer.load_settings(trained / "runs/default_1/config.yaml")
    again = transformer.train(replace(settings, output=str(tmp_path / "run")))
    assert losses(again) == losses(trained / "runs/default_1")
    assert len(losses(again)) > 6


def test_the_variants_train_differently_from_the_first_update_on(trained):
    default, *others = (losses(trained / f"runs/{name}_1") for name in ("default", *OTHERS))
    for other in others:
        assert all(one != two for one, two in zip(default, other, strict=True))


def test_finished_runs_are_reused_even_without_their_folders(trained, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(transformer, "train", refuse)
    run(trained, "--variants", "default", "--seeds", "2")


def test_figures_of_other_settings_are_not_reused(trained):
    with pytest.raises(ValueError, match=r"default_2\.json is from other settings"):
        run(trained, "--variants", "default", "--seeds", "2", "--updates", "7")


def test_a_run_that_diverges_leaves_that_as_its_figure(trained, monkeypatch):
    def diverge(*_, **__):
        raise import_module("silences").DivergedError("update 3: not finite")

    monkeypatch.setattr(transformer, "train", diverge)
    run(trained, "--variants", "untied", "--seeds", "5")
    file = trained / "figures/untied_5.json"
    assert json.loads(file.read_text(encoding="utf-8"))["diverged"] == "update 3: not finite"
    file.unlink()


# The table


def test_the_paired_bootstrap_is_sacrebleus():
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import PairedTest

    silences, silence_table = import_module("silences"), import_module("silence_table")
    words = ["ein", "Hund", "läuft", "im", "Schnee", "und", "Park", "."]
    generator = np.random.default_rng(5)
    references = [" ".join(generator.choice(words, 9)) for _ in range(60)]

    def disturbed(share: float) -> list[str]:
        lines = (line.split() for line in references)
        return [" ".join(word for word in line if generator.random() > share) for line in lines]

    one, other = disturbed(0.12), disturbed(0.1)
    systems = [("other", other), ("one", one)]
    metrics = {"BLEU": BLEU()}
    _, results = PairedTest(systems, metrics, [references], test_type="bs")()
    expected = results["BLEU"][1]

    def counted(outputs: list[str]) -> np.ndarray:
        pairs = (Scored("", *pair) for pair in zip(references, outputs, strict=True))
        return np.array([list(map(int, silences.counts(pair, "13a").split())) for pair in pairs])

    assert silence_table.bleu_of(counted(one).sum(axis=0)) == pytest.approx(expected.score, rel=1e-12)
    p = silence_table.paired_bootstrap(counted(one), counted(other))
    assert 0.001 < p < 0.9  # neither the smallest nor the largest p
    assert p == pytest.approx(expected.p_value)
    assert silence_table.paired_bootstrap(counted(one), counted(one)) == 1.0


def write_figures(folder: Path, name: str, scores: list[float | None]) -> None:
    for seed, bleu in enumerate(scores, start=1):
        run = {
            "variant": name,
            "seed": seed,
            "change": f"{name} changes.",
            "hardware": "a CPU",
            "command": "it",
        }
        run |= {"diverged": "yes"} if bleu is None else {"bleu": bleu, "perplexity": 10.0, "chrf": 50.0}
        (folder / f"{name}_{seed}.json").write_text(json.dumps(run), encoding="utf-8")
        rows = [f"9 9 {8 - (row + seed) % 3} 6 5 4 9 8 7 6\n" for row in range(10)]
        (folder / f"{name}_{seed}.counts").write_text("".join(rows), encoding="utf-8")


def test_intervals_are_students_t_with_the_variance_of_all_variants(tmp_path):
    stats = pytest.importorskip("scipy.stats")
    one, other = [30.0, 31.0, 32.0], [33.0, 36.0, 33.0]
    write_figures(tmp_path, "untied", other)
    write_figures(tmp_path, "default", one)
    write_figures(tmp_path, "no_warmup", [31.0, None, 2.0])
    table = import_module("silence_table").table(tmp_path)
    deviation = ((np.var(one, ddof=1) + np.var(other, ddof=1)) / 2) ** 0.5
    half = stats.t.ppf(0.975, 4) * deviation / 3**0.5
    rows = {line.split(" | ")[0]: line for line in table.splitlines() if line.startswith("| `")}
    assert list(rows) == ["| `default`", "| `untied`", "| `no_warmup`"]  # the program's order
    assert f"| 31.00 ± {half:.2f} |" in rows["| `default`"]
    assert f"| 34.00 ± {half:.2f} | +3.00 ± {2**0.5 * half:.2f} | 1.000, 1.000, 1.000 |" in rows["| `untied`"]
    assert "| failed: 10, 10 |  | failed: 31, 2 |  | 1.000, -, 1.000 |" in rows["| `no_warmup`"]
    assert "31.00, diverged, 2.00" in rows["| `no_warmup`"]
    assert "A run of no_warmup diverged" in table


def test_the_table_needs_only_the_folder_of_figures(trained, tmp_path, capsys):
    pytest.importorskip("scipy.stats")
    elsewhere = tmp_path / "figures"
    elsewhere.mkdir()
    for file in (trained / "figures").iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    import_module("silences").main(["--table", "--figures", str(elsewhere)])
    printed = capsys.readouterr().out
    figures = json.loads((elsewhere / "zero_start_1.json").read_text(encoding="utf-8"))
    assert f"| `zero_start` | {figures['change']} |" in printed
    assert figures["bleu_signature"] in printed
