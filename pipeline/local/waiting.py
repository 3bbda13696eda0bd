"""The state of an uploaded file until it is finished."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.routes import Route


@dataclass(slots=True)
class Waiting:
    """An uploaded file that is not finished yet."""

    size: int  # bytes
    etag: str
    route: Route | None  # None: a rule for its content failed, and a worker retries
    arrived: dict[str, str] = field(default_factory=dict)  # names of outputs, by folder

    @property
    def missing(self) -> list[str]:
        """Folders of the outputs that have not arrived."""
        outputs = () if self.route is None else self.route.outputs
        return [output.folder for output in outputs if output.folder not in self.arrived]

    @property
    def is_complete(self) -> bool:
        return self.route is not None and not self.missing
