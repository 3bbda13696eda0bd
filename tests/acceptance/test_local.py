"""The real command, as a person types it: `python -m pipeline local …`."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from threading import Timer
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen

import boto3
import pytest
from PIL import Image

from tests.support.processes import marked
from tests.support.waiting import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"


@dataclass
class Command:
    """Starts the command with a mark in its environment, which everything that it starts inherits."""

    folder: Path
    mark: str

    def start(self, *arguments: object, **more: str) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if name not in ("OUTPUT_BUCKET", "INPUT_BUCKET")}
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "local", *map(str, arguments)],
            cwd=ROOT,
            env=environ | {"PIPELINE_TEST_MARK": self.mark} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, **more: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out, err


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    mark = uuid.uuid4().hex
    yield Command(tmp_path, mark)
    assert marked(mark) == [], "processes were left behind"


class Links(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.pictures: list[tuple[str, str]] = []  # resized, thumb
        self.targets: list[str] = []
        self._href = ""
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self._href = unquote(str(found["href"]))
            self.targets.append(self._href)
        if tag == "img":
            self.pictures.append((self._href, unquote(str(found["src"]))))

    def handle_data(self, data: str) -> None:
        self.text += data


def keys(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def picture(colour: tuple[int, int, int] = (200, 30, 40), size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


def test_the_bundled_photos(command: Command) -> None:
    out = command.folder / "out"
    status, printed, err = command.run(SAMPLES, "--out", out)
    assert (status, err) == (1, ""), printed  # one of them is broken on purpose
    assert "10 files in" in printed
    assert "8 done, 1 failed, 1 skipped" in printed
    assert "failed: broken-upload.jpg: The JPEG data ends early" in printed

    links = Links((out / "index.html").read_text())
    assert len(links.pictures) == 8
    assert sorted(path for pair in links.pictures for path in pair) == [key for key in keys(out) if key != "index.html"]
    assert "broken-upload.jpg" in links.text
    assert "upload the file again" in links.text
    for resized, thumb in links.pictures:
        original = resized.removeprefix("resized/").replace(".tiff.jpg", ".tiff")
        with (
            Image.open(SAMPLES / original) as before,
            Image.open(out / resized) as big,
            Image.open(out / thumb) as small,
        ):
            for image in (big, small):
                image.load()
                assert not image.getexif(), "metadata was not stripped"
            shown = before.size[::-1] if before.getexif().get(0x0112, 1) >= 5 else before.size
            assert big.size == fitted(shown, (1024, 768))
            assert small.size == fitted(big.size, (192, 192))
            assert big.format == small.format == ("JPEG" if before.format == "TIFF" else before.format)


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    scale = min(1, box[0] / size[0], box[1] / size[1])
    return round(size[0] * scale), round(size[1] * scale)


def test_photos_under_awkward_and_long_names_in_nested_folders_are_all_accounted_for(command: Command) -> None:
    photos, out = command.folder / "photos", command.folder / "out"
    names = ["a b", "a+b", "100%", "100%25", "ünï", "日本", "q?x=1&y", "#1", "'quote\"", "line\nbreak", "..dots", "[1]"]
    wanted = []
    for n in range(36):
        path = photos / f"{n % 7}" / names[n % 5] / f"{names[n % len(names)]} {n}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture((n % 256, 99, 99)))
        wanted.append(path.relative_to(photos).as_posix())
    long = "/".join(["d" * 250] * 4)
    good, bad = (photos / long / f"{name}.png" for name in ("a" * 9, "b" * 9))  # 1,017 bytes: with a folder, too long
    for path, data in ((good, picture((9, 9, 9))), (bad, b"no picture")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    status, printed, err = command.run(photos, "--out", out)
    assert (status, err) == (1, ""), printed
    assert "37 done, 1 failed, 0 skipped" in printed
    shown = Links((out / "index.html").read_text()).pictures
    assert len(shown) == 37
    (long_one,) = (pair for pair in shown if "~sha256-" in pair[0])
    assert all((out / path).is_file() for path in long_one)
    for folder in ("resized", "thumbs"):
        assert len(keys(out / folder)) == 37
        assert set(wanted) < set(keys(out / folder))


def test_ctrl_c_stops_everything(command: Command) -> None:
    photos = command.folder / "photos"
    photos.mkdir()
    for n in range(200):
        (photos / f"{n}.jpg").write_bytes(picture())
    process = command.start(photos, "--out", command.folder / "out")
    wait_until(lambda: keys(command.folder / "out"), "the first rendition")
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (130, "Stopped.\n")
    done = re.search(r"(\d+) files in .* (\d+) done, 0 failed, 0 skipped", printed)
    assert done is not None, printed
    assert f"{200 - int(done[1])} files had not ended" in printed
    assert len(Links((command.folder / "out" / "index.html").read_text()).pictures) == int(done[2])


def use(page: str, setting: str) -> None:
    """As the button of the live page: makes all files again by a value of RENDITIONS, when nothing else is to do."""

    def is_taken() -> bool:
        request = Request(
            page + "use",
            json.dumps({"setting": setting}).encode(),
            {"Content-Type": "application/json", "Origin": page.rsplit("/", 2)[0]},
        )
        try:
            with urlopen(request, timeout=DEADLINE_S):
                return True
        except HTTPError as exc:
            with exc:
                said = exc.read().decode()
            if "busy" not in said:
                raise AssertionError(said) from exc
            return False

    wait_until(is_taken, "the run takes the setting")


def test_keep_takes_more_files_until_it_is_stopped(command: Command) -> None:
    first, out = command.folder / "first.jpg", command.folder / "out"
    first.write_bytes(picture())
    process = command.start(first, "--out", out, "--keep")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    live = next(match[1] for line in lines if (match := re.search(r"live: (\S+)", line)))
    variables = Path(next(match[1] for line in lines if (match := re.search(r"source (\S+)`", line)))).read_text()
    endpoint = re.search(r"AWS_ENDPOINT_URL=(\S+)", variables)
    assert endpoint is not None
    for key in ("x/../../../evil.jpg", "later ü.jpg"):
        boto3.client("s3", endpoint_url=endpoint[1]).put_object(Bucket="local-input", Key=key, Body=picture())
    assert "done: later ü.jpg\n" in lines
    use(live, "resized=32x32, thumbs=16x16:webp")
    # The lines of the first round may be told twice, so the files tell when the second one is over.
    wait_until(lambda: keys(out / "thumbs") == ["first.jpg.webp", "later ü.jpg.webp"], "all are made again")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert err == ""
    assert list(command.folder.rglob("*evil*")) == []  # it would be outside of the output folder
    with Image.open(out / "resized" / "first.jpg") as shown:
        assert shown.size == (32, 24)
    assert len(Links((out / "index.html").read_text()).pictures) == 2


def test_bad_files_are_named_with_their_reason_and_the_others_are_done(command: Command) -> None:
    photos = command.folder / "photos"
    photos.mkdir()
    (photos / "good.jpg").write_bytes(picture())
    (photos / "text.jpg").write_text("I am no picture")
    (photos / "empty.png").write_bytes(b"")
    (photos / "dangling.jpg").symlink_to(photos / "nowhere")
    (photos / "notes.txt").write_text("skip me")
    os.mkfifo(photos / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(photos) + b"/latin-\xe9.jpg")).write_bytes(picture())
    status, printed, err = command.run(photos, "--out", command.folder / "out")
    assert (status, err) == (1, "")
    assert "7 files in" in printed
    assert "1 done, 5 failed, 1 skipped" in printed
    assert "skipped: 1 file, for example notes.txt: its key ends in none of SUFFIXES" in printed
    assert "failed: dangling.jpg: it is a link to a file that does not exist" in printed
    assert "failed: pipe.jpg: it is not a regular file" in printed
    assert "failed: latin-\ufffd.jpg: its name is not UTF-8" in printed
    assert re.search(r"failed: text\.jpg: .*format", printed)
    assert re.search(r"failed: empty\.png: ", printed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing"], "missing: no such file or folder"),
        (["empty"], "empty: there are no files in it"),
        (["photo.jpg", "--out", "photo.jpg/out"], "photo.jpg/out: cannot be written: Not a directory"),
        (["one/photo.jpg", "photo.jpg"], "both want the key photo.jpg"),
    ],
)
def test_bad_arguments_are_one_clear_line(command: Command, arguments: list[str], says: str) -> None:
    (command.folder / "empty").mkdir()
    (command.folder / "one").mkdir()
    for name in ("photo.jpg", "one/photo.jpg"):
        (command.folder / name).write_bytes(picture())
    arguments = [name if name.startswith("--") else str(command.folder / name) for name in arguments]
    status, _, err = command.run(*arguments, *([] if "--out" in arguments else ["--out", command.folder / "out"]))
    assert status == 1
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_full_output_disk_is_one_clear_line(command: Command) -> None:
    photo, out = command.folder / "photo.jpg", command.folder / "out"
    photo.write_bytes(picture())
    (out / "thumbs").mkdir(parents=True)
    (out / "thumbs" / "photo.jpg").symlink_to("/dev/full")  # every write there ends with "no space left"
    status, _, err = command.run(photo, "--out", out)
    assert status == 1
    assert err == f"Error: {out / 'thumbs' / 'photo.jpg'}: cannot be written: No space left on device\n"


def test_an_output_that_no_task_writes_is_told_and_nothing_waits_for_it(command: Command) -> None:
    files = command.folder / "files"
    files.mkdir()
    (files / "long.half").write_bytes(b"long")
    (files / "short.half").write_bytes(b"-")
    (files / "photo.jpg").write_bytes(picture())
    status, printed, err = command.run(
        files, "--out", command.folder / "out", ROUTES="tests.support.unwritten,pipeline.images"
    )
    assert (status, err) == (1, ""), printed
    assert "1 done, 1 failed, 1 skipped" in printed
    assert "failed: long.half: all tasks of the route half have ended, and forgotten/ was not written" in printed


def test_every_rendition_that_is_declared_is_on_the_contact_sheet(command: Command) -> None:
    files = command.folder / "files"
    files.mkdir()
    (files / "photo ü.jpg").write_bytes(picture(size=(1200, 900)))
    (files / "scan.tiff").write_bytes(picture(size=(400, 300)))
    renditions = "resized=1024x768, thumbs=192x192:cover, medium=640x480:webp:q80, large@2x=1100x, tiny<thumbs=32x32"
    status, printed, err = command.run(files, "--out", command.folder / "out", RENDITIONS=renditions)
    assert (status, err) == (0, ""), printed
    links = Links((command.folder / "out" / "index.html").read_text())
    assert links.pictures == [
        ("large@2x/photo ü.jpg", "thumbs/photo ü.jpg"),
        ("large@2x/scan.tiff.jpg", "thumbs/scan.tiff.jpg"),
    ]
    stored = {
        f"{name}/{key}"
        for name in ("large@2x", "resized", "thumbs", "tiny")
        for key in ("photo ü.jpg", "scan.tiff.jpg")
    }
    stored |= {"medium/photo ü.jpg.webp", "medium/scan.tiff.webp"}
    assert set(links.targets) == stored == set(keys(command.folder / "out")) - {"index.html"}
    for text in ("1100 × 825", "1024 × 768", "640 × 480", "192 × 192", "32 × 32"):
        assert text in links.text


def test_watch_processes_what_comes_changes_and_goes(command: Command) -> None:
    photos, out = command.folder / "photos", command.folder / "out"
    (photos / "sub").mkdir(parents=True)
    (photos / "first.jpg").write_bytes(picture())
    os.utime(photos / "first.jpg", (1e9, 1e9))  # complete, so it is done before the watching begins
    process = command.start(photos, "--out", out, "--watch")
    too_late = Timer(DEADLINE_S, process.kill)  # else a line that does not come is waited for without end
    too_late.daemon = True
    too_late.start()
    assert process.stdout is not None
    lines, seen = iter(process.stdout.readline, ""), []

    def see(line: str) -> None:
        for each in lines:
            seen.append(each)
            if each.startswith(line):
                return
        raise AssertionError(f"{line!r} is not in {seen}")

    see("Watching for new, changed and removed files.")
    half = picture(size=(640, 480))
    with (photos / "sub" / "ü.jpg").open("wb") as writing:
        writing.write(half[:200])
        writing.flush()
        (photos / "first.jpg").unlink()
        see("removed: first.jpg")  # seen in later lists than the half file, which has been waited for, or has failed
        writing.write(half[200:])
    see("done: sub/ü.jpg")
    (photos / "later").write_bytes(picture((1, 2, 3)))
    os.replace(photos / "later", photos / "sub" / "ü.jpg")
    see("done: sub/ü.jpg")
    (photos / "notes.txt").write_text("no picture")
    see("skipped: notes.txt")
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate(timeout=DEADLINE_S)
    too_late.cancel()
    assert (process.returncode, err) == (0, ""), printed
    assert re.search(r"2 files in .*: 1 done, 0 failed, 1 skipped", printed)
    assert seen.count("done: sub/ü.jpg\n") == 2, seen
    assert keys(out) == ["index.html", "resized/sub/ü.jpg", "thumbs/sub/ü.jpg"]
    with Image.open(out / "resized" / "sub" / "ü.jpg") as shown:
        assert shown.size == (64, 48)
    assert len(Links((out / "index.html").read_text()).pictures) == 1
