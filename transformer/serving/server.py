"""Opens the server's socket, answers requests, and shuts down cleanly."""

import math
import signal
import socket
from collections.abc import Sequence

import uvicorn

from transformer.serving.app import ServedModel, make_app
from transformer.serving.limits import Limits
from transformer.training.interruption import handled_by


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 means any free port.

    Raises `ValueError` if the address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on port {port} of {host}: {error.strerror}; choose another --host or --port "
            "(0: any free port)"
        ) from None


def address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(models: Sequence[ServedModel], limits: Limits, listening: socket.socket) -> None:
    """Answer requests until SIGTERM or Ctrl-C arrives; requests that arrived earlier are still answered.

    A second Ctrl-C ends the server without answering the remaining requests. After the server has
    stopped, uvicorn sends the signal to the process again. So this function raises `KeyboardInterrupt` after
    Ctrl-C, and it returns after SIGTERM.
    """
    config = uvicorn.Config(
        make_app(models, limits),
        log_config=None,  # errors and their tracebacks go to standard error; nothing else is logged
        access_log=False,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds),
    )
    server = uvicorn.Server(config)
    with handled_by(server.handle_exit, (signal.SIGTERM,)):
        server.run(sockets=[listening])
