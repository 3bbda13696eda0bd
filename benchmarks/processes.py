"""The cost of processes, from ``/proc`` (Linux): CPU seconds and memory of all processes of a session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one process, in bytes."""

    peak: int  # highest resident size since the process began
    proportional: int  # resident now; each shared page is divided among the processes that share it


def members(sessions: Iterable[int]) -> Iterator[tuple[int, list[str]]]:
    """The processes of these sessions: ids, with the fields of ``stat`` after the command."""
    wanted = {str(session) for session in sessions}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue  # the process has ended meanwhile
        fields = text.rpartition(")")[2].split()
        if fields[3] in wanted:
            yield int(folder.name), fields


def cpu_s(sessions: Iterable[int]) -> float:
    """Seconds of CPU, user and system, that these sessions have used, including ended children that were waited for."""
    return sum(sum(map(int, fields[11:15])) for _, fields in members(sessions)) / _TICKS_PER_S


def memory(session: int) -> dict[int, Memory]:
    """The memory of a session's processes, by process id."""
    found = {}
    for pid, _ in members([session]):
        try:
            peak = _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM")
            proportional = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
        except (OSError, StopIteration):
            continue  # the process has ended, or is ending
        found[pid] = Memory(peak, proportional)
    return found


def _kilobytes(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def restart_peaks(session: int) -> None:
    """Resets ``Memory.peak`` of a session's processes to what they use now."""
    for pid, _ in members([session]):
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
