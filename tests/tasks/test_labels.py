"""The same label has one form, whatever file or setting spells it."""

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tiny import write_splits

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.data.names import tidy
from tunewise.data.rows import Row
from tunewise.errors import ConfigError, DataError
from tunewise.evaluation.answers.label import likeliest_answers
from tunewise.tasks import Classification
from tunewise.tasks.labels import label_value, loose_form, plain_label, refuse_scores
from tunewise.yaml import load_yaml

FORMS: dict[str, list[Any]] = {
    "1": [1, 1.0, "1", "1.0", " 1 ", "1.", "+1", "1.00", "1\n", Decimal("1.000"), "\ufeff1"],
    "0": [0, 0.0, -0.0, "-0", "0.0", "-0.00", "0.", "0e+00"],
    "-2": [-2, -2.0, "-2", "-2.0"],
    "0.5": [0.5, "0.5", ".5", "0.50", "+.5", Decimal("0.50"), "5e-01"],
    "3.25": [3.25, "3.250", Decimal("3.25")],
    "100000000000000000000": [10**20, 1e20, "1e+20", "100000000000000000000.0"],
    "0.0000001": [1e-7, "1e-07", "0.00000010"],
    "true": [True, "true", "True", "TRUE", " True"],
    "false": [False, "false", "False", "FALSE"],
    "pos": ["pos", "pos ", "\tpos", "\u00a0pos\u3000", "pos\u200b"],
    "caf\u00e9": ["caf\u00e9", "cafe\u0301", " cafe\u0301 "],
}
"""Each label, and what is read as it."""

APART: list[list[Any]] = [
    ["Yes", "yes", "YES"],
    ["007", "7", "07"],
    ["1e5", "1E5", "100000"],
    ["1", "true", "0", "false", "one"],
    ["1,5", "1.5", "15"],
    ["tRUE", "true"],
    ["not spam", "not  spam", "notspam"],
    ["nan", "None", "null", "NA", "-", "+", ".", "1.2.3", "- 1"],
    [1, 1.5, "1.05"],
    ["\uff11", "1"],
]
"""Labels that stay as many as they are."""


@pytest.mark.parametrize("label", FORMS)
def test_forms_of_one_label_are_read_as_one(label: str) -> None:
    for form in FORMS[label]:
        assert label_value(Row({"label": form}, "a.csv:2"), "label") == label, repr(form)


@pytest.mark.parametrize("labels", APART, ids=str)
def test_labels_that_may_mean_different_things_stay_apart(labels: list[Any]) -> None:
    assert len({plain_label(label) for label in labels}) == len(labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["Yes", "yes"],
        ["007", "7"],
        ["1e5", "100000"],
        ["a b", "a  b"],
        ["\uff11", "1"],
        ["don't", "don\u2019t"],
        ["sci_fi", "sci-fi"],
        ["pos", "'pos'"],
        ["\u2764", "\u2764\ufe0f"],
        ["a", "a."],
    ],
)
def test_labels_that_a_person_may_take_for_one_are_said_with_their_numbers(
    labels: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate([*labels, "z"] * 3)]
    Classification(path=write_splits(tmp_path, rows)).examples("train")
    (said,) = caplog.messages
    assert said.startswith("train: labels that differ in form only are kept apart: ")
    assert all(f"{label!r} (3)" in said for label in labels)
    assert "'z'" not in said
    assert len({*map(loose_form, labels)}) == 1


def test_a_label_that_is_read_in_another_form_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ["pos ", "pos", "neg", "pos"] * 10
    path = tmp_path / "all.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{x}\n" for n, x in enumerate(labels)))
    task = Classification(path=path)
    with caplog.at_level(logging.WARNING):
        classes = {
            e.choices for split in ("train", "validation", "test") for e in task.examples(split)
        }
    assert classes == {("neg", "pos")}
    assert caplog.messages == [
        "train: labels are read in one form: 'pos' (20), 'pos ' (10) as 'pos'"
    ]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["NA", "a", "b"], "labels that may stand for no value: 'NA' (3); if so, leave these"),
        (
            ["#N/A", "\\N", "a"],
            "labels that may stand for no value: '#N/A' (3); '\\\\N' (3); if so",
        ),
        (
            ["a|b", "a|c", "d"],
            "labels that may be several in one, each a class of its own: 'a|b' (3)",
        ),
        (
            ["3,10", "3", "4"],
            "labels that may be several in one, each a class of its own: '3,10' (3)",
        ),
        (
            ["['a']", "b"],
            "labels that may be several in one, each a class of its own: \"['a']\" (3)",
        ),
        (["none", "a", "Arts, crafts"], None),
        (["1,0", "0,0"], None),
    ],
)
def test_labels_that_may_be_none_or_several_are_said_unless_a_setting_lists_them(
    labels: list[str], said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels * 3)]
    path = write_splits(tmp_path, rows)
    Classification(path=path, labels={label: label for label in labels}).examples("train")
    assert not caplog.messages
    Classification(path=path).examples("train")
    assert [f"train: {said}" in message for message in caplog.messages] == [True] * (
        said is not None
    )


def test_no_word_is_said_of_labels_that_have_one_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, labels in enumerate(([1, "1", 0], ["a", "b"], [True, False], ["true", "false"])):
        rows = [{"text": f"text {n}", "label": x} for n, x in enumerate(labels * 2)]
        Classification(path=write_splits(tmp_path / str(number), rows)).examples("train")
    assert not caplog.messages


# --- labels in settings


@pytest.mark.parametrize(
    ("labels", "row"),
    [
        ("{TRUE: good, FALSE: bad}", "TRUE"),
        ("{true: good, false: bad}", True),
        ("{True: good, 'False': bad}", "true"),
        ("{1: good, 0: bad}", "1.0"),
        ("{1.0: good, 0.0: bad}", 1),
        ("{' pos': good, neg: bad}", "pos "),
        ("{cafe\u0301: ' good', neg: bad}", "caf\u00e9"),
        ("{0.50: good, 1: bad}", 0.5),
    ],
)
def test_the_labels_of_a_setting_are_those_of_the_rows(
    labels: str, row: Any, tmp_path: Path
) -> None:
    path = write_splits(tmp_path, [{"text": "a", "label": row}])
    for fields in (
        {"kind": "classification", "labels": load_yaml(labels)},
        {"kind": "cloze", "template": "{text}", "verbalizers": load_yaml(labels)},
    ):
        task = make_config(fields={"task": fields | {"path": str(path)}}).task
        (example,) = task.examples("train")
        assert example.target.strip() == "good"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"pos": "a", "pos ": "b"}, "'pos' and 'pos ' are the same label, 'pos'"),
        ({"1": "a", "1.0": "b"}, "'1' and '1.0' are the same label, '1'"),
        ({1: "a", "+1": "b"}, "1 and '+1' are the same label, '1'"),
        ({True: "a", "true": "b"}, "True and 'true' are the same label, 'true'"),
        ({"caf\u00e9": "a", "cafe\u0301": "b"}, "are the same label"),
        ({" ": "a", "b": "b"}, "the label ' ' is empty"),
    ],
)
def test_two_settings_for_one_label_are_refused_by_both_names(labels: Any, said: str) -> None:
    for name, others in (("labels", {}), ("verbalizers", {"kind": "cloze", "template": "{text}"})):
        task = {"kind": "classification", "path": "a.csv", name: labels} | others
        with pytest.raises(ConfigError) as caught:
            make_config(fields={"task": task})
        assert f"task.{name}: " in str(caught.value)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"0": "good", "1": "good "}, "two labels have the same name"),
        ({"0": "caf\u00e9", "1": "cafe\u0301"}, "two labels have the same name"),
        ({"0": "good", "1": " "}, "the name of a label is empty"),
    ],
)
def test_names_that_differ_in_form_only_are_refused(names: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(fields={"task": {"kind": "classification", "path": "a.csv", "labels": names}})


def test_every_choice_keeps_its_probability() -> None:
    (answer,) = likeliest_answers([Example("1", "", "", (" yes", " no"))], [[0.25, 0.75]])
    assert answer == {
        "id": "1",
        "row": None,
        "predicted": "no",
        "probabilities": {"yes": 0.25, "no": 0.75},
    }
    with pytest.raises(AssertionError, match="two choices have one name"):
        likeliest_answers([Example("1", "", "", ("yes", " yes"))], [[0.25, 0.75]])


def test_columns_are_named_without_the_spaces_around_them(tmp_path: Path) -> None:
    task = Classification(path=tmp_path, template="{ cafe\u0301 *} and {b }", label=" label")
    assert task.columns == ("caf\u00e9", "b", "label")
    assert tidy(" \ufefflabel\u00a0") == "label"


# --- numbers that are scores, and what is no label


def counts(labels: list[str]) -> dict[str, int]:
    return {label: labels.count(label) for label in labels}


@pytest.mark.parametrize(
    "labels",
    [
        [str(n / 10) for n in range(40)],
        [str(n) for n in range(40)],
        [f"id-{n}" for n in range(12)],
        [str(n % 30) for n in range(40)],
        ["0.5", "1.5", "2.5", "0.5"],
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_numbers_to_be_predicted_and_ids_are_refused_as_labels(
    labels: list[str], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"all.{suffix}"
    if suffix == "csv":
        lines = ["text,label", *(f"text {n},{label}" for n, label in enumerate(labels))]
    else:  # a number where the text is one
        values = [load_yaml(label) for label in labels]
        lines = [json.dumps({"text": f"text {n}", "label": x}) for n, x in enumerate(values)]
    path.write_text("\n".join(lines))
    found = f"{len(set(labels))} different labels in {len(labels)} rows"
    with pytest.raises(DataError, match=rf"{found} \(.*\): numbers to be predicted, or ids\?"):
        Classification(path=path).examples("train")


@pytest.mark.parametrize(
    "labels",
    [
        ["0.5", "1", "1.5"] * 3,
        [str(n) for n in range(9)],
        [str(n % 20) for n in range(40)],
        ["good", "bad", "1.5"],
    ],
)
def test_a_few_classes_are_labels_even_if_they_are_fractions(labels: list[str]) -> None:
    refuse_scores(counts(labels), "a.csv")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (["neg", "food"], r"holds \['neg', 'food'\]; a row has one label: keep one, or train"),
        ({"a": 1}, "a row has one label"),
        (None, "holds None; a label is a text, a number or a truth value"),
        (float("nan"), "holds nan; a label is"),
        (float("inf"), "holds inf; a label is"),
        ("", "holds ''; a row needs a label"),
        (" \u200b", "a row needs a label"),
    ],
)
def test_what_is_no_label_is_said_with_its_row(label: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.csv:2: column 'label' {said}|{said}"):
        label_value(Row({"label": label}, "a.csv:2"), "label")
