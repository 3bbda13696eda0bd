"""The results of a run that goes on, as its page asks for them."""

from __future__ import annotations

from pipeline.local.board import Board, News
from pipeline.local.results import FileResult, FileState, OutputFile


def done(key: str, *paths: str) -> FileResult:
    outputs = tuple(OutputFile(path, path.partition("/")[0], 1, "image/jpeg", (9, 9)) for path in paths)
    return FileResult(key, FileState.DONE, outputs=outputs)


def test_news_are_what_has_changed_since() -> None:
    board, a, b = Board(), done("a", "thumbs/a"), done("b")
    assert board.put(a) == ()
    first = board.news(0)
    assert first.changed == (a,)
    board.put(b)
    board.remove("a")
    news = board.news(first.revision)
    assert (news.changed, news.removed) == ((b,), ("a",))
    assert board.news(news.revision) == News(news.revision, (), ())
    assert board.news(0).removed == ()  # who knows nothing has nothing to remove
    assert board.results() == [b]


def test_a_new_result_tells_which_outputs_it_has_not() -> None:
    board = Board()
    board.put(done("a", "thumbs/a", "resized/a"))
    assert board.put(done("a", "thumbs/a.webp", "resized/a")) == ("thumbs/a",)


def test_a_file_that_loses_its_last_output_is_removed() -> None:
    board = Board()
    board.put(done("a", "thumbs/a", "resized/a"))
    assert board.lose("thumbs/a") is None
    assert [output.path for output in board.results()[0].outputs] == ["resized/a"]
    assert board.lose("resized/a") == "a"
    assert board.results() == []
    assert board.lose("resized/a") is None


def test_a_failed_file_goes_with_its_record_but_a_done_one_does_not() -> None:
    board = Board()
    board.put(FileResult("a", FileState.FAILED))
    board.put(done("b", "thumbs/b"))
    assert board.lose("failed/b.json") is None
    assert board.lose("failed/a.json") == "a"
    assert [result.key for result in board.results()] == ["b"]
