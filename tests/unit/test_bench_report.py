"""The page about performance says what the results say, and nothing that they don't."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import outage, readme, record, report
from benchmarks.contenders import contenders
from benchmarks.report import PAGE, Results


@pytest.fixture
def results() -> Results:
    return Results()


def test_the_page_is_what_the_results_make_it(results: Results):
    assert PAGE.read_text() == report.page(results), "renew it: python -m benchmarks.report"


def test_the_readme_has_the_same_numbers():
    page = readme.PAGE.read_text()
    assert readme.renewed(page) == page, "renew it: python -m benchmarks.readme"
    with pytest.raises(ValueError, match="0 rows"):
        readme.renewed("# Another page\n")


def test_the_table_of_outages_is_what_its_results_make_it():
    page = outage.PAGE.read_text()
    assert outage.renewed(page) == page, "renew it: python -m benchmarks.outage"
    for title, found in record.load(outage.RESULT)["outages"].items():
        assert (found["failed"], found["dead"]) == (0, 0), title
    with pytest.raises(ValueError, match="0 tables"):
        outage.renewed("# Another page\n")


def set_cpu(results: Results, **cpu_s: list[float]) -> None:
    """Of two rounds, 0.2 s in both where nothing else is said."""
    for facts in results.end_to_end["photos"].values():
        for name in facts:
            facts[name]["cpu_s"] = [0.2, 0.2]
    photo: dict[str, Any] = results.end_to_end["photos"][report.TWELVE]
    for name, values in cpu_s.items():
        photo[name]["cpu_s"] = values


def test_a_missed_goal_is_called_missed(results: Results):
    set_cpu(results, ours_simd=[0.08, 0.08], ours=[0.10, 0.12], sample_loop=[0.20, 0.24], our_loop_simd=[0.05, 0.05])
    goals = [line.strip("| ").split(" | ") for line in report.goals(results)]
    found = {goal[0]: goal[1:] for goal in goals}
    photo = "CPU of a 12 MP photo"
    assert found[f"{photo}, ours as shipped ÷ the sample's design: at most 0.30"] == ["0.37 (0.33–0.40)", "**missed**"]
    assert found[f"{photo}, ours with Pillow alone ÷ the sample's design: at most 0.45"] == ["0.50", "**missed**"]
    assert found["CPU of a web JPEG, ours as shipped ÷ the sample's design: at most 1.00"] == ["1.00", "met"]
    results.end_to_end["latency"]["s"] |= {"ours_simd": [0.3, 0.3], "our_loop_simd": [0.1, 0.2]}
    goals = [line.strip("| ").split(" | ") for line in report.goals(results)]
    assert [
        "time from upload to thumbnail, ours as shipped ÷ its loop with our image code: at most 1.50",
        "2.25 (1.50–3.00)",
        "**missed**",
    ] in goals
    # Each against the loop that has the same resampler.
    assert found[f"{photo}, ours as shipped ÷ its loop with our image code: at most 1.10"] == [
        "1.60",
        "**missed**",
    ]
    assert found[f"{photo}, ours with Pillow alone ÷ its loop with our image code: at most 1.25"][1] == "met"


def test_a_busy_machine_is_told_of(results: Results):
    results.end_to_end |= {"cores": 2, "load": 13.6}
    assert "a load of 13.6 on 2 cores" in report.busy(results)
    results.end_to_end["load"] = 5.0
    assert report.busy(results) == ""


def test_who_is_cheaper_is_named(results: Results):
    set_cpu(results)
    assert list(report.losses(results)) == []
    set_cpu(results, ours_simd=[0.1, 0.1], sample_loop=[0.1, 0.1])
    [line] = report.losses(results)
    assert line == f"- 12 MP JPEG, {results.title('sample_loop')}: ours takes 2.00 times its CPU with Pillow alone."


def test_a_loop_is_held_against_ours_with_the_same_resampler(results: Results):
    set_cpu(results, our_loop_simd=[0.1, 0.1])
    [line] = report.losses(results)
    assert line == f"- 12 MP JPEG, {results.title('our_loop_simd')}: ours takes 2.00 times its CPU as shipped."


def test_requests_are_summed_by_service():
    requests = {
        "worker GetObject input": 1.0,
        "worker DeleteObject output": 0.5,
        "worker ReceiveMessage pidbox": 0.1,
        "worker Publish celeryev": 0.2,
    }
    assert report.per_image(requests) == pytest.approx({"S3": 1.5, "SQS": 0.1, "SNS": 0.2})


def test_every_contender_has_a_title_in_the_results(results: Results):
    assert results.end_to_end["titles"] == {name: each.title for name, each in contenders().items()}
