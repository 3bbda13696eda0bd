from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.aws_process import AwsServer
from tests.support.stage import Stage, aws_server, made_stage, stage

__all__ = ["aws_server", "stage"]


@pytest.fixture
def short_stage(aws_server: AwsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """With a visibility of two seconds, for messages that are lost on the way."""
    with made_stage(aws_server, tmp_path, monkeypatch, visibility_s=2) as made:
        yield made
