"""Running text in blocks, the character vocabulary, and a small language model, trained and used."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer import DataConfig, ModelConfig, Settings, TrainingConfig, train
from transformer.cli import main
from transformer.data.running_text import BlockBatches, read_text, token_ids
from transformer.data.text import CorpusError
from transformer.data.tokenizers.characters import CharacterTokenizer, train_character_tokenizer
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import EOS_ID
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.decoding.generator import TextGenerator
from transformer.kernels import linear as packed
from transformer.kernels.linear import PackedLinear
from transformer.tasks.language_model import LanguageModelTask

TEXT = 80 * "the quick brown fox\njumps over a lazy dog.\n"


@given(st.text())
def test_characters_come_back(text: str) -> None:
    tokenizer = train_character_tokenizer([text])
    assert tokenizer.vocab_size == 4 + len(set(text))
    assert tokenizer.decode(tokenizer.encode([text])) == [text]
    assert all(number >= 4 for number in tokenizer.encode([text])[0])


def test_unknown_characters_are_unk() -> None:
    assert CharacterTokenizer("ab").encode(["abc"]) == [[4, 5, 3]]


def test_a_saved_character_vocabulary_is_loaded(tmp_path: Path) -> None:
    tokenizer = train_character_tokenizer(['q"\n\\ü€'])
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = load_tokenizer(tmp_path / "tokenizer.model")
    assert isinstance(loaded, CharacterTokenizer)
    assert (loaded.characters, loaded.digest) == (tokenizer.characters, tokenizer.digest)


@pytest.mark.parametrize("content", ["{", '{"kind": "words"}', '{"kind": "characters", "characters": 3}'])
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.model").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.model: not a tokenizer of characters"):
        load_tokenizer(tmp_path / "tokenizer.model")


@pytest.mark.parametrize(
    ("slice_", "expected"),
    [
        ("", "0123456789\nabcdefgh\n"),
        ("[:50%]", "0123456789"),
        ("[50%:]", "\nabcdefgh\n"),
        ("[5:12]", "56789\na"),
        ("[5%:10%]", "1"),
        ("[:]", "0123456789\nabcdefgh\n"),
    ],
)
def test_slices_count_characters(tmp_path: Path, slice_: str, expected: str) -> None:
    (tmp_path / "text").write_text("0123456789\nabcdefgh\n")
    assert read_text(f"{tmp_path}/text{slice_}") == expected


def test_a_final_line_break_is_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n\nb\n")
    assert read_text(str(tmp_path / "text")) == "a\n\nb\n"
    (tmp_path / "text").write_text("a")
    assert read_text(str(tmp_path / "text")) == "a\n"


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abc")
    with pytest.raises(CorpusError, match=r"text\[4:\]: there is no text in it"):
        read_text(f"{tmp_path}/text[4:]")
    with pytest.raises(CorpusError, match="nowhere"):
        read_text(f"{tmp_path}/nowhere")


@given(
    length=st.integers(2, 300),
    context=st.integers(1, 40),
    blocks=st.integers(1, 5),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_an_epoch_predicts_every_token_but_the_first_once(
    length: int, context: int, blocks: int, epoch: int, shuffle: bool
) -> None:
    ids = np.arange(4, 4 + length, dtype=np.int32)
    batches = BlockBatches(ids, context=context, tokens_per_batch=blocks * context, seed=5, shuffle=shuffle)
    predicted: list[int] = []
    for rows in batches.epoch(epoch):
        batch = batches.fetch(rows)
        assert batch.tokens.shape[0] <= blocks
        assert batch.tokens.shape[1] <= context + 1
        labels = batch.tokens[:, 1:]
        assert batch.target_tokens == int((labels != 0).sum())
        inputs = batch.tokens[:, :-1]
        assert torch.equal(labels[labels != 0], (inputs + 1)[labels != 0])  # contiguous
        predicted += labels[labels != 0].tolist()
    assert sorted(predicted) == list(range(5, 4 + length))
    if not shuffle:
        assert predicted == sorted(predicted)


def test_a_text_is_tokenized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text(TEXT)
    data = DataConfig(train=str(tmp_path / "text"), valid=None, tokenizer="characters", context=32)
    task = LanguageModelTask(Settings(model=ModelConfig(kind="decoder_only"), data=data))
    tokenizer, read = task.train_tokenizer(), []
    encode = tokenizer.encode
    monkeypatch.setattr(type(tokenizer), "encode", lambda _, texts: read.extend(texts) or encode(texts))
    text = task.tokenize(tokenizer, task.settings)
    assert read == [TEXT]
    assert text.counts == {"characters": len(TEXT), "tokens": len(TEXT)}


@pytest.mark.parametrize("text", ["the fox", "the fox\n", "\nthe\n\nfox\n", "\n"])
def test_each_line_break_is_one_end_of_sentence(text: str) -> None:
    tokenizer = train_tokenizer(TEXT.splitlines(), vocab_size=300, normalization="nmt_nfkc")
    ids = token_ids(text, tokenizer).tolist()
    assert ids.count(EOS_ID) == text.count("\n")
    pieces = [number for line in tokenizer.encode(text.split("\n")) for number in line]
    assert [number for number in ids if number != EOS_ID] == pieces


def test_the_position_can_be_restored() -> None:
    def batches() -> BlockBatches:
        return BlockBatches(
            np.arange(4, 500, dtype=np.int32), context=7, tokens_per_batch=21, seed=1, shuffle=True
        )

    whole, resumed = batches(), batches()
    for _ in range(40):
        state = whole.state_dict()
        expected = next(whole)
        resumed.load_state_dict(state)
        assert torch.equal(next(resumed).tokens, expected.tokens)


def test_a_block_larger_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.tokens_per_batch is 8, but a block has 9 tokens"):
        BlockBatches(np.arange(50, dtype=np.int32), context=9, tokens_per_batch=8, seed=1, shuffle=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A character model that has learned TEXT."""
    folder = tmp_path_factory.mktemp("language_model")
    (folder / "text").write_text(TEXT)
    settings = Settings(
        output=str(folder / "run"),
        model=ModelConfig(kind="decoder_only", d_model=64, num_heads=2, d_ff=128, num_layers=2, dropout=0.0),
        data=DataConfig(
            train=f"{folder}/text",
            valid=f"{folder}/text[:300]",
            test=None,
            tokenizer="characters",
            context=32,
        ),
        training=TrainingConfig(
            max_steps=300, warmup_steps=60, rate_scale=0.3, label_smoothing=0.0, tokens_per_batch=512
        ),
    )
    return train(settings)


def test_a_text_is_learned_and_continued(run: Path) -> None:
    pieces: list[str] = []
    text = TextGenerator.from_pretrained(run).continue_text("quick br", max_length=24, write=pieces.append)
    assert text == "quick brown fox\njumps over a laz"
    assert "".join(pieces) == text


def test_a_text_generator_packs_its_layers_and_writes_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TextGenerator.from_pretrained(run).continue_text("quick br", max_length=24)
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "FEW_ROWS", 1)
    generator = TextGenerator.from_pretrained(run)
    assert any(isinstance(module, PackedLinear) for module in generator.model.modules())
    assert generator.continue_text("quick br", max_length=24) == plain


def test_cached_generation_equals_reading_the_text_again(run: Path) -> None:
    generator = TextGenerator.from_pretrained(run)
    text = generator.continue_text("the", max_length=60)  # longer than its context of 32
    [ids] = generator.tokenizer.encode([text])
    for place in range(3, len(ids)):
        logits = generator.model(torch.tensor([ids[:place]]))[0, -1].detach()
        assert float(logits[ids[place]]) == pytest.approx(float(logits.max()), abs=1e-4)


def test_evaluate_gives_bits_per_byte(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--run", str(run), "--data", f"{run.parent}/text[:200]"]) == 0
    values = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    loss = float(values["loss"].split()[0])
    # both are rounded to four decimals, and the loss is small
    assert float(values["bits per byte"]) == pytest.approx(loss * 199 / 200 / math.log(2), abs=1.3e-4)
    assert float(values["perplexity"]) == pytest.approx(math.exp(loss), rel=1e-3)


@pytest.mark.parametrize("option", ["--beam-size", "--alpha", "--show"])
def test_evaluate_refuses_what_only_translations_have(
    run: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--run", str(run), "--data", f"{run.parent}/text", option, "2"]) == 2
    expected = "the run's task is language_model; --beam-size, --alpha and --show are for translations"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("length", [1_000_001, 2**63 - 1, 10**30])
def test_a_continuation_has_a_greatest_length(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--run", "x", "--prompt", "a", "--max-length", str(length)]) == 2
    assert f"--max-length is {length}; it must be at most 1,000,000" in capsys.readouterr().err


def test_generate_takes_int8(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "--run", str(run), "--prompt", "q", "--max-length", "5", "--greedy"]
    assert main([*arguments, "--precision", "int8"]) == 0
    assert capsys.readouterr().out.startswith("q")


def test_generate_repeats_with_its_seed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def output(*options: str) -> str:
        arguments = ["generate", "--run", str(run), "--prompt", "q", "--max-length", "30", *options]
        assert main(arguments) == 0
        return capsys.readouterr().out

    assert output("--temperature", "3") == output("--temperature", "3")
    assert output("--temperature", "3") != output("--temperature", "3", "--seed", "2")
    assert output("--greedy") == output("--top-k", "1") == output("--top-p", "1e-9")
    two = output("--samples", "2", "--temperature", "3").split("--- ")
    assert len(two) == 3
    assert two[1][1:] != two[2][1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "the prompt has no tokens"),
        (["--prompt", "a\udcff"], "the prompt is not UTF-8"),
        (["--prompt", "aé1é"], "the prompt has characters that the model's vocabulary lacks: 'é', '1'"),
        (["--prompt", "a", "--top-k", "0"], "top_k is 0"),
        (["--prompt", "a", "--temperature", "0"], "temperature is 0.0"),
        (["--prompt", "a", "--samples", "0"], "--samples is 0; it must be at least 1"),
        (["--prompt", "a", "--seed", str(2**64)], f"--seed is {2**64}; it must be at least 0 and less than"),
        (["--prompt", "a", "--greedy", "--temperature", "2"], "--greedy does not sample; leave out --temp"),
        (["--prompt", "a", "--greedy", "--seed", "2"], "--greedy does not sample; leave out --temperature"),
    ],
)
def test_bad_options_take_one_line(
    run: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--run", str(run), *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_learned_positions_stop_with_a_clear_line() -> None:
    from transformer import build_model

    model = build_model(
        ModelConfig(
            kind="decoder_only",
            vocab_size=9,
            d_model=8,
            num_heads=2,
            d_ff=8,
            num_layers=1,
            positions="learned",
            max_positions=16,
        )
    )
    generator = TextGenerator(model.eval(), CharacterTokenizer("abcde"))
    assert len(generator.continue_text("abcd", max_length=12)) <= 16
    with pytest.raises(ValueError, match=r"longer than the 16 learned positions \(model\.max_positions\)"):
        generator.continue_text("abcd", max_length=13)


def test_resume_is_exact(run: Path, tmp_path: Path) -> None:
    from transformer import load_settings
    from transformer.checkpoint.format import MODEL
    from transformer.checkpoint.run import Run
    from transformer.checkpoint.weights import read_tensors

    settings = load_settings(run / "config.yaml")
    model = dataclasses.replace(settings.model, dropout=0.1)

    def short(output: str, steps: int) -> Settings:
        training = dataclasses.replace(settings.training, max_steps=steps, cooldown=0.0)
        return dataclasses.replace(settings, output=str(tmp_path / output), model=model, training=training)

    train(short("whole", 9))
    train(short("parts", 4))
    train(short("parts", 9), resume=True)
    whole, parts = (read_tensors(Run(tmp_path / name).checkpoint(9) / MODEL) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
