"""The results of a run's files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: Minimum pixels of the longer side of a picture on the contact sheet.
PREVIEW_PX = 128


class FileState(Enum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One stored output and its path below the output folder. ``size``: in pixels, (0, 0) if it is not a picture."""

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
    """The result of one file. Failed and skipped files have a ``reason``, failed ones also ``advice``."""

    key: str
    state: FileState
    reason: str = ""
    advice: str = ""
    source_size: str = ""  # pixels, "4000x3000"; of images
    source_bytes: int = 0
    salvaged: str = ""  # the damage of a file whose picture was complete
    outputs: tuple[OutputFile, ...] = ()

    @property
    def largest(self) -> OutputFile | None:
        """The picture with the most pixels, if there is one."""
        pictures = (output for output in self.outputs if output.is_picture)
        return max(pictures, key=lambda output: output.size[0] * output.size[1], default=None)

    @property
    def preview(self) -> OutputFile | None:
        """The smallest picture that is large enough for the contact sheet."""
        seen = (output for output in self.outputs if output.is_picture and max(output.size) >= PREVIEW_PX)
        return min(seen, key=lambda output: output.size[0] * output.size[1], default=self.largest)
