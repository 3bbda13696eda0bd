"""Keys of any legal length go the whole way: renditions, a failure record, and their removal with the object."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.core.names import failure_key, stored_name
from pipeline.core.provenance import Provenance
from pipeline.core.source import MAX_KEY_BYTES
from pipeline.testing.model import PipelineModel
from tests.support.objects import PICTURES

KEYS = [
    *("k" * (size - 4) + ".png" for size in (1012, 1013, 1016, 1017, 1018, MAX_KEY_BYTES)),
    "日" * 340 + ".png",
    "d/" * 510 + ".png",
    "t" * 1015 + ".tif",  # its renditions' names gain an ending
    "~sha256-" + "0" * 64 + ".png",
]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineModel]:
    made = PipelineModel(monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key[:2]}{len(key.encode())}")
def test_an_object_of_a_long_key_fails_is_done_and_is_removed_as_any_other(model: PipelineModel, key: str) -> None:
    model.upload(key, PICTURES["text"])
    model.settle()
    assert set(model.stored()) == {failure_key(key)}
    ending = ".jpg" if key.endswith(".tif") else ""
    wanted = {stored_name(folder, key, ending) for folder in ("resized/", "thumbs/")}
    model.clock += 61  # the bridge lists the records once a minute
    model.upload(key, PICTURES["scan" if ending else "red"])
    model.settle()
    assert set(model.stored()) == wanted
    for name, version in model.stored().items():
        assert Provenance.read(version.metadata).key == (None if key in name else key)
    model.delete(key)
    model.settle()
    assert model.stored() == {}
