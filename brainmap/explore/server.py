"""Run the explorer: listen on 127.0.0.1, open a browser, and end cleanly on Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import webbrowser
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from brainmap.errors import InputError
from brainmap.explore.worker import Worker

if TYPE_CHECKING:
    from brainmap.explore.app import Limits

HOST = "127.0.0.1"


def serve(
    opening: Mapping[str, Any],
    *,
    title: str,
    port: int,
    limits: Limits,
    opened: Callable[[str], None],
) -> None:
    """Serve the explorer until it is interrupted.

    Parameters
    ----------
    opening : mapping
        What is explored, as `brainmap.explore.sources.open_source` takes it.
    title : str
    port : int
        0 finds a free one.
    limits : Limits
        Limits of sounds that are dropped or recorded.
    opened : callable
        It is called with the address when the server listens.

    Raises
    ------
    InputError
        The port is in use.
    """
    import uvicorn

    from brainmap.explore.app import make_app

    listening = _listen(port)
    with contextlib.closing(listening):
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        worker = Worker(opening)
        app = make_app(worker, title=title, token=token, port=port, limits=limits)

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                await worker.close()  # pages that wait for a job are answered, so that nothing is waited for
                await super().shutdown(sockets)

        settings = uvicorn.Config(
            app,
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=1,
            server_header=False,
            ws="none",
        )
        opened(f"http://{HOST}:{port}/?token={token}")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when all is closed
            Server(settings).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(
            f"--port: {port} cannot be used ({error.strerror or error}); name another, or 0 for a free one"
        ) from None
    return listening


def open_browser(address: str) -> None:
    """Open the address in the person's browser, where there is one."""
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(address)
