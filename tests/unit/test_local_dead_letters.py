import json

import pytest

from pipeline.local.run import _keys_in
from tests.unit.test_s3_event import s3_record


def test_a_dead_event_and_a_dead_task_name_their_files() -> None:
    assert _keys_in(json.dumps({"Records": [s3_record("a b+ü.jpg")]})) == ["a b+ü.jpg"]
    assert _keys_in(json.dumps({"headers": {"argsrepr": "local-input/a b.jpg"}})) == ["a b.jpg"]


@pytest.mark.parametrize("body", ["not JSON", "[]", "{}", '{"headers": null}', '{"headers": {"argsrepr": null}}'])
def test_anything_else_is_about_no_file(body: str) -> None:
    assert _keys_in(body) == []
