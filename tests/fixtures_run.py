"""Settings for briefly trained tiny runs, which are enough to test files, text and commands."""

import json
from pathlib import Path
from typing import Any

from transformer.config import DataConfig, DecodingConfig, ModelConfig, Settings, TrainingConfig

TINY_MODEL = ModelConfig(d_model=16, num_heads=2, d_ff=32, num_layers=1, max_positions=64)


def tiny_settings(output: Path, *, data: dict[str, Any] | None = None, **training: Any) -> Settings:
    """Settings of a run in the folder `output`, with dropout, and with fast updates and translations."""
    text = {"train": "toyland:train[:60]", "valid": "toyland:valid[:8]", "test": "toyland:test[:12]"}
    loop = {
        "max_steps": 6,
        "warmup_steps": 10,
        "tokens_per_batch": 400,
        "valid_every": 4,
        "valid_sample": 3,
        "save_every": 2,
        "log_every": 1,
    }
    return Settings(
        output=str(output),
        device="cpu",
        precision="float32",
        model=TINY_MODEL,
        data=DataConfig(**{**text, "vocab_size": 330, "max_tokens": 64, **(data or {})}),
        training=TrainingConfig(**{**loop, **training}),
        decoding=DecodingConfig(beam_size=2, max_extra=4),
    )


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The entries in a run's log for this kind of event."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == kind]
