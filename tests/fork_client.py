"""What `fork_server.python()` runs: passes a program on to the server and ends as the program ended.

It imports almost nothing and takes 20 ms. As with any other program, a shell can redirect its streams, and it
can be sent signals.
"""

import _socket
import array
import json
import os
import signal
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main(server: str, arguments: list[str]) -> None:
    environment = dict(os.environ)
    if arguments[:1] == ["-u"]:  # as torchrun starts its processes
        environment["PYTHONUNBUFFERED"] = "1"
        del arguments[0]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-m", "-c")):
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # a signal must not get into the request
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(server)

    def forward(number, _):
        try:  # noqa: SIM105  (importing `suppress` would take longer)
            connection.send(bytes([number]))
        except OSError:  # the program has just ended
            pass

    for number in FORWARDED:
        signal.signal(number, forward)
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": environment}  # noqa: PTH109
    text = json.dumps(request).encode()
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg(
        [len(text).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams.tobytes())]
    )
    while text:
        text = text[connection.send(text) :]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    code = int(connection.recv(16))
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(os.path.join(os.path.dirname(__file__), "socket"), sys.argv[1:])  # noqa: PTH118, PTH120
