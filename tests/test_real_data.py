"""Real corpora from files to results, if `TRANSFORMER_DATA` names a folder that contains them."""

import dataclasses
from pathlib import Path

import pytest

from transformer import Settings, Translator, load_settings, train
from transformer.cli import main
from transformer.data.corpus import load_parallel
from transformer.data.running_text import read_text

CONFIGS = Path(__file__).parent.parent / "configs"


def on_real_data(name: str, data_dir: Path, output: Path) -> Settings:
    """A recipe that reads the corpora in `data_dir` and makes three updates instead of thousands."""
    settings = load_settings(CONFIGS / f"{name}.yaml")

    def moved(text: str | None) -> str | None:
        return text and text.replace("data/", f"{data_dir}/", 1)

    data = settings.data
    return dataclasses.replace(
        settings,
        output=str(output),
        data=dataclasses.replace(
            data, train=moved(data.train), valid=moved(data.valid), test=moved(data.test)
        ),
        training=dataclasses.replace(settings.training, max_steps=3, valid_sample=4),
    )


def test_multi30k_is_read_as_it_is(data_dir: Path) -> None:
    table = load_parallel(f"{data_dir}/multi30k/test_2016_flickr", "en", "de")
    lines = {
        side: (data_dir / f"multi30k/test_2016_flickr.{side}").read_text(encoding="utf-8").split("\n")
        for side in ("en", "de")
    }
    assert list(table["source"]) == lines["en"][:1000]
    assert list(table["target"]) == lines["de"][:1000]


def test_multi30k_from_files_to_translations(data_dir: Path, tmp_path: Path) -> None:
    settings = on_real_data("multi30k_en_de", data_dir, tmp_path / "run")
    smaller = dataclasses.replace(settings.data, vocab_size=1000, train=f"{settings.data.train}[:1000]")
    run = train(dataclasses.replace(settings, data=smaller))
    assert len(Translator.from_pretrained(run).translate(["A man sleeps.", ""])) == 2
    assert main(["evaluate", "--run", str(run), "--data", f"{settings.data.test}[:5]", "--json"]) == 0


def test_shakespeare_has_the_known_size_and_trains(data_dir: Path, tmp_path: Path) -> None:
    text = read_text(f"{data_dir}/tinyshakespeare/input.txt")
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    settings = on_real_data("shakespeare_char", data_dir, tmp_path / "run")
    train(dataclasses.replace(settings, data=dataclasses.replace(settings.data, valid=None)))


@pytest.mark.parametrize("corpus", ["tatoeba_en_de", "hansard_en_fr"])
def test_compressed_corpora_are_read(corpus: str, data_dir: Path) -> None:
    target = corpus[-2:]
    table = load_parallel(f"{data_dir}/{corpus}/train[:1000]", "en", target)
    assert len(table) == 1000
    assert all(row["source"] and row["target"] for row in table)
