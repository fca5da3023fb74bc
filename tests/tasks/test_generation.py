"""Texts completed and articles summed up: what is given, what is wanted, and what is compared."""

from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.errors import DataError
from tunewise.tasks.generation import Generation
from tunewise.tasks.summarization import Summarization

POEM = "One,\nTwo;\nThree.\n\nFour!\nFive"


def folder(path: Path, *rows: dict[str, Any]) -> Path:
    return write_splits(path, rows)


@pytest.mark.parametrize("given_lines", [1, 2, 3, 5])
@pytest.mark.parametrize("text", [POEM, POEM + "\n", POEM.replace("\n", "\r\n")])
def test_the_first_lines_and_the_rest_are_the_whole_text(
    tmp_path: Path, given_lines: int, text: str
) -> None:
    task = Generation(path=folder(tmp_path, {"poem": text}), text="poem", given_lines=given_lines)
    (example,) = task.examples("train")
    assert example.prompt + example.cue + example.target == text
    assert len(example.prompt.splitlines()) == given_lines
    assert example.target.strip()


def test_a_text_that_ends_where_it_should_be_completed_is_named(tmp_path: Path) -> None:
    task = Generation(path=folder(tmp_path, {"text": POEM}, {"text": "One\nTwo\nThree\n"}))
    with pytest.raises(DataError, match=r"train\.jsonl:2: .*has 3 lines; .*given_lines \(3\)"):
        task.model_copy(update={"text": "text"}).examples("train")


def test_two_columns_are_a_prompt_and_its_completion(tmp_path: Path) -> None:
    row = {"prompt": "Once", "completion": " upon", "title": "T"}
    (example,) = Generation(path=folder(tmp_path, row)).examples("train")
    assert (example.prompt, example.cue, example.target) == ("Once", "", " upon")
    task = Generation(
        path=tmp_path, template="{title}: {prompt} -", completion="{completion}, {title}."
    )
    (example,) = task.examples("train")
    assert (example.prompt, example.cue) == ("T: Once", " -")
    assert example.target == " upon, T."
    assert task.columns == ("title", "prompt", "completion", "title")


def test_an_answer_is_compared_alone_or_with_what_was_given() -> None:
    example = Example("rows:1", "One,\n", "Two.\n", cue="> ")
    assert Generation().compared_texts(example, " Too.") == ("Two.", "Too.")
    whole = Generation(judge_whole=True).compared_texts(example, "Too.\n")
    assert whole == ("One,\n> Two.", "One,\n> Too.")


def test_a_summary_is_asked_for_behind_the_article(tmp_path: Path) -> None:
    row = {"article": "Rain fell.", "highlights": "Rain."}
    (example,) = Summarization(path=folder(tmp_path, row)).examples("train")
    assert (example.prompt, example.cue, example.target) == ("Rain fell.", "\nTL;DR:", " Rain.")


def test_the_article_and_its_summary_are_read_alike(tmp_path: Path) -> None:
    row = {"article": "Rain, again: it FELL.", "highlights": "It's RAIN."}
    task = Summarization(path=folder(tmp_path, row), lowercase=True, punctuation=False)
    (example,) = task.examples("train")
    assert (example.prompt, example.target) == ("rain again it fell", " its rain")
    assert example.cue == "\nTL;DR:"  # a template is not text that is read


def test_a_missing_column_is_named_with_its_row(tmp_path: Path) -> None:
    folder(tmp_path, {"article": "Rain fell."})
    with pytest.raises(DataError, match=r"train\.jsonl:1: no column 'highlights'"):
        Summarization(path=tmp_path).examples("train")


def test_how_answers_are_written_can_be_said_field_by_field() -> None:
    words = ["task.decoding.temperature=0.7", "task.decoding.max_new_tokens=9"]
    task = make_config(fields={"task": "sonnets"}, overrides=words).task
    assert isinstance(task, Generation)
    assert (task.decoding.temperature, task.decoding.max_new_tokens) == (0.7, 9)
    assert task.decoding.top_p == 0.9  # as the catalogue says
