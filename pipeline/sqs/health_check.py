"""The containers' health check: ``python -SI …/health_check.py worker``, for a few milliseconds of CPU.

``python -m pipeline health`` needs a quarter of a second of CPU for its imports. In a container where eight processes
share a quarter of a vCPU, that takes ten seconds, and ECS would kill a busy worker. So this script imports no other
module of the project, nor ``site``.

Exit status: 0 healthy, 1 not. Roles: ``worker``, ``bridge``, ``flower``.
"""

import os
import sys
import time

#: Used if the file lacks HEALTH_STALE_S, since its process was killed while it wrote the file.
STALE_S = 45.0
FLOWER = ("127.0.0.1", 5555)
FLOWER_PATIENCE_S = 15.0


def age_and_limit_s(path: str) -> tuple[float, float]:
    """Seconds since the process's last progress, and how many are allowed. Raises ``FileNotFoundError``."""
    with open(path, encoding="ascii") as file:
        words = file.read().split()
        age_s = max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
    try:
        return age_s, float(words[1])
    except (IndexError, ValueError):
        return age_s, STALE_S


def heartbeat_problem(path: str) -> str | None:
    """What is wrong with the heartbeat file, or None."""
    try:
        age_s, limit_s = age_and_limit_s(path)
    except FileNotFoundError:
        return f"there is no {path}: not running, or not yet"
    return f"no progress for {age_s:.0f} s" if age_s > limit_s else None


def flower_problem(address: tuple[str, int]) -> str | None:
    """Requests Flower's own health page, which needs no login; returns what is wrong, or None."""
    import socket

    try:
        with socket.create_connection(address, FLOWER_PATIENCE_S) as connection:
            connection.sendall(b"GET /healthcheck HTTP/1.0\r\n\r\n")
            status = connection.recv(64).split(b"\r\n", 1)[0]
    except OSError as exc:
        return f"no answer: {exc}"
    return None if b" 200 " in status else f"it answers {status!r}"


def main(role: str) -> int:
    if role == "flower":
        problem = flower_problem(FLOWER)
    else:
        folder = os.environ.get("HEALTH_FOLDER") or "/tmp"  # noqa: S108 - as the setting
        problem = heartbeat_problem(os.path.join(folder, f"pipeline-{role}.heartbeat"))
    if problem is not None:
        print(f"{role}: {problem}")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
