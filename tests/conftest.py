"""Setup for all tests: run-time checks of types and shapes, a fixed seed, no network, real data if available.

The import hook below makes every call of a function in the package check its signature, including shapes. The
settings are excluded, because they validate themselves, and their tests should see the same errors as a user.
"""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shape_checks

# SIGHUP is ignored under nohup, and SIGINT in a script's background job. Children would inherit that, but
# some tests send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

PACKAGE = Path(__file__).parents[1] / "transformer"
PARTS = sorted({path.stem for path in PACKAGE.glob("[a-z]*")} - {"config", "py"})
shape_checks.install([f"transformer.{part}" for part in PARTS])

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repeatable")

torch.set_num_threads(1)  # the models are too small for a second thread to help


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random numbers."""
    torch.manual_seed(1)
    return 1


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may look up a host name, not even in code that ignores the failure: all data is local.

    The address of this machine may be connected to: a test may start a server.
    """
    asked: list[object] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "127.0.0.1":
            return real(host, *rest, **options)
        asked.append(host)
        raise OSError(f"a test looks up {host}")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    assert not asked


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real corpora, named by `TRANSFORMER_DATA`; without it, tests that need it are skipped."""
    name = os.environ.get("TRANSFORMER_DATA")
    if not name:
        pytest.skip("TRANSFORMER_DATA is not set: there is no real data to test with")
    if not Path(name).is_dir():
        pytest.skip(f"TRANSFORMER_DATA is {name}: there is no such folder")
    return Path(name)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained run, shared by many tests; a test that modifies it must copy it first."""
    from fixtures_run import tiny_settings

    from transformer.recipe import train

    return train(tiny_settings(tmp_path_factory.mktemp("runs") / "tiny"))
