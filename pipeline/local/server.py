"""The emulator's process: prints its address on one line, and ends when its standard input does.

So it never outlives the process that started it, however that one ended.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    # Objects above this many bytes are kept in files, so memory stays bounded.
    os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", "65536")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each such object is an open file
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # its parent ends it, last
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    from moto.moto_server import werkzeug_app
    from moto.moto_server.utilities import RegexConverter
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    class AnyCharacter(RegexConverter):
        """Takes keys that contain a newline, which the dot of the server's pattern does not match."""

        def __init__(self, url_map: object, *items: str) -> None:
            super().__init__(url_map, *(item.replace(".+", r"[\s\S]+") for item in items))

    werkzeug_app.RegexConverter = AnyCharacter  # type: ignore[attr-defined]
    # moto looks whether an object is there, and then writes it: of two first writes in two threads it may take both.
    S3Response.put_object = one_at_a_time(S3Response.put_object)  # type: ignore[method-assign]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    os._exit(0)  # request threads that still serve a long poll are not worth waiting for


def one_at_a_time(call: Callable[P, T]) -> Callable[P, T]:
    alone = threading.RLock()

    @wraps(call)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        with alone:
            return call(*args, **kwargs)

    return waiting


if __name__ == "__main__":
    main()
