"""A program that starts from what is imported already is told nothing of that, and ends as it would have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.aws_process import ROOT
from tests.support.processes import marked
from tests.support.waiting import wait_until
from tests.support.warm_start import WarmStart

PROGRAM = """
import json, os, sys
print("read", sys.stdin.read(), file=sys.stderr)
print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), __name__, sys.path[0]]))
raise SystemExit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("status", [0, 3])
def test_a_program_is_the_same_as_ever(warm_start: WarmStart, tmp_path: Path, status: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environ = os.environ | {"ITS_OWN": "ü"}
    words = ["-m", "program", str(status), "a b"]
    warm, cold = (
        subprocess.run(
            [*command, *words], cwd=tmp_path, env=environ, input="ü?", capture_output=True, text=True, check=False
        )
        for command in (warm_start.command, [sys.executable])
    )
    assert (warm.returncode, warm.stderr) == (cold.returncode, cold.stderr) == (status, "read ü?\n")
    assert json.loads(warm.stdout) == json.loads(cold.stdout)


def test_it_ends_with_the_one_who_asked_for_it(warm_start: WarmStart, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(
        "import subprocess, sys\nprint('up', flush=True)\n"
        "subprocess.Popen([sys.executable, '-c', 'input()', 'of-endless'], stdin=subprocess.PIPE).wait()"
    )
    mark = os.environ["PIPELINE_TEST_OWNER"]
    with subprocess.Popen([*warm_start.command, "-m", "endless"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    wait_until(lambda: not any("of-endless" in line for line in marked(mark)), "nothing is left of it")


def test_the_process_ends_with_the_tests_that_were_killed() -> None:
    code = "import os\nfrom tests.support.warm_start import WarmStart\nWarmStart().__enter__()\nos._exit(9)"
    mark = os.environ["PIPELINE_TEST_OWNER"]
    before = sum("warm_start.py serve" in line for line in marked(mark))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 9
    wait_until(lambda: sum("warm_start.py serve" in line for line in marked(mark)) == before, "nothing is left of it")
