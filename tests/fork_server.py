"""A `python` that has already imported torch and the package, for tests that run programs in a new process.

The imports take 2 to 4 seconds of CPU time; a fork of a process that has done them takes 10 ms. One server
per session of pytest imports them, without the run-time type checks of conftest.py, and forks a child for
each program. The executable `python()` asks it to: use it in place of `sys.executable`, with `-m`, `-c` or
a script. Working directory, environment, streams, signals and exit code are passed on.

A child starts with the imports done. A test needs a real process, `sys.executable`, if it is about importing,
about variables which Python, torch or OpenMP read when they start, or about streams that are closed then.
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
PRELOADED = (
    *(
        "torch",
        "torch._dynamo",
        "torch.distributed.run",
        "datasets",
        "sacrebleu",
        "sentencepiece",
        "jsonargparse",
    ),
    *("transformer.recipe", "transformer.trained", "transformer.cli.train", "transformer.cli.translate"),
    *("transformer.inspection.inspect", "transformer.testing", "transformer.tasks.masked_language_model"),
    *("transformer.tasks.classification", "transformer.tasks.sentence_embedding"),
)


@cache
def python() -> str:
    """The path of an executable that runs Python programs in forks of a server, which is started now.

    Except on Linux it is the real Python: Windows cannot fork, and on macOS a forked process may not use the
    system's frameworks, which torch does.
    """
    if sys.platform != "linux":
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="fork-server-"))
    client = folder / "python"
    source = Path(__file__).with_name("fork_client.py").read_text(encoding="utf-8")
    client.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
    client.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__, str(folder / "socket")], stdin=subprocess.PIPE, env=environment, cwd=ROOT
    )
    atexit.register(stop, server, folder, os.getpid())
    while not (folder / "socket").exists():
        assert server.poll() is None, "the fork server did not start"
        time.sleep(0.01)
    return str(client)


def stop(server: "subprocess.Popen[bytes]", folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork of it
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)


# The server


def serve(listener: socket.socket) -> Any:
    """Fork a child for each request, and return the request there; in the server, this never returns.

    The children's exit codes go to their clients. A child is killed when its client is gone, and all of them
    when the process that started the server is gone.
    """
    children: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, woken, sys.stdin, *children.values()], [], [])
        if sys.stdin in ready:
            for child in children:
                os.kill(child, signal.SIGKILL)
            os._exit(0)
        for child, client in children.items():
            if client in ready:
                for number in client.recv(16) or [signal.SIGKILL]:
                    os.kill(child, number)
        if woken in ready:
            os.read(woken, 4096)
            report_the_dead(children)
        if listener in ready:
            client, _ = listener.accept()
            request, streams = receive(client)
            child = os.fork() if request else None
            if child == 0:
                signal.set_wakeup_fd(-1)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                os.closerange(3, 1 + max(woken, wake, client.fileno(), *streams))
                return request
            if child is None:
                client.close()
            else:
                children[child] = client
            for stream in streams:
                os.close(stream)


def receive(client: socket.socket) -> tuple[Any, list[int]]:
    """A client's request and its streams; the request is None if the client was killed before it was sent."""
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    length = int.from_bytes(head, "big")
    text = client.recv(length, socket.MSG_WAITALL) if length else b""
    return json.loads(text) if text and len(text) == length else None, list(streams)


def report_the_dead(children: dict[int, socket.socket]) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with children.pop(child) as client, suppress(OSError):  # the client may be gone
            client.send(str(os.waitstatus_to_exitcode(status)).encode())


# A child


def become(request: Any) -> None:
    """Make this process look as if Python had just started."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for number, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        raw = open(number, "wb", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        options = {"write_through": unbuffered, "line_buffering": name == "stderr" or os.isatty(number)}
        setattr(sys, name, io.TextIOWrapper(raw, errors=errors, **options))
        setattr(sys, f"__{name}__", getattr(sys, name))


def execute(arguments: list[str]) -> None:
    kind, program = arguments[:2] if arguments[0] in ("-m", "-c") else ("", arguments[0])
    sys.argv = [kind, *arguments[2:]] if kind else arguments
    first = str(Path(program).parent.resolve()) if not kind else str(Path.cwd()) if kind == "-m" else ""
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [first, *added, *(path for path in sys.path[1:] if path not in added)]
    if kind == "-m":
        sys.modules.pop(program, None)
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), vars(module))
    else:
        runpy.run_path(program, run_name="__main__")


def finish(arguments: list[str]) -> None:
    """Run a program and exit as Python would, without destroying all objects, which takes 0.2 seconds."""
    code: Any = 0
    try:
        execute(arguments)
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 255)


def main(path: str) -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child need not copy the pages of these objects
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(64)
        Path(f"{path}.new").rename(path)  # where `python()` waits for it: from now on, clients can connect
        request = serve(listener)
        listener.detach()  # the child has closed it
    become(request)
    finish(request["arguments"])


if __name__ == "__main__":
    main(sys.argv[1])
