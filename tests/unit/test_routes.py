"""Which route takes an object, and which declarations are refused at the start."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from pipeline import enqueue
from pipeline.celery import app, make_app
from pipeline.core.errors import ConfigError, MessageError, ObjectGone, TransientError
from pipeline.core.routes import Output, Route, Routes
from pipeline.core.settings import Settings
from pipeline.core.source import Source
from pipeline.images import images
from pipeline.operations.routes_command import show
from pipeline.route_check import RouteCheck
from pipeline.s3.content import begins_with
from tests.support import own_route

SETTINGS = Settings.from_env({"OUTPUT_BUCKET": "out"})
OUTPUT = Output(folder="text/", append_suffix=".txt")
IMAGES = images(SETTINGS)


def route(name: str = "r", **more: Any) -> Route:
    return Route(**({"name": name, "tasks": ("t",), "outputs": (OUTPUT,)} | more))


def routes(*declared: Route, **env: str) -> Routes:
    return Routes(Settings.from_env({"OUTPUT_BUCKET": "out", **env}), declared)


def taken(found: Routes, key: str) -> str | None:
    chosen = found.match(Source("in", key))
    return None if chosen is None else chosen.name


def test_the_first_route_that_takes_a_key_is_the_only_one() -> None:
    other = Output(folder="other/")
    found = routes(route(prefix="logs/", match_suffixes=(".log", ".png")), route("any", outputs=(other,)), IMAGES)
    assert taken(found, "logs/a.LOG") == taken(found, "logs/a.png") == "r"
    assert taken(found, "a.png") == "any"
    assert taken(routes(route(match_suffixes=(".log",)), IMAGES), "a.png") == "images"


def test_what_no_route_takes_is_skipped_for_a_reason_of_each() -> None:
    found = routes(route(prefix="logs/"), IMAGES)
    assert found.match(Source("in", "a.txt")) is None
    assert found.skip_reason(Source("in", "a.txt")) == (
        "r: its key does not begin with logs/; images: its key ends in none of SUFFIXES"
    )
    assert found.skip_reason(Source("in", "logs/a.txt")) is None


def test_no_route_takes_folders_what_is_outside_key_prefix_or_what_was_written() -> None:
    found = routes(route(), KEY_PREFIX="in/")
    assert taken(found, "in/a") == "r"
    for key in ("in/a/", "a"):
        assert taken(found, key) is None
    own = routes(route())
    assert own.match(Source("out", "text/a")) is None
    assert "written by the pipeline" in str(own.skip_reason(Source("out", "failed/a.json")))


def test_a_rule_for_the_content_is_asked_last_and_once_for_each_version() -> None:
    asked: list[str] = []

    def rule(source: Source) -> bool:
        asked.append(source.key)
        return source.key == "yes.txt"

    found = routes(route(match_suffixes=(".txt",), content=rule))
    version = Source("in", "yes.txt", etag="1")
    assert [found.match(version) is not None for _ in range(3)] == [True, True, True]
    assert asked == ["yes.txt"]
    assert found.match(Source("in", "a.bin")) is None
    assert found.skip_reason(Source("in", "no.txt")) == "its content is something else"
    assert found.skip_reason(Source("in", "no.txt"), is_gone=True) is None
    assert asked == ["yes.txt", "no.txt"]  # without an ETag it may be another version each time
    found.match(Source("in", "no.txt"))
    assert asked[2:] == ["no.txt"]


def test_a_rule_that_can_t_be_asked_is_an_error_and_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(source: Source, length: int) -> bytes:
        raise ObjectGone(source.uri)

    def unavailable(source: Source, length: int) -> bytes:
        raise TransientError(f"{length}")

    found = routes(route(content=begins_with(b"ab", b"abcd")))
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", unavailable)
    with pytest.raises(TransientError, match="4"):
        found.match(Source("in", "a", etag="1"))
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", lambda source, length: b"abX")
    assert found.match(Source("in", "a", etag="1")) is not None
    monkeypatch.setattr("pipeline.s3.storage.read_beginning", gone)
    assert found.match(Source("in", "b", etag="1")) is None


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ([], "no route at all"),
        ([route(), route(outputs=(Output(folder="b/"),))], "'r': the name is empty or taken"),
        ([route("")], "the name is empty"),
        ([route(tasks=())], "at least one task"),
        ([route(outputs=())], "at least one output"),
        ([route(match_suffixes=("pdf",))], "begin with a dot"),
        ([route(match_suffixes=(".PDF",))], "lower case"),
        ([route(outputs=(Output(folder="text"),))], "must end with a slash"),
        ([route(outputs=(Output(folder="/text/"),))], "not begin with one"),
        ([route(outputs=(Output(folder="text/", append_suffix="txt"),))], "must begin with a dot"),
        ([route(outputs=(Output(folder="text/", append_suffix="./txt"),))], "without a slash"),
        ([route(outputs=(Output(folder="failed/"),))], "'failed/' of the failure records"),
        ([route(outputs=(Output(folder="thumbs/pdf/"),)), IMAGES], "'thumbs/pdf/' of route 'r'"),
        ([route(outputs=(OUTPUT, Output(folder="text/", append_suffix=".md")))], "overlaps 'text/' of route 'r'"),
    ],
)
def test_a_declaration_that_can_t_work_is_refused_with_its_reason(declared: list[Route], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Routes(SETTINGS, declared)


def module(monkeypatch: pytest.MonkeyPatch, **names: Any) -> Settings:
    made = ModuleType("my_routes")
    vars(made).update(names)
    monkeypatch.setitem(sys.modules, "my_routes", made)
    return Settings.from_env({"ROUTES": "my_routes, pipeline.images"})


def test_the_modules_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Routes.load(module(monkeypatch, ROUTES=[route()]))
    assert [each.name for each in found.all] == ["r", "images"]
    assert found.folders == ("text/", "resized/", "thumbs/")


def test_the_name_that_the_images_route_had_before_still_works() -> None:
    settings = Settings.from_env({"ROUTES": "tasks.routes"})
    assert Routes.load(settings).all == (images(settings),)


@pytest.mark.parametrize("names", [{}, {"ROUTES": route()}, {"ROUTES": ["r"]}])
def test_a_module_without_a_list_of_routes_is_named(monkeypatch: pytest.MonkeyPatch, names: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="ROUTES=my_routes: "):
        Routes.load(module(monkeypatch, **names))


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"ROUTES=no_such_module: .*No module named 'no_such_module'"):
        Routes.load(Settings.from_env({"ROUTES": "no_such_module"}))
    with pytest.raises(ConfigError, match="ROUTES='a-b'"):
        Settings.from_env({"ROUTES": "a-b"})


def test_a_worker_does_not_start_without_the_tasks_of_its_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parent:
        app = make_app(module(monkeypatch, ROUTES=[route(tasks=("mine.there", "mine.nope"))]))

    @Parent.app.task(name="mine.there")
    def there(source: str) -> None: ...

    Parent.app.loader.import_default_modules()
    with pytest.raises(ConfigError, match=r"route 'r': this worker has no task mine\.nope: "):
        RouteCheck(Parent).start(Parent)


def sent(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> list[str]:
    """The names of the tasks in the chain that is enqueued."""
    monkeypatch.setattr(app, "settings", Settings.from_env({"ROUTES": own_route.NAMES}))
    chain = enqueue.work(app, Source.parse(arguments[0]), **options)
    return [each.task for each in getattr(chain, "tasks", [chain])]


def test_an_object_is_enqueued_on_the_route_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(monkeypatch, "s3://in/a.own") == ["own.upper", "own.length"]
    assert sent(monkeypatch, "s3://in/a.jpg") == ["tasks.resize", "tasks.thumbnail"]
    assert sent(monkeypatch, "s3://in/a.jpg", route="own") == ["own.upper", "own.length"]
    with pytest.raises(MessageError, match=r"no route takes s3://in/a\.x .*: name one of own, magic, images"):
        sent(monkeypatch, "s3://in/a.x")
    with pytest.raises(MessageError, match="no route 'pdf'; ROUTES has own, magic, images"):
        sent(monkeypatch, "s3://in/a.x", route="pdf")


class ByContent:
    """A rule that is no function, and not hashable."""

    def __init__(self) -> None:
        self.asked: list[Source] = []

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, source: Source) -> bool:
        self.asked.append(source)
        return source.size is not None and source.size > 3


def test_lists_and_rules_that_can_not_be_hashed_are_fine() -> None:
    rule = ByContent()
    found = routes(Route(name="r", tasks=["t"], outputs=[OUTPUT], match_suffixes=[".txt"], content=rule))
    assert found.match(Source("in", "a.txt", etag="e", size=4)) is not None
    assert found.match(Source("in", "a.txt", etag="e", size=4)) is not None
    assert found.match(Source("in", "a.txt", etag="f", size=3)) is None
    assert len(rule.asked) == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"match_suffixes": ".txt"}, r"its match_suffixes must be a list of suffixes, not '\.txt'"),
        ({"tasks": "mine.task"}, "its tasks must be a list of names of tasks, not 'mine.task'"),
        ({"outputs": OUTPUT}, "its outputs must be a list of Output"),
        ({"outputs": ["text/"]}, "its outputs must be a list of Output"),
        ({"tasks": [len]}, "its tasks must be a list"),
        ({"match_suffixes": None}, "its match_suffixes must be a list"),
        ({"content": "yes"}, "its content a function"),
        ({"outputs": (Output(folder="a/", append_suffix=".a", replace_suffix=".b"),)}, "take one of them"),
        ({"outputs": (Output(folder="a/", replace_suffix="b"),)}, "replace_suffix 'b' must begin with a dot"),
        ({"outputs": (Output(folder="a/", made_from="b/"),)}, "'b/', which is not an output before it"),
    ],
)
def test_a_declaration_of_the_wrong_kind_is_one_clear_line(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        routes(route(**wrong))
    assert "\n" not in str(told.value)


def test_a_rule_is_told_the_size_where_only_the_key_is_known() -> None:
    """``routes URI``, ``process("s3://…")`` and whoever else has no event."""
    looked: list[Source] = []

    def look(source: Source) -> Source | None:
        looked.append(source)
        return None if source.key == "gone.txt" else replace(source, etag="e", size=4)

    rule = ByContent()
    found = Routes(SETTINGS, [route(content=rule, match_suffixes=(".txt",))], look)
    assert found.match(Source("in", "a.txt")) is not None
    assert found.match(Source("in", "gone.txt")) is None
    assert found.match(Source("in", "b.txt", etag="e", size=2)) is None
    assert found.match(Source("in", "a.bin")) is None
    assert [source.key for source in looked] == ["a.txt", "gone.txt"]
    assert all(source.size is not None for source in rule.asked)


def test_a_copy_of_the_images_route_is_what_it_says() -> None:
    photos = replace(IMAGES, prefix="photos/", match_suffixes=(".png",))
    found = routes(photos)
    assert taken(found, "photos/a.png") == "images"
    assert taken(found, "a.png") is taken(found, "photos/a.jpg") is None
    assert found.skip_reason(Source("in", "a.png")) == "its key does not begin with photos/"
    assert found.skip_reason(Source("in", "photos/a.jpg")) == "its key ends in none of .png"


def test_routes_may_depend_on_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def declare(settings: Settings) -> list[Route]:
        return [replace(images(settings), prefix="photos/")]

    settings = module(monkeypatch, ROUTES=declare).model_copy(update={"routes": ("my_routes",)})
    found = Routes.load(settings)
    assert [each.prefix for each in found.all] == ["photos/"]
    assert found.folders == ("resized/", "thumbs/")


def test_where_there_is_one_route_only_what_is_enqueued_by_name_goes_there() -> None:
    assert routes(IMAGES).resolve(Source("in", "no-ending")).name == "images"


def test_of_what_no_route_takes_anything_may_be_stored_since_somebody_chose_a_route() -> None:
    found = routes(route(match_suffixes=(".txt",)), IMAGES)
    assert {each.name for each in found.stored_names("a.x")} == {"text/a.x.txt", "resized/a.x", "thumbs/a.x"}
    assert {each.name for each in found.stored_names("a.txt")} == {"text/a.txt.txt"}
    folders = {each.name.partition("/")[0] for each in found.stored_names("a.txt", ever=True)}
    assert folders == {"text", "resized", "thumbs"}


def test_the_verb_shows_what_is_declared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROUTES", own_route.NAMES)
    assert show(None) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["own", ".own", "own.upper → own.length", "length/<key>, upper/<key>.txt"]
    assert rows[1] == ["magic", "any/… any ending by content", "own.magic", "magic/<key>.txt"]
    assert rows[2][0] == "images"
    assert show("s3://in/a.own") == 0
    assert show("s3://in/a.x") == 1
    assert capsys.readouterr().out.splitlines()[0] == "route own"
