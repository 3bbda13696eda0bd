"""The audit: finds exactly what was tampered with, in constant memory, with few requests."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.aws import clients
from pipeline.core.errors import NotReadable, ServiceUnavailable, TransientError
from pipeline.core.names import failure_key, stored_name
from pipeline.core.routes import Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.images import images as images_route
from pipeline.local.stack import INPUT_BUCKET, OUTPUT_BUCKET
from pipeline.operations.audit.audit import Audit, AuditReport, Repair
from pipeline.operations.audit.classify import Status
from pipeline.testing.s3 import S3Model, Version, error
from tests.support import own_route
from tests.support.queues import headers, take_all
from tests.support.synthetic import INPUT, OUTPUT, RECIPES, SETTINGS, Recipes, Synthetic, keys

OLD = Recipes("old", "old.old")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    made = Synthetic()
    monkeypatch.setattr("pipeline.aws.clients.s3", lambda: made.s3)
    return made


def audited(settings: Settings = SETTINGS, **options: Any) -> tuple[AuditReport, dict[Status, set[str]]]:
    """The report, and the keys by status (but for those that are done)."""
    with Audit(Routes.load(settings), INPUT, examples=10**6, **options) as run:
        report = run.run()
        for repair in Repair:
            assert len(list(run.repairs(repair))) == report.repairs[repair]
    found: dict[Status, set[str]] = {}
    for (status, _), examples in report.examples.items():
        found.setdefault(status, set()).update(examples)
    return report, found


LONG = [
    f"{n}/{letter * ((size - 6) // len(letter.encode()))}.jpg"
    for n, (letter, size) in enumerate(
        [("k", 1013), ("k", 1017), ("k", 1018), ("k", 1024), ("é", 1024), ("日", 1023), ("d/", 1024)]
    )
]


def test_objects_whose_names_are_too_long_for_s3_are_in_the_state_that_they_are_in(world: Synthetic) -> None:
    assert audited()[0].is_complete
    for key in ("a.jpg", *LONG):
        world.done(key)
    report, found = audited()
    assert (report.counts[Status.DONE], found) == (len(LONG) + 1, {})
    world.upload(LONG[0])  # newer
    for name in [name for name in world.s3.buckets[OUTPUT].existing() if name.startswith("resized/3/")]:
        world.delete(OUTPUT, name)
    world.fail(LONG[4])
    world.delete(OUTPUT, *(stored_name(folder, LONG[4]) for folder in ("resized/", "thumbs/")))
    world.delete(INPUT, LONG[5], LONG[6])
    report, found = audited()
    assert found == {
        Status.STALE: {LONG[0]},
        Status.MISSING: {LONG[3]},
        Status.FAILED: {LONG[4]},
        Status.ORPHANED: {LONG[5], LONG[6]},
    }


def test_a_record_of_another_bucket_s_object_says_nothing_of_this_one(world: Synthetic) -> None:
    world.done("a.jpg")
    made = {"source-bucket": "elsewhere", "reason": "unavailable"}
    world.s3.put(OUTPUT, failure_key("a.jpg"), b"{}", metadata=made)
    report, found = audited()
    assert (report.counts[Status.DONE], found) == (1, {})


def test_of_two_input_buckets_each_has_its_own_renditions(world: Synthetic) -> None:
    """Mutation: without a look at whose it is, what another bucket has is orphaned here, and its rendition ours."""
    both = SETTINGS.model_copy(update={"input_bucket": f"{INPUT},elsewhere"})
    world.done("mine.jpg")
    world.done("gone.jpg")
    world.delete(INPUT, "gone.jpg")
    for key in ("theirs.jpg", "same.jpg"):
        world.upload(key)
        world.wait(seconds=2)
        world.render(key, **{"source-bucket": "elsewhere"})
        world.wait(seconds=2)
    world.delete(INPUT, "theirs.jpg")
    world.s3.put(OUTPUT, failure_key("bad.jpg"), b"{}", metadata={"source-bucket": "elsewhere", "reason": "truncated"})
    report, found = audited(both)
    assert report.counts[Status.DONE] == 1
    assert found == {Status.ORPHANED: {"gone.jpg"}, Status.MISSING: {"same.jpg"}}
    world.fail("same.jpg", "name-taken")
    assert audited(both)[1] == {Status.ORPHANED: {"gone.jpg"}, Status.FAILED: {"same.jpg"}}


def test_thousands_of_objects_and_what_was_tampered_with(world: Synthetic) -> None:
    every = list(keys(4_000))
    assert len(set(every)) == 4_000
    for key in every:
        world.done(key)
    world.wait(days=2)
    pick = iter(every[37::53])
    wanted: dict[Status, set[str]] = {status: set() for status in Status}

    def some(count: int, status: Status) -> Iterator[str]:
        for _ in range(count):
            key = next(pick)
            wanted[status].add(key)
            yield key

    def outputs(key: str) -> list[str]:
        return [name for name in world.s3.buckets[OUTPUT].existing() if name.partition("/")[2].startswith(key)]

    for key in some(15, Status.MISSING):
        world.delete(OUTPUT, *outputs(key))
    for key in some(5, Status.MISSING):
        world.delete(OUTPUT, outputs(key)[0])
    for key in some(15, Status.STALE):
        world.upload(key)
    for key in some(15, Status.ORPHANED):
        world.delete(INPUT, key)
    for key in some(20, Status.FAILED):
        world.upload(key)
        world.delete(OUTPUT, *outputs(key))
        world.fail(key, "truncated" if key < "5" else "not-an-image")
    for key in some(5, Status.LEFTOVER):
        world.fail(key)
        world.wait(seconds=1)
    world.s3.put(INPUT, "notes.txt", b"")
    world.s3.requests.clear()

    report, found = audited()
    wanted[Status.SKIPPED] = {"notes.txt"}
    assert found == {status: keys_ for status, keys_ in wanted.items() if keys_}
    assert report.counts[Status.DONE] == 4_000 - 15 - 5 - 15 - 15 - 20
    assert {reason: count for (status, reason), count in report.reasons.items() if status is Status.FAILED}.keys() == {
        "truncated",
        "not-an-image",
    }
    assert report.requests == world.s3.requests  # what it says is what it did
    assert report.requests["ListObjectsV2"] == 3 * 4 + 1  # pages of a thousand
    assert report.requests["HeadObject"] < 400, "the listing alone should answer for what is in order"


def test_memory_does_not_grow_with_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(count: int) -> int:
        monkeypatch.setattr("pipeline.aws.clients.s3", lambda: Endless(count))
        tracemalloc.start()
        try:
            with Audit(Routes.load(SETTINGS), INPUT) as run:
                report = run.run()
            assert report.counts == {Status.DONE: count}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1_000)
    assert peak(5_000) < peak(2_000) * 1.2


class Endless(S3Model):
    """Buckets whose objects are made up page by page."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._world = Synthetic()
        self._world.done("sample.jpg")

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        n = int(Key.partition("/")[2].removesuffix(".jpg"))
        sample = self._world.s3.buckets[OUTPUT].current("thumbs/sample.jpg")
        assert sample is not None
        source = Version(f"v{n}", b"", f"e{n}")
        metadata = dict(sample.metadata) | {"source-etag": source.etag, "made-from": "r"}
        return {
            "ETag": '"t"',
            "ContentLength": 1,
            "LastModified": self._world.clock + timedelta(seconds=n),
            "Metadata": metadata,
        }

    def list_objects_v2(self, Bucket: str, Prefix: str = "", **more: Any) -> dict[str, Any]:  # noqa: N803
        if Prefix == "failed/":
            return {"IsTruncated": False}
        start = int(more.get("ContinuationToken", 0))
        later = {"": -10, "resized/": -5, "thumbs/": 0}[Prefix]
        contents = [
            {
                "Key": f"{Prefix}{n:09}.jpg",
                "ETag": '"r"' if Prefix == "resized/" else f'"e{n}"',
                "Size": 1,
                "LastModified": self._world.clock + timedelta(seconds=n + later),
            }
            for n in range(start, min(start + 1000, self._count))
        ]
        more_to_come = start + 1000 < self._count
        return {"Contents": contents, "IsTruncated": more_to_come, "NextContinuationToken": str(start + 1000)}


def test_a_changed_recipe_makes_everything_before_it_stale_and_nothing_after(world: Synthetic) -> None:
    for n in range(300):
        world.upload(f"{n % 7}/{n}.jpg")
        world.wait(seconds=2)
        world.render(f"{n % 7}/{n}.jpg", recipes=OLD if n < 150 else RECIPES)
        world.wait(minutes=30)
    report, found = audited()
    assert found == {Status.STALE: {f"{n % 7}/{n}.jpg" for n in range(150)}}
    assert not report.is_complete
    assert report.reasons[Status.STALE, "made by another recipe"] == 150


def test_a_thumbnail_of_another_recipe_alone_is_stale(world: Synthetic) -> None:
    other = Settings.from_env({"OUTPUT_BUCKET": OUTPUT, "THUMB_BOX": "64x64"})
    world.done("a.jpg")
    assert audited(other)[1] == {Status.STALE: {"a.jpg"}}


def test_one_by_one_finds_what_times_hide(world: Synthetic) -> None:
    for n in range(100):
        world.upload(f"{n}.jpg")
        world.wait(seconds=2)
        world.render(f"{n}.jpg", recipes=OLD if n == 50 else RECIPES)
    assert Status.STALE not in audited()[1]  # a recipe that was in use for seconds only
    report, found = audited(full=True)
    assert found == {Status.STALE: {"50.jpg"}}
    assert report.requests["HeadObject"] == 100


def test_the_same_second_is_no_order(world: Synthetic) -> None:
    """What the listing can't tell is looked at."""
    world.upload("a.jpg")
    world.render("a.jpg")
    world.upload("b.jpg")
    world.render("b.jpg", **{"source-etag": "another"})
    assert audited()[1] == {Status.STALE: {"b.jpg"}}


def test_the_same_bytes_uploaded_again_are_no_newer_version(world: Synthetic) -> None:
    world.done("a.jpg")
    source = world.s3.buckets[INPUT].current("a.jpg")
    assert source is not None
    world.s3.put(INPUT, "a.jpg", source.data or b"")
    assert audited()[1] == {}


def test_names_that_two_objects_want(world: Synthetic) -> None:
    world.done("a.heic")
    world.upload("a.heic.jpg")
    world.fail("a.heic.jpg", "name-taken")
    report, found = audited()
    assert found == {Status.FAILED: {"a.heic.jpg"}}
    assert report.counts[Status.DONE] == 1


def test_what_earlier_settings_left_under_another_name(world: Synthetic) -> None:
    world.done("a.png")
    webp = Settings.from_env({"OUTPUT_BUCKET": OUTPUT, "OUTPUT_FORMAT": "webp"})
    assert audited(webp)[1] == {Status.MISSING: {"a.png"}}
    world.render("a.png", recipes=Recipes.from_settings(webp), settings=webp)
    assert audited(webp)[1] == {Status.LEFTOVER: {"a.png"}}


def test_an_orphan_beside_an_object_with_a_similar_name(world: Synthetic) -> None:
    world.done("a.jpg")
    world.done("a.jpg.png")
    world.delete(INPUT, "a.jpg.png")
    assert audited()[1] == {Status.ORPHANED: {"a.jpg.png"}}


def test_an_orphan_is_named_after_the_object_that_it_was_made_of(world: Synthetic) -> None:
    world.done("a.tiff")
    world.delete(INPUT, "a.tiff")
    assert audited()[1] == {Status.ORPHANED: {"a.tiff"}}


def test_a_record_of_an_old_version_does_not_count(world: Synthetic) -> None:
    world.upload("a.jpg")
    world.fail("a.jpg")
    world.wait(seconds=5)
    world.upload("a.jpg")
    assert audited()[1] == {Status.MISSING: {"a.jpg"}}


def test_what_failed_without_the_files_fault_is_worth_another_try(world: Synthetic) -> None:
    for key, reason in (("file.jpg", "truncated"), ("permission.jpg", "refused"), ("service.jpg", "unavailable")):
        world.upload(key)
        world.fail(key, reason)
    with Audit(Routes.load(SETTINGS), INPUT) as run:
        assert run.run().is_complete
        assert [source.key for source in run.repairs(Repair.ENQUEUE)] == ["permission.jpg", "service.jpg"]
        assert list(run.repairs(Repair.REMOVE)) == []


def test_a_copy_of_a_rendition_is_an_upload_like_any_other(world: Synthetic) -> None:
    world.done("a.jpg")
    made = world.s3.buckets[OUTPUT].current("thumbs/a.jpg")
    assert made is not None
    world.s3.put(INPUT, "copy.jpg", made.data or b"", metadata=made.metadata)
    assert audited()[1] == {Status.MISSING: {"copy.jpg"}}


def test_one_bucket_for_both(world: Synthetic) -> None:
    both = SETTINGS.model_copy(update={"output_bucket": INPUT})
    world.done("a.jpg")
    for name, version in [(name, world.s3.buckets[OUTPUT].current(name)) for name in ("resized/a.jpg", "thumbs/a.jpg")]:
        assert version is not None
        world.s3.buckets[INPUT].push(name, replace(version))
    report, found = audited(both)
    assert found == {Status.SKIPPED: {"resized/a.jpg", "thumbs/a.jpg"}}
    assert report.counts[Status.DONE] == 1


def test_only_part_of_it(world: Synthetic) -> None:
    for key in ("a/1.jpg", "b/1.jpg"):
        world.upload(key)
    middle = world.wait(hours=1)
    world.upload("a/2.jpg")
    assert audited(prefix="a/")[1] == {Status.MISSING: {"a/1.jpg", "a/2.jpg"}}
    assert audited(before=middle)[1] == {Status.MISSING: {"a/1.jpg", "b/1.jpg"}}


# Routes of a user's own.

OWN = Settings.from_env({"INPUT_BUCKET": INPUT, "OUTPUT_BUCKET": OUTPUT, "ROUTES": own_route.NAMES})


def make_own(world: Synthetic, key: str, recipe: str = "u1") -> None:
    """Uploaded and done, in a few seconds."""
    source = Source(INPUT, key, etag=world.upload(key).etag)
    for output, by in ((own_route.UPPER, recipe), (own_route.LENGTH, own_route.LENGTH.recipe)):
        world.wait(seconds=1)
        world.rendition(output.folder, key, output.append_suffix, source, by, {})
    world.wait(seconds=1)


def test_a_thousand_objects_of_a_user_s_own_route_beside_images(world: Synthetic) -> None:
    for n in range(1000):
        world.done(f"{n}.png")
        make_own(world, f"{n}.own")
    world.wait(days=1)
    report, found = audited(OWN)
    assert (report.counts[Status.DONE], found) == (2000, {})
    assert report.requests["HeadObject"] < 20  # listings alone answer for almost all
    world.delete(OUTPUT, own_route.LENGTH.name("7.own"), *(o.name("8.own") for o in own_route.ROUTES[0].outputs))
    world.upload("9.own")
    world.delete(INPUT, "10.own")
    world.fail("11.own", "no-text")
    stray = Source(INPUT, "12.png", etag="0")
    world.rendition(own_route.UPPER.folder, "12.png", own_route.UPPER.append_suffix, stray, "u1", {})
    assert audited(OWN)[1] == {
        Status.MISSING: {"7.own", "8.own"},
        Status.STALE: {"9.own"},
        Status.ORPHANED: {"10.own"},
        Status.LEFTOVER: {"11.own", "12.png"},
    }


def test_what_can_t_be_looked_at_is_named_and_counted_and_the_others_go_on(world: Synthetic) -> None:
    """A rule for the content that raises, an object and a rendition that must not be read."""
    for n in range(40):
        world.done(f"{n:02}.jpg")
    for key in ("03.jpg", "31.jpg"):
        world.upload(key)
    for key in ("20.jpg", "30.jpg"):
        world.delete(OUTPUT, f"thumbs/{key}")
    raised = {
        "10.jpg": NotReadable("s3://in/10.jpg is archived, so it can't be read."),
        "11.jpg": NotReadable("s3://in/11.jpg is archived, so it can't be read."),
        "12.jpg": TransientError("could not read s3://in/12.jpg: not allowed"),
        "13.jpg": ValueError("a defect"),
    }

    def content(source: Source) -> bool:
        if source.key in raised:
            raise raised[source.key]
        return True

    def stop(operation: str, key: str) -> Any:
        if (operation, key) == ("HeadObject", "thumbs/31.jpg"):
            raise error("HeadObject", "403", 403)
        return nullcontext()

    world.s3.stop = stop
    images = images_route(SETTINGS)
    with Audit(Routes(SETTINGS, [replace(images, content=content)]), INPUT) as run:
        report = run.run()
    counted = {(status, reason): count for (status, reason), count in report.reasons.items() if reason}
    assert counted == {
        (Status.UNREADABLE, "archived"): 2,
        (Status.UNREADABLE, "unavailable"): 2,
        (Status.UNREADABLE, "internal-error"): 1,
        (Status.MISSING, "only a part of it: no thumbs/"): 2,
        (Status.STALE, "the object is newer"): 1,
    }
    assert report.examples[Status.UNREADABLE, "archived"] == ["10.jpg", "11.jpg"]
    assert report.errors["archived"] == f"{raised['10.jpg']} {NotReadable.advice}"
    assert "a rule for its content raised ValueError('a defect')" in report.errors["internal-error"]
    assert not report.is_complete


def test_a_service_that_fails_for_everybody_ends_the_audit(world: Synthetic) -> None:
    def content(source: Source) -> bool:
        raise ServiceUnavailable("S3 is away")

    world.done("a.jpg")
    images = images_route(SETTINGS)
    with (
        Audit(Routes(SETTINGS, [replace(images, content=content)]), INPUT) as run,
        pytest.raises(ServiceUnavailable, match="S3 is away"),
    ):
        run.run()


def test_outputs_by_an_earlier_recipe_of_a_user_s_own_are_all_found(world: Synthetic) -> None:
    for n in range(50):
        make_own(world, f"old {n}.own", recipe="u0")
    for n in range(50):
        make_own(world, f"new {n}.own")
    assert audited(OWN)[1] == {Status.STALE: {f"old {n}.own" for n in range(50)}}


# The command, against a server.


@pytest.fixture
def objects(stack: Settings) -> Settings:
    """One of each kind."""
    s3 = clients.s3()
    recipes = Recipes.from_settings(stack)

    def put(key: str, body: bytes = b"x") -> str:
        return s3.put_object(Bucket=INPUT_BUCKET, Key=key, Body=body)["ETag"].strip('"')

    def render(key: str, etag: str, made: Recipes = recipes) -> None:
        for prefix, recipe in (("resized/", made.resized), ("thumbs/", made.thumb)):
            metadata = {"source-bucket": INPUT_BUCKET, "source-etag": etag, "recipe": recipe}
            s3.put_object(Bucket=OUTPUT_BUCKET, Key=prefix + key, Body=b"r", Metadata=metadata)

    render("ü/done 1.jpg", put("ü/done 1.jpg"))
    put("missing.jpg")
    render("stale.jpg", put("stale.jpg"))
    put("stale.jpg", b"newer")
    render("recipe.jpg", put("recipe.jpg"), OLD)
    render("orphan.jpg", "e")
    etag = put("failed.jpg")
    s3.put_object(
        Bucket=OUTPUT_BUCKET,
        Key=failure_key("failed.jpg"),
        Body=b"{}",
        Metadata={"reason": "too-large", "source-etag": etag, "source-bucket": INPUT_BUCKET},
    )
    put("notes.txt")
    take_all("local-events")
    return stack


def invoke(*arguments: str, answer: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["audit", *arguments], input=answer)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("objects")
def test_the_command_counts_and_gives_examples() -> None:
    status, out, err = invoke()
    assert status == 1
    rows = {tuple(line.split("\t")[:3]): line.split("\t")[3] for line in out.splitlines()}
    assert rows["done", "1", "renditions of the current version, by the current recipe"] == ""
    assert rows["missing", "1", "no renditions, and no record of a failure"] == "missing.jpg"
    assert rows["stale", "1", "the object is newer"] == "stale.jpg"
    assert rows["stale", "1", "made by another recipe"] == "recipe.jpg"
    assert rows["orphaned", "1", "renditions or a record of an object that does not exist"] == "orphan.jpg"
    assert rows["failed", "1", "too-large"] == "failed.jpg"
    assert rows["skipped", "1", "its key ends in none of SUFFIXES"] == "notes.txt"
    assert "4 ListObjectsV2" in err


@pytest.mark.usefixtures("objects")
def test_the_command_for_programs() -> None:
    status, out, _ = invoke("--json")
    report = json.loads(out)
    assert status == 1
    assert report["complete"] is False
    assert report["counts"] == {
        "done": 1,
        "failed": 1,
        "missing": 1,
        "stale": 2,
        "orphaned": 1,
        "leftover": 0,
        "skipped": 1,
        "unreadable": 0,
    }
    assert report["reasons"]["failed"] == {"too-large": 1}
    assert report["requests"]["ListObjectsV2"] == 4


@pytest.mark.usefixtures("objects")
def test_repair_asks_first() -> None:
    status, _, err = invoke("--repair", answer="n\n")
    assert status == 1
    assert "To be enqueued: 3 objects, missing or stale" in err
    assert "Aborted" in err
    assert take_all("local-tasks") == []


@pytest.mark.usefixtures("objects")
def test_repair_enqueues_what_is_missing_or_stale_and_lets_orphans_be_removed() -> None:
    status, _, err = invoke("--repair", "--yes")
    assert status == 1
    assert "Enqueued: 4 tasks" in err
    found = sorted((headers(each)["task"], headers(each)["argsrepr"]) for each in take_all("local-tasks"))
    assert found == [
        ("tasks.reconcile", "local-input/orphan.jpg"),
        ("tasks.resize", "local-input/missing.jpg"),
        ("tasks.resize", "local-input/recipe.jpg"),
        ("tasks.resize", "local-input/stale.jpg"),
    ]


@pytest.mark.usefixtures("objects")
def test_all_in_order_is_status_0() -> None:
    assert invoke("s3://local-input/ü/")[0] == 0
    status, out, _ = invoke("s3://local-input/failed", "--json")
    assert (status, json.loads(out)["counts"]["failed"]) == (0, 1)  # accounted for


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "write s3://bucket or s3://bucket/prefix"),
        (["s3://nowhere"], "bucket nowhere does not exist"),
        (["--older-than", "soon"], "'soon' is not a time"),
    ],
)
def test_what_keeps_it_from_answering_is_status_2(arguments: list[str], says: str) -> None:
    status, out, err = invoke(*arguments)
    assert (status, out) == (2, "")
    *usage, told = err.splitlines()
    assert says in told
    assert [line.partition(" ")[0] for line in usage] in ([], ["Usage:", "Try", ""])  # of what was typed wrongly


def test_a_missing_permission_is_named(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied:
        def list_objects_v2(self, **_: object) -> None:
            raise error("ListObjectsV2", "AccessDenied", 403)

    monkeypatch.setattr("pipeline.aws.clients.s3", Denied)
    status, _, err = invoke()
    assert status == 2
    assert "need s3:ListBucket on bucket local-input" in err


def test_the_cost_that_the_manual_tells(world: Synthetic) -> None:
    """docs/operations.md: requests for a million objects follow from those for a thousand."""
    for n in range(1000):
        world.done(f"{n}.jpg")
    report, _ = audited()
    assert report.requests["ListObjectsV2"] == 4
    assert report.requests["HeadObject"] < 30
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    told = {int(figure.replace(",", "")) for figure in re.findall(r"([\d,]+) `ListObjectsV2`", manual)}
    assert told == {1000 * report.requests["ListObjectsV2"]}
