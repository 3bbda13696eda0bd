"""The emulator's process: prints its address on one line, and exits when its standard input ends.

So it never outlives the process that started it.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    # Larger objects are kept in files, so memory stays bounded.
    os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", "65536")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each such object is an open file
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # its parent stops it last
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    from moto.moto_server import werkzeug_app
    from moto.moto_server.utilities import RegexConverter
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    class AnyCharacter(RegexConverter):
        """Matches keys with a newline, which the dot in the server's pattern does not match."""

        def __init__(self, url_map: object, *items: str) -> None:
            super().__init__(url_map, *(item.replace(".+", r"[\s\S]+") for item in items))

    werkzeug_app.RegexConverter = AnyCharacter  # type: ignore[attr-defined]
    remember_services()
    # moto checks for an object and then writes it, so it may accept two first writes from two threads.
    S3Response.put_object = one_at_a_time(S3Response.put_object)  # type: ignore[method-assign]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    os._exit(0)  # don't wait for threads that still serve a long poll


def remember_services() -> None:
    """moto lists the folders of its package at each request, to find a host's service: a third of its time."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    found = lru_cache(maxsize=1000)(DomainDispatcherApplication.get_backend_for_host)
    DomainDispatcherApplication.get_backend_for_host = found  # type: ignore[method-assign]


def one_at_a_time(call: Callable[P, T]) -> Callable[P, T]:
    alone = threading.RLock()

    @wraps(call)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        with alone:
            return call(*args, **kwargs)

    return waiting


if __name__ == "__main__":
    main()
