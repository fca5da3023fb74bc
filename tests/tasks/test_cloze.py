"""A question with a text for each answer: which texts may be, and which rows."""

from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.config import make_config
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, DataError
from tunewise.tasks.cloze import Cloze

ANSWERS = {"0": " no", "1": " yes"}


def cloze(path: Path, *labels: Any, **settings: Any) -> Cloze:
    write_splits(path, [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)])
    values = {"template": "Is {text} good? Answer:", "verbalizers": ANSWERS} | settings
    return Cloze(path=path, **values)


def test_a_label_is_answered_by_its_text(tmp_path: Path) -> None:
    examples = cloze(tmp_path, 0, "1", 1).examples("train")
    assert [example.target for example in examples] == [" no", " yes", " yes"]
    assert {example.choices for example in examples} == {(" no", " yes")}
    assert (examples[0].prompt, examples[0].cue) == ("Is text 0", " good? Answer:")


def test_labels_in_yaml_may_be_numbers_and_truth_values(tmp_path: Path) -> None:
    words = {"False": " no", "True": " yes"}
    assert cloze(tmp_path, True, False, verbalizers=words).examples("test")[0].target == " yes"
    task = {"kind": "cloze", "path": "a.csv", "template": "{text}", "verbalizers": {0: "a", 1: "b"}}
    assert isinstance(made := make_config(fields={"task": task}).task, Cloze)
    assert made.verbalizers == {"0": "a", "1": "b"}


def test_a_label_without_a_text_is_named_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl:2: label '2' has no verbalizer; known: 0"):
        cloze(tmp_path, 0, 2).examples("train")
    with pytest.raises(DataError, match=r"test\.jsonl:1: label '0\.5' has no verbalizer"):
        cloze(tmp_path, 0.5).examples("test")


def test_the_answer_alone_is_scored_and_no_text_ends_after_it(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    task = cloze(tmp_path, 0, 1)
    examples = task.examples("train")
    for prefix in ((), (300, 301)):
        encoded = task.encode(examples, tokenizer, Layout(100, prefix))
        for example, sequence in zip(examples, encoded.sequences, strict=True):
            (answer,) = tokenizer.tokenize([example.target])
            assert sequence.ids[sequence.prompt_length :].tolist() == answer
            assert sequence.num_scored == len(answer)
            assert tuple(sequence.ids[: len(prefix)]) == prefix


def test_a_long_text_is_cut_and_never_the_question_or_its_answer(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    task = cloze(tmp_path, 0, 1, template="{text}{text}{text}{text*} Is it good? Answer:")
    examples = task.examples("train")
    for example, sequence in zip(
        examples, task.encode(examples, tokenizer, Layout(40)).sequences, strict=True
    ):
        text = tokenizer.decode(sequence.ids.tolist())
        assert len(sequence.ids) <= 40
        assert text.endswith(" Is it good? Answer:" + example.target)


def test_an_answer_that_would_be_cut_is_a_mistake(tmp_path: Path, tokenizer: Tokenizer) -> None:
    task = cloze(tmp_path, 0, 1)
    examples = task.examples("train")
    assert task.encode(examples, tokenizer, Layout(8)).num_truncated
    with pytest.raises(ConfigError, match=r"task\.verbalizers: the longest has 4 tokens; .* 7"):
        task.encode(examples, tokenizer, Layout(9, (300, 301)))


@pytest.mark.parametrize(
    ("verbalizers", "named"),
    [
        ({"0": " no"}, "at least 2"),
        ({"0": " no", "1": ""}, "verbalizers: '' is empty"),
        ({"0": " no", "1": "  "}, "verbalizers: '  ' is empty"),
        ({"0": " no", "1": " no"}, "verbalizers: two are the same"),
        ({"0": " no", "1": "no"}, "verbalizers: two are the same apart from spaces"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_a_mistake(
    verbalizers: dict[str, str], named: str
) -> None:
    task = {"kind": "cloze", "path": "a.csv", "template": "{text}", "verbalizers": verbalizers}
    with pytest.raises(ConfigError) as caught:
        make_config(fields={"task": task})
    assert "task" in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("answers", [(" no", " no way"), (" no way", " no")])
def test_an_answer_whose_tokens_begin_anothers_is_a_mistake(
    tmp_path: Path, tokenizer: Tokenizer, answers: tuple[str, str]
) -> None:
    task = cloze(tmp_path, 0, 1).model_copy(
        update={"verbalizers": dict(zip(("0", "1"), answers, strict=True))}
    )
    examples = task.examples("train")
    with pytest.raises(ConfigError, match=r"the tokens of ' no' begin those of ' no way'"):
        task.encode(examples, tokenizer, Layout(100))


@pytest.mark.parametrize("missing", ["template", "verbalizers"])
def test_a_question_and_its_answers_must_be_given(missing: str) -> None:
    task = {"kind": "cloze", "path": "a.csv", "template": "{text}", "verbalizers": ANSWERS}
    del task[missing]
    with pytest.raises(ConfigError, match=rf"task\.{missing}: "):
        make_config(fields={"task": task})
