"""What every test stands on: shapes checked at run time, one seed, and the switch for real data.

From the hook on, every signature of the package is checked, shapes included, whenever it is called. Only the
settings are left out: they check themselves, and their tests see what a user sees.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jaxtyping

PACKAGE = Path(__file__).parents[1] / "transformer"
PARTS = sorted({path.stem for path in PACKAGE.glob("[a-z]*")} - {"config", "py"})
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float, too
jaxtyping.install_import_hook([f"transformer.{part}" for part in PARTS], CHECKER)

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repeatable")

torch.set_num_threads(1)  # the models are tiny: a second thread would mostly wait for the first


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random numbers."""
    torch.manual_seed(1)
    return 1


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While all data and models are local, nothing looks up a host, even where a failure is ignored."""
    asked: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError(f"a test looks up {host}")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    assert not asked


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real corpora, for tests that read them; `TRANSFORMER_DATA` names it."""
    name = os.environ.get("TRANSFORMER_DATA")
    if not name:
        pytest.skip("TRANSFORMER_DATA is not set: there is no real data to test with")
    if not Path(name).is_dir():
        pytest.skip(f"TRANSFORMER_DATA is {name}: there is no such folder")
    return Path(name)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that several tests read; one that changes it takes a copy."""
    from fixtures_run import tiny_settings

    from transformer.recipe import train

    return train(tiny_settings(tmp_path_factory.mktemp("runs") / "tiny"))
