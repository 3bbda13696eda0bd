"""Which files of a watched folder are whole, changed or gone. No test waits: each has its own clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.local.files import File
from pipeline.local.watch import SETTLE_S, Settling, Stamp, Watch

#: Of the files' clock, which has nothing to do with the other one.
NOON = 1_700_000_000.0


class Folder:
    """A folder that is listed every half a settling time."""

    def __init__(self) -> None:
        self.stamps: dict[str, Stamp] = {}
        self._settling = Settling()
        self._now = 0.0

    def put(self, key: str, size: int, *, age_s: float = 0, inode: int = 1) -> None:
        modified_s = NOON + self._now - age_s
        self.stamps[key] = Stamp(size, int(modified_s * 1e9), inode)

    def look(self, times: int = 1) -> tuple[list[str], list[str]]:
        """Keys that are ready, and keys that are gone."""
        ready: list[str] = []
        gone: list[str] = []
        for _ in range(times):
            files = [File(Path(key), key) for key in self.stamps]
            found = self._settling.look(files, self.stamps, now=self._now, wall=NOON + self._now)
            ready += (file.key for file in found.ready)
            gone += found.gone
            self._now += SETTLE_S / 2
        return ready, gone


def test_a_file_that_grows_is_waited_for_and_then_ready_once() -> None:
    folder = Folder()
    for size in (0, 10, 20, 30):
        folder.put("a.jpg", size)
        assert folder.look() == ([], [])
    assert folder.look(4) == (["a.jpg"], [])


def test_a_file_that_grows_without_a_new_time_is_waited_for() -> None:
    """As on drives that write the time only at the end."""
    folder = Folder()
    folder.put("a.jpg", 1)
    first = folder.stamps["a.jpg"].modified_ns
    for size in (10, 20, 30):
        folder.stamps["a.jpg"] = Stamp(size, first + 10**12, 1)  # and the drive's clock is ahead
        assert folder.look() == ([], [])
    assert folder.look(4) == (["a.jpg"], [])


def test_a_file_that_is_renamed_into_place_is_ready_at_once() -> None:
    folder = Folder()
    folder.put("a.jpg", 10, age_s=3600)
    assert folder.look() == (["a.jpg"], [])
    folder.put("a.jpg", 10, age_s=3600, inode=2)  # another one with the same size, renamed over it
    assert folder.look(3) == (["a.jpg"], [])


def test_a_changed_file_is_ready_again() -> None:
    folder = Folder()
    folder.put("a.jpg", 10, age_s=3600)
    assert folder.look() == (["a.jpg"], [])
    folder.put("a.jpg", 10)
    assert folder.look() == ([], [])
    assert folder.look(3) == (["a.jpg"], [])


def test_a_removed_file_is_gone_once_and_may_come_back() -> None:
    folder = Folder()
    folder.put("a.jpg", 10, age_s=3600)
    folder.look()
    del folder.stamps["a.jpg"]
    assert folder.look(2) == ([], [])
    assert folder.look(3) == ([], ["a.jpg"])
    folder.put("a.jpg", 10, age_s=3600)
    assert folder.look() == (["a.jpg"], [])


def test_a_file_that_is_saved_by_deleting_it_first_is_not_gone() -> None:
    folder = Folder()
    folder.put("a.jpg", 10, age_s=3600)
    folder.look()
    del folder.stamps["a.jpg"]
    folder.look()
    folder.put("a.jpg", 11, inode=2)
    assert folder.look(4) == (["a.jpg"], [])


def test_a_part_of_a_file_that_was_never_whole_is_not_told_when_it_goes() -> None:
    folder = Folder()
    folder.put("a.jpg.part", 10)
    folder.look()
    del folder.stamps["a.jpg.part"]
    assert folder.look(4) == ([], [])


def test_sub_folders_are_watched_and_the_output_folder_is_not(tmp_path: Path) -> None:
    now = [0.0]
    watch = Watch([tmp_path], leave_out=tmp_path / "out", clock=lambda: now[0])
    assert watch.changes().ready == ()
    for name in ("a.jpg", "new/deep/b.jpg", "out/thumbs/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    assert watch.changes().ready == ()
    now[0] += SETTLE_S
    assert [file.key for file in watch.changes().ready] == ["a.jpg", "new/deep/b.jpg"]


def test_a_folder_that_is_not_there_any_more_says_nothing_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    now = [0.0]
    watch = Watch([folder], leave_out=tmp_path / "out", clock=lambda: now[0])
    watch.changes()
    now[0] += SETTLE_S
    folder.rmdir()
    with pytest.raises(PipelineError, match="no such file or folder"):
        watch.changes()
