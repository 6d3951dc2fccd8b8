"""Setup for all tests: run-time checks of types and shapes, a fixed seed, no network, real data if available.

In every test, the first calls of each function in the package check the types and shapes of its arguments and
its result, by the import hook below. The settings are excluded, because they validate themselves, and their
tests should see the same errors as a user.
"""

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# SIGHUP is ignored under nohup, and SIGINT in a script's background job. Children would inherit that, but
# some tests send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

PACKAGE = Path(__file__).parents[1] / "transformer"
PARTS = sorted({path.stem for path in PACKAGE.glob("[a-z]*")} - {"config", "py"})
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # accepts an int as a float
beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
jaxtyped = jaxtyping.jaxtyped
CHECKED_CALLS = 5
"""How many calls of each function a test checks; checking all of them takes a third longer."""
calls: Counter[CodeType] = Counter()


def checked(*, typechecker: Any) -> Callable[[Any], Any]:
    """A faster `jaxtyping.jaxtyped`, for the import hook.

    The original checks all arguments twice, and prepares to compare shapes where no type has one, a
    third to a half of the time of a test.
    """

    def decorate(item: Any) -> Any:
        if isinstance(item, type):
            return jaxtyped(item, typechecker=typechecker)
        item.__annotations__ = {name: known(hint, item) for name, hint in item.__annotations__.items()}
        has_shapes = any(map(names_a_shape, item.__annotations__.values()))
        with_types = beartyped(item)
        with_shapes = jaxtyped(with_types, typechecker=None) if has_shapes else with_types

        @wraps(item)
        def call(*args: Any, **options: Any) -> Any:
            calls[item.__code__] += 1
            return (with_shapes if calls[item.__code__] <= CHECKED_CALLS else item)(*args, **options)

        return call

    return decorate


def known(hint: Any, item: Callable[..., Any]) -> Any:
    """A type hint that is a string, evaluated; `Any` if it names something that is defined later."""
    try:
        names = vars(sys.modules[item.__module__])
        return get_type_hints(SimpleNamespace(__annotations__={"hint": hint}), names)["hint"]
    except Exception:
        return Any


def names_a_shape(hint: Any) -> bool:
    is_shape = isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
    return is_shape or any(map(names_a_shape, get_args(hint)))


jaxtyping.jaxtyped = checked
jaxtyping.install_import_hook([f"transformer.{part}" for part in PARTS], CHECKER)

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repeatable")

torch.set_num_threads(1)  # the models are too small for a second thread to help


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, with the fixtures that are set up for it, checks the first calls of each function."""
    calls.clear()


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
