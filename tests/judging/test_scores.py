"""Scores of a judge: what is asked, what counts, and what is left in the folder."""

import json
import statistics
from typing import Any

import pytest

from tunewise.judging import JudgeError, judge_run
from tunewise.judging.prompts import SCORE_TEMPLATE
from tunewise.runs.folder import RESULT_FILE

from .conftest import ConfigOf, RunOf, files_of, rows_of

# Scores.


def test_a_response_is_scored_by_the_mean_of_its_calls(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    given = {"good": iter(["90", "80", "85"]), "poor": iter(["0", " 100\n", "20"])}
    server.behaviour = lambda prompt: next(given[server.response_in(prompt)])
    folder = run_of("good", "poor")
    judgement = judge_run(folder, config_of(calls=3))
    first, second = rows_of(folder)
    assert (first["id"], first["mean"]) == ("test:0", 85)
    assert (second["id"], second["mean"]) == ("test:1", 40)
    assert (sorted(first["scores"]), sorted(second["scores"])) == ([80, 85, 90], [0, 20, 100])
    assert judgement.mean == 62.5
    assert judgement.interval == (40, 85)
    assert judgement.spread == pytest.approx((5 + statistics.stdev([0, 100, 20])) / 2)
    assert (judgement.num_responses, judgement.num_unjudged) == (2, 0)
    assert (judgement.calls_made, judgement.calls_cached) == (6, 0)


def test_one_call_says_nothing_about_the_spread(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    assert judge_run(run_of("fine"), config_of(calls=1)).spread is None


def test_the_judge_sees_input_reference_and_response(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    judge_run(run_of("Ünïcödé, 東京 und 🙂"), config_of())
    (prompt,) = server.prompts
    for text in ("\nQuestion 0?\n", "\nAnswer 0.\n", "\nÜnïcödé, 東京 und 🙂\n"):
        assert text in prompt


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "101",
        "-1",
        "72.5",
        "72/100",
        "Score: 72",
        "seventy",
        "1000",
        "72 72",
        "\u0667\u0662",
        None,
    ],
)
def test_a_reply_that_is_no_integer_in_range_is_counted_and_asked_again(
    server: Any, config_of: ConfigOf, run_of: RunOf, garbage: str | None
) -> None:
    replies = iter([garbage, garbage, "72"])
    server.behaviour = lambda prompt: {"text": next(replies)}
    judgement = judge_run(run_of("fine"), config_of())
    assert judgement.mean == 72
    assert (judgement.num_invalid_replies, judgement.calls_made) == (2, 3)
    assert judge_run(run_of("fine", name="again"), config_of()).num_invalid_replies == 2


def test_a_response_without_a_valid_reply_is_counted_and_never_scored(
    server: Any, config_of: ConfigOf, run_of: RunOf, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(prompt: str) -> str:
        return "no idea" if server.response_in(prompt) == "odd" else "60"

    server.behaviour = reply
    folder = run_of("fine", "odd", "good")
    judgement = judge_run(folder, config_of(calls=2))
    assert judgement.mean == 60
    assert (judgement.num_responses, judgement.num_unjudged) == (3, 1)
    assert judgement.num_invalid_replies == 6
    assert judgement.calls_made == 4 + 6
    assert [row["mean"] for row in rows_of(folder)] == [60, None, 60]
    assert rows_of(folder)[1]["scores"] == [None, None]
    assert "'no idea' is not an integer from 0 to 100" in caplog.text
    # Next time it is asked again, and only it.
    server.behaviour = lambda prompt: "30"
    again = judge_run(folder, config_of(calls=2))
    assert (again.calls_made, again.calls_cached, again.num_unjudged) == (2, 4, 0)
    assert again.mean == 50


def test_a_response_that_the_endpoint_refuses_is_unjudged(
    server: Any, config_of: ConfigOf, run_of: RunOf, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = {"status": 400, "body": {"error": {"message": "content management policy"}}}
    server.behaviour = lambda p: refusal if server.response_in(p) == "bad" else "60"
    judgement = judge_run(run_of("fine", "bad"), config_of())
    assert (judgement.mean, judgement.num_unjudged, judgement.calls_made) == (60, 1, 1)
    assert "content management policy" in caplog.text


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"status": 400, "body": {"error": {"message": "temperature: 1 only"}}}, "temperature: 1"),
        ("I would say 70", "'I would say 70' is not an integer"),
    ],
)
def test_a_judge_that_judges_nothing_is_an_error_and_leaves_the_run_alone(
    server: Any, config_of: ConfigOf, run_of: RunOf, reply: Any, told: str
) -> None:
    server.behaviour = lambda prompt: reply
    folder = run_of("fine", "good")
    before = files_of(folder)
    with pytest.raises(JudgeError, match=told) as caught:
        judge_run(folder, config_of())
    assert "\n" not in str(caught.value)
    assert files_of(folder) == before


# What is left in the folder.


def test_the_result_gets_the_metric_and_keeps_everything_else(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    server.behaviour = lambda prompt: str(len(server.response_in(prompt)))
    folder = run_of("a", "bb", "cccc")
    path = folder / RESULT_FILE
    before = json.loads(path.read_text("utf-8"))
    judgement = judge_run(folder, config_of())
    after = json.loads(path.read_text("utf-8"))
    assert after["metrics"]["test"].pop("judge") == judgement.mean
    assert after["intervals"]["test"].pop("judge") == list(judgement.interval)
    assert judgement.interval[0] < judgement.mean < judgement.interval[1]
    assert after == before
    assert {path.name for path in folder.iterdir()} == {
        "predictions.jsonl",
        "judgements.jsonl",
        "result.json",
    }


def test_judgements_of_another_judge_are_kept_apart(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    folder = run_of("fine", "good")
    template = SCORE_TEMPLATE.replace("100", "100 at most")
    judges = [{}, {"model": "other"}, {"template": template}, {"temperature": 0}, {"calls": 2}, {}]
    texts = []
    for number, judge in enumerate(judges):
        server.behaviour = lambda prompt, number=number: str(number)
        judge_run(folder, config_of(**judge))
        texts.append((folder / "judgements.jsonl").read_text())
    kept = [(folder / f"judgements-{n}.jsonl").read_text() for n in range(1, len(judges))]
    assert [*kept, (folder / "judgements.jsonl").read_text()] == texts
    for text in texts:
        assert len({str(json.loads(line)["judge"]) for line in text.splitlines()}) == 1
    assert len({json.dumps(json.loads(t.splitlines()[0])["judge"]) for t in texts}) == 5


def test_a_file_that_is_none_of_ours_is_kept_too(
    server: Any, config_of: ConfigOf, run_of: RunOf
) -> None:
    folder = run_of("fine")
    (folder / "judgements.jsonl").write_text("my notes")
    judge_run(folder, config_of())
    assert (folder / "judgements-1.jsonl").read_text() == "my notes"
    assert rows_of(folder)[0]["mean"] == 50


def test_progress_counts_up_to_the_end(server: Any, config_of: ConfigOf, run_of: RunOf) -> None:
    seen = []
    judge_run(run_of("a", "b"), config_of(calls=2), lambda done, total: seen.append((done, total)))
    assert seen == [(n, 4) for n in range(5)]
