"""The built wheel, installed into an empty folder and run from another: it has all that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.stack import Emulator
from tests.support.aws_process import AwsServer
from tests.support.stage import aws_server
from tests.support.waiting import text_of, wait_until
from tests.support.worker import Worker

__all__ = ["aws_server"]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
PACKAGES = ("pipeline", "tasks", "bridge")
COMMAND = "batch-image-pipeline"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the installed wheel. What it depends on is the tests' own; nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "cloudformation"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("install", "--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(source))  # by a wheel
    yield folder / "site"
    shutil.rmtree(folder)


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    done = subprocess.run([*command, "--no-index"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(site: Path, folder: Path, *command: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status and all that is printed by Python with these arguments, in another folder."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**(os.environ if environ is None else environ), "PYTHONPATH": str(site), "TMPDIR": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout


def test_every_package_is_in_the_wheel(installed: Path) -> None:
    wanted = {path.relative_to(ROOT) for name in PACKAGES for path in ROOT.joinpath(name).rglob("*.py")}
    assert {path for path in wanted if not installed.joinpath(path).exists()} == set()


def test_what_is_not_python_is_in_it_too(installed: Path) -> None:
    ours = (path for name in PACKAGES for path in ROOT.joinpath(name).rglob("*.*"))
    other = {path.relative_to(ROOT) for path in ours if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert {path for path in other if not installed.joinpath(path).exists()} == set()
    templates = {path.name for path in ROOT.joinpath("cloudformation").iterdir()}
    assert {path.name for path in installed.joinpath("pipeline", "deploy", "templates").iterdir()} == templates


def test_the_console_command(installed: Path, tmp_path: Path) -> None:
    status, shown = run(installed, tmp_path, str(installed / "bin" / COMMAND), "--version")
    assert (status, shown.strip()) == (0, PROJECT["project"]["version"])
    status, shown = run(installed, tmp_path, "-m", "pipeline", "settings")
    assert status == 0
    assert "| `INPUT_BUCKET` |" in shown


def test_deploy_has_its_template(installed: Path, tmp_path: Path, emulator: Emulator) -> None:
    deploy = ("-m", "pipeline", "deploy", "--stack", "wheel", "--image", "registry/image:1", "--dry-run", "--unchecked")
    status, shown = run(installed, tmp_path, *deploy, environ=emulator.environ())
    assert status == 0, shown
    assert "WorkerService" in shown


def test_a_photo_goes_through_the_installed_pipeline(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "samples" / "rocket.jpg", tmp_path)
    status, shown = run(installed, tmp_path, "-m", "pipeline", "local", "rocket.jpg", "--out", "out")
    assert status == 0, shown
    assert tmp_path.joinpath("out", "thumbs", "rocket.jpg").exists(), shown


def test_local_without_its_extra_names_the_extra(installed: Path, tmp_path: Path) -> None:
    missing = "import sys; sys.modules.update(jinja2=None, moto=None)"
    code = f"{missing}; sys.argv = ['{COMMAND}', 'local', '.']; from pipeline.__main__ import main; main()"
    status, shown = run(installed, tmp_path, "-c", code)
    assert status == 1, shown
    assert f"{COMMAND}[local]" in shown


def test_the_shop_runs_from_the_wheel_alone(installed: Path, tmp_path: Path, aws_server: AwsServer) -> None:
    """In an environment of its own, which has the wheel, and what the tests have of others."""
    home, shop = tmp_path / "env", tmp_path / "shop"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    site.joinpath("packages.pth").write_text(f"{installed}\n{sysconfig.get_path('purelib')}\n")
    shutil.copytree(ROOT / "examples" / "shop", shop, ignore=shutil.ignore_patterns("__pycache__"))
    for queue in ("orders", "mails"):
        aws_server.make_queue(f"wheel-{queue}")
    python = str(home / "bin" / "python")
    env = {"SHOP_PREFIX": "wheel-", "SHOP_POLL_WAIT_S": "1", "PYTHONPATH": ""}
    with Worker(aws_server, shop, "-c", "1", app="tasks", env=env, cwd=shop, python=python) as worker:
        worker.wait_ready()
        done = subprocess.run(
            [python, "-c", "import pipeline, tasks; tasks.order.delay(1); print(pipeline.__file__, tasks.__file__)"],
            cwd=shop,
            env={**os.environ, **aws_server.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout.split() == [str(installed / "pipeline" / "__init__.py"), str(shop / "tasks.py")], done.stderr
        wait_until(lambda: "mail: order 1 is on its way" in text_of(shop / "books.txt"), "the order and its mail")
        worker.send_signal()
        assert worker.wait_exit() == 0
