"""What CloudFormation is sent of a template: all but its comments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.deploy.compact import MAX_BYTES, compacted
from pipeline.deploy.wanted import read_template
from tests.stack.template import FOLDER, parse

TEMPLATES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.name))
def test_a_template_says_the_same_without_its_comments(path: Path) -> None:
    sent = read_template(path)
    assert parse(sent) == parse(path.read_text(encoding="utf-8"))
    assert len(sent.encode()) <= MAX_BYTES
    assert not [line for line in sent.splitlines() if line.lstrip().startswith("#")]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("a: 1 # one\n\n# two\nb: 2", "a: 1\nb: 2\n"),
        ('a: "x # y" # z', 'a: "x # y"\n'),
        ("a: {b: 'it''s # y', c: d#e} # z", "a: {b: 'it''s # y', c: d#e}\n"),
        ("a: don't # z", "a: don't\n"),
        ("x: {a: {a ': ''}, b: ' # y'} # z", "x: {a: {a ': ''}, b: ' # y'}\n"),
        ('- !Sub "x # y" # z', '- !Sub "x # y"\n'),
        ("a: it is 'so # z", "a: it is 'so\n"),
        (r'a: "\" # y"', 'a: "\\" # y"\n'),
        (
            "a: # z\n  b: |\n    # text\n\n    more # text\n  c: 1 # z",
            "a:\n b: |\n    # text\n\n    more # text\n c: 1\n",
        ),
        ("a:\n    - - b: 1\n        c:\n            - 2\n    - d: 3", "a:\n - - b: 1\n     c:\n      - 2\n - d: 3\n"),
        ("a:\n  b: |2\n     text\n", "a:\n  b: |2\n     text\n"),
        ('{"a": "x # y"}', '{"a": "x # y"}'),
    ],
)
def test_comments_and_indentation_go_and_what_looks_like_them_stays(written: str, sent: str) -> None:
    assert compacted(written) == sent
    assert parse(sent) == parse(written)


VALUES = st.recursive(
    st.text("ab'\"# \\:,{}|>", max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab# '", min_size=1, max_size=4), inner),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text("ab", min_size=1), VALUES, min_size=1), flow=st.sampled_from([True, False, None]))
def test_no_value_is_lost_however_it_is_written(value: dict[str, object], flow: bool | None) -> None:
    # In one line each, as a quoted scalar that goes on in the next line is in none of the templates.
    written = yaml.safe_dump(value, default_flow_style=flow, width=1_000_000)
    commented = "".join(f"# before\n{line}\n" for line in written.splitlines())
    assert yaml.safe_load(compacted(commented)) == value


def test_a_template_that_is_too_large_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "own.yaml"
    template.write_text(f"# {'-' * 100}\nDescription: {'x' * 60}\n")
    monkeypatch.setattr("pipeline.deploy.wanted.MAX_BYTES", 75)
    assert len(read_template(template)) == 74
    template.write_text(f"Description: {'x' * 63}\n")
    with pytest.raises(PipelineError, match="77 bytes without its comments, and CloudFormation takes 75"):
        read_template(template)
