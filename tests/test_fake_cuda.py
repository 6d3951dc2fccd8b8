"""The operations that a GPU would be given, recorded without one: torch's fake tensors on a fake CUDA device.

`fake_cuda_audit.py` runs whole updates and searches there, in one process. An operation with tensors of two
devices is an error. The tests here state where the program may wait for the device, and how many operators it
starts.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_cuda_build import SOURCE, compile_device
from filelock import FileLock
from torch.utils.cpp_extension import get_cxx_compiler

HERE = Path(__file__).parent

WAITS_IN_A_SEARCH = {
    "model/padding.py: require_right_padded",  # rows that no model can read are refused
    "decoding/search.py: row_limits",  # the buffers' size
    "model/encoder_decoder.py: EncoderDecoder.prefill",  # whether there is any padding
    "decoding/search.py: generate",  # each step: which rows have ended
    "decoding/search.py: without_missing",  # at the end: the longest
    "decoding/beam.py: read_back",  # each step: which sentences have closed
    "decoding/finished.py: Finished.best",  # at the end: the longest
    "decoding/sampling.py: Sampler.probabilities",  # each step: whether any token is left
}
COPIES_IN_A_SEARCH = {
    "cpu to cuda in decoding/search.py: row_limits",
    "cpu to cuda in decoding/processors.py: ForcedPrefix.__call__",  # the prefixes, once
    # the rows that stay, when some have ended; the device has nothing else to do then
    "cpu to cuda in decoding/search.py: generate",
    "cpu to cuda in decoding/beam.py: keep_open",
}
WAITS_IN_A_STEP = {
    "greedy": {"decoding/search.py: generate": 1},
    "beam": {"decoding/beam.py: read_back": 1},
    "sampling": {"decoding/search.py: generate": 1, "decoding/sampling.py: Sampler.probabilities": 1},
}
WAITS_IN_UPDATES = {
    "training/log.py: Meter.read": 1,  # the log entry
    "training/loop.py: fit": 1,  # the same: the gradient's norm
    "training/finite.py: HostCopy.read": 4,  # one for each update, some updates later
}
WAITS_OF_A_STATE = {
    "prefill: encoder_decoder": {"model/encoder_decoder.py: EncoderDecoder.prefill": 1},
    "prefill: decoder_only": {},
    "select: encoder_decoder": {
        "model/encoder_decoder.py: EncoderDecoder.prefill": 1,
        "model/cache.py: DecodeState.select": 3,  # `select_beams`, which searches use, has none
    },
    "select: decoder_only": {},
}

COUNTED_WITH = "2.13.0"
OPERATORS = {
    "one update: translation": 401,
    "one update: language_model": 200,
    "one step: greedy, encoder_decoder": 61,
    "one step: beam, encoder_decoder": 105,
    "one step: sampling, encoder_decoder": 85,
    "one step: greedy, decoder_only": 64,
    "prefill: encoder_decoder": 122,
    "prefill: decoder_only": 65,
}
"""With two layers. If a number becomes smaller, note the new one here."""


@pytest.fixture(scope="module")
def audit(request, tmp_path_factory):
    """What `fake_cuda_audit.py` prints, by the name of the case; run once for all processes of pytest."""
    folder = tmp_path_factory.getbasetemp()
    cache = getattr(request.config, "cache", None)  # None with -p no:cacheprovider
    device = build(folder if cache is None else cache.mkdir("fake_cuda"))
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    found = folder / "fake_cuda_audit.jsonl"
    with FileLock(f"{found}.lock"):
        if not found.exists():
            environment = {**os.environ, "FAKE_CUDA_DEVICE": str(device)}
            environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
            command = [sys.executable, "-W", "ignore", str(HERE / "fake_cuda_audit.py")]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
            found.write_text(result.stdout)
    return {case.pop("name"): case for case in map(json.loads, found.read_text().splitlines())}


def build(folder: Path) -> Path:
    """The device as a shared library, which torch must find when it is imported; built once in `folder`."""
    if torch.cuda.is_available() or torch.version.cuda or sys.platform != "linux":
        pytest.skip("fake CUDA tensors are for a torch without CUDA, on Linux")
    if shutil.which(get_cxx_compiler()) is None:
        pytest.skip(f"the fake CUDA device needs the C++ compiler {get_cxx_compiler()}")
    version = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = folder / f"{version}.so"
    if not library.exists():
        unfinished = library.with_suffix(f".{os.getpid()}")
        compile_device(unfinished, get_cxx_compiler())
        unfinished.replace(library)
    return library


def cases(audit, *kinds):
    """The cases of these kinds, none of which has failed."""
    found = {name: case for name, case in audit.items() if name.split(":")[0] in kinds}
    assert found
    errors = [f"{name}: {case['error']}" for name, case in found.items() if "error" in case]
    assert not errors, "\n".join(errors)
    return found


def test_an_update_of_any_model_waits_only_for_the_log(audit):
    for name, case in cases(audit, "updates").items():
        assert case["reads"] == WAITS_IN_UPDATES, name
        assert case["copies"] == {"cuda to cpu in training/log.py: Meter.read": 1}, name


def test_a_checkpoint_is_copied_while_the_device_computes(audit):
    [case] = cases(audit, "saving").values()
    assert case["reads"] == {"training/finite.py: require_finite": 1}
    assert case["copies"] == {}


def test_a_search_waits_only_where_it_must(audit):
    for name, case in cases(audit, "greedy", "beam", "sampling").items():
        assert case["reads"].keys() <= WAITS_IN_A_SEARCH, name
        assert case["copies"].keys() <= COPIES_IN_A_SEARCH, name


def test_a_step_of_a_search_waits_once(audit):
    for name, case in cases(audit, "one step").items():
        how = name.removeprefix("one step: ").split(",")[0]
        assert (case["reads"], case["copies"]) == (WAITS_IN_A_STEP[how], {}), name


def test_a_model_waits_only_to_ask_whether_there_is_padding(audit):
    for name, case in cases(audit, "prefill", "select").items():
        assert (case["reads"], case["copies"]) == (WAITS_OF_A_STATE[name], {}), name


@pytest.mark.skipif(
    torch.__version__.split("+")[0] != COUNTED_WITH, reason=f"operators are counted with torch {COUNTED_WITH}"
)
def test_neither_an_update_nor_a_step_starts_more_operators_than_before(audit):
    found = cases(audit, "one update", "one step", "prefill")
    counts = {name: sum(case["operators"].values()) for name, case in found.items()}
    assert counts.keys() == OPERATORS.keys()
    grown = {name: count for name, count in counts.items() if count > 1.05 * OPERATORS[name]}
    assert not grown, f"{grown}; before: {OPERATORS}"
