"""A program in a fork of the server behaves as it does in a Python of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fork_server import python

PROGRAM = """
import atexit, os, sys, threading
atexit.register(print, "the end")
threading.Thread(target=lambda: (threading.main_thread().join(), print("a thread"))).start()
print(__name__, sys.argv, sys.stdin.read(), os.getcwd(), os.environ["COLOUR"], sys.path[0], flush=True)
print("an error", file=sys.stderr)
"""
ENDINGS = ["", "sys.exit(5)", "sys.exit('no')", "raise ValueError", "os._exit(3)", "os.kill(os.getpid(), 9)"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["-c", "-m", "script"])
def test_it_prints_and_ends_as_with_python_itself(kind, ending, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + ending)
    start = {"-c": ["-c", PROGRAM + ending], "-m": ["-m", "program"], "script": ["program.py"]}[kind]
    found = []
    for executable in (python(), sys.executable):
        done = subprocess.run(
            [executable, *start, "an argument", "-c"],
            input="given",
            cwd=tmp_path,
            env={**os.environ, "COLOUR": "red"},
            capture_output=True,
            text=True,
        )
        error = done.stderr.splitlines()
        found.append((done.returncode, done.stdout, error[0], error[-1]))
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(number):
    program = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen(
        [python(), "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(30) == -number
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert subprocess.run([python(), "-c", ""]).returncode == 0  # the server is still there


def test_a_client_that_is_killed_before_it_asks_for_anything_is_forgotten():
    for sent in (b"", (1000).to_bytes(4, "big"), (1000).to_bytes(4, "big") + b'{"arguments": '):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(Path(python()).with_name("socket")))
            client.sendall(sent)
    assert subprocess.run([python(), "-c", ""]).returncode == 0
