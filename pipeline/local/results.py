"""What became of the files of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: Pixels of the longer side that a picture on the contact sheet should have.
PREVIEW_PX = 128


class FileState(Enum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One stored output: where it is below the output folder. ``size`` in pixels, (0, 0) of what is no picture."""

    path: str
    folder: str  # without its slash
    bytes: int
    content_type: str
    size: tuple[int, int] = (0, 0)

    @property
    def is_picture(self) -> bool:
        return self.content_type.startswith("image/")


@dataclass(frozen=True, slots=True)
class Gone:
    """An output, or a failure record, that the pipeline has removed. ``path``: its name in the output bucket."""

    path: str


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file. ``reason`` for what failed or was skipped, ``advice`` for what failed."""

    key: str
    state: FileState
    reason: str = ""
    advice: str = ""
    source_size: str = ""  # pixels, "4000x3000"; of images
    source_bytes: int = 0
    salvaged: str = ""  # what was wrong with a file whose picture was all there
    outputs: tuple[OutputFile, ...] = ()

    @property
    def largest(self) -> OutputFile | None:
        """The picture with the most pixels, if there is one."""
        pictures = (output for output in self.outputs if output.is_picture)
        return max(pictures, key=lambda output: output.size[0] * output.size[1], default=None)

    @property
    def preview(self) -> OutputFile | None:
        """The smallest picture that is large enough to be seen on the contact sheet."""
        seen = (output for output in self.outputs if output.is_picture and max(output.size) >= PREVIEW_PX)
        return min(seen, key=lambda output: output.size[0] * output.size[1], default=self.largest)
