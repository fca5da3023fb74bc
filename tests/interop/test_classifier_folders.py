"""A fine-tuned classifier as a model keeps what it has learnt, and answers as in transformers."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import REFERENCE_SIZES, draw_around_start, every_family, tiny_config

import tunewise as tw
from tunewise.config import make_config
from tunewise.data.rows import read_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.interop import export
from tunewise.models.label_layer import stored_labels
from tunewise.predict import Predictor
from tunewise.run import RunRecord, run
from tunewise.runs.folder import read_predictions

pytestmark = pytest.mark.slow

LABELS = ("bad", "fair", "good")
TEXTS = ["the film is not good at all", "a good film", "x", "test 3"]
Trained = Callable[..., Path]
Classifier = Callable[..., Path]


@pytest.fixture(autouse=True)
def in_fp32_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunewise.predict.choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("tunewise.predict.choose_dtype", lambda *_: torch.float32)


@pytest.fixture
def classifier(tokenizer: Tokenizer, tmp_path: Path) -> Classifier:
    """Return a function that has transformers write a classifier over some labels."""

    def write(
        names: Sequence[str] | None = LABELS, family: str = "gpt2", tied: bool = True, **fields: Any
    ) -> Path:
        sizes = REFERENCE_SIZES | {"vocabulary_size": tokenizer.size}
        values = tiny_config(family, tied=tied, **sizes).to_hugging_face()
        values |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0} | fields
        if names is None:
            values |= {"num_labels": 3}
        else:
            values |= {"id2label": dict(enumerate(names))}
            values |= {"label2id": {name: row for row, name in enumerate(names)}}
        config = transformers.AutoConfig.for_model(**values)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        draw_around_start(model)
        model.save_pretrained(tmp_path / "classifier")
        tokenizer.save(tmp_path / "classifier")
        return tmp_path / "classifier"

    return write


def in_transformers(folder: Path, texts: Sequence[str]) -> list[dict[str, float]]:
    """Return the probability of each label of each text by transformers' own pipeline."""
    classify = transformers.pipeline(
        "text-classification", str(folder), device="cpu", top_k=None, dtype=torch.float32
    )
    answers = classify(list(texts), truncation=True)
    return [{answer["label"]: answer["score"] for answer in found} for found in answers]


def evaluated(model: Path, rows: Path, **task: Any) -> RunRecord:
    """Return a run that trains nothing."""
    task = {"kind": "classification", "path": str(rows)} | task
    train = {"epochs": 0, "precision": "fp32"}
    fields = {"model": str(model), "task": task, "method": "lora", "train": train}
    return run(make_config(fields=fields), out=model.parent / "evaluated")


def assert_as_in_transformers(record: RunRecord, folder: Path, names: Mapping[str, str]) -> None:
    """Check the probability of each expected label.

    Args:
        names: the name in the folder of each of the task's labels.
    """
    found = read_predictions(record.folder / "predictions.jsonl")
    path = record.result.config.task.path
    assert path is not None
    theirs = in_transformers(folder, [r.text("text") for r in read_rows(path / "test.jsonl")])
    for prediction, probabilities in zip(found, theirs, strict=True):
        assert prediction.log_likelihood is not None
        own = torch.tensor(prediction.log_likelihood).exp().item()
        assert own == pytest.approx(probabilities[names[prediction.expected]], abs=1e-4)
        assert names[prediction.predicted] == max(probabilities, key=probabilities.__getitem__)


@every_family
@pytest.mark.parametrize("origin", ["transformers", "an export", "a full run"])
def test_a_classifier_answers_as_in_transformers_before_any_training(
    family: str,
    origin: str,
    classifier: Classifier,
    trained: Trained,
    labelled_rows: Path,
    tmp_path: Path,
) -> None:
    if origin == "transformers":
        folder = classifier(family=family)
    elif origin == "an export":
        export(trained(family, {"kind": "lora", "rank": 2}, "labels"), "hf", tmp_path / "out")
        folder = tmp_path / "out"
    else:
        folder = trained(family, {"kind": "full"}, "labels") / "model"
    names = {name: name for name in LABELS}
    assert_as_in_transformers(evaluated(folder, labelled_rows), folder, names)
    predictor = tw.load(folder)
    assert predictor.config.task.label_names == LABELS
    answers = predictor.predict({"text": text} for text in TEXTS)
    for answer, expected in zip(answers, in_transformers(folder, TEXTS), strict=True):
        assert answer["probabilities"] == pytest.approx(expected, abs=1e-4)
        assert answer["predicted"] == max(expected, key=expected.__getitem__)
    with pytest.raises(TunewiseError, match="has a label layer and writes nothing"):
        predictor.generate("a film")


@pytest.mark.parametrize(
    ("theirs", "task", "said"),
    [
        (("good", "bad", "fair"), {}, ""),
        ((" Good", "BAD", "fair "), {}, ""),
        (("g", "b", "f"), {"labels": {"good": "g", "fair": "f", "bad": "b"}}, ""),
        (("good", "bad", "fair"), {"labels": {"good": "g", "fair": "f", "bad": "b"}}, ""),
        (None, {}, "'LABEL_0', 'LABEL_1', 'LABEL_2' are 'bad', 'fair', 'good'"),
    ],
    ids=str,
)
def test_labels_in_another_order_or_form_are_the_same_labels(
    theirs: Sequence[str] | None,
    task: dict[str, Any],
    said: str,
    classifier: Classifier,
    labelled_rows: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = classifier(theirs)
    record = evaluated(folder, labelled_rows, **task)
    ours = record.result.config.task.label_names or ()
    stored = theirs or [f"LABEL_{row}" for row in range(3)]
    by_form = {name.strip().lower()[0]: name for name in stored}
    names = {name: by_form.get(name[0]) or stored[ours.index(name)] for name in ours}
    assert_as_in_transformers(record, folder, names)
    warned = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warned) == bool(said)
    assert all(said in message for message in warned)


@pytest.mark.parametrize("id2label", [None, ("bad", "good", "fair")])
def test_names_that_are_in_one_of_two_fields_are_found(
    id2label: Sequence[str] | None,
    classifier: Classifier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = classifier(id2label)
    path = folder / "config.json"
    turned = {"good": 0, "bad": 1, "fair": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label2id": turned}))
    assert stored_labels(folder) == (id2label or ("good", "bad", "fair"))
    assert ("label2id says other than id2label" in caplog.text) == (id2label is not None)


def test_numbers_are_the_labels_that_transformers_numbers(
    classifier: Classifier, labelled_rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = {"good": "0", "fair": "2", "bad": "1"}
    record = evaluated(classifier(None), labelled_rows, labels=numbers)
    names = {number: f"LABEL_{number}" for number in numbers.values()}
    assert_as_in_transformers(record, tmp_path / "classifier", names)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("theirs", "fields", "said"),
    [
        (("no", "so so", "yes"), {}, "its labels are 'no', 'so so', 'yes'"),
        (("bad", "good"), {}, "its labels are 'bad', 'good'"),
        (LABELS, {"problem_type": "multi_label_classification"}, "multi_label_classification"),
        (("score",), {}, "one of 1 for regression"),
    ],
    ids=str,
)
def test_other_labels_begin_a_new_layer_and_that_is_said_once(
    theirs: Sequence[str],
    fields: dict[str, Any],
    said: str,
    classifier: Classifier,
    labelled_rows: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = classifier(theirs, **fields)
    record = evaluated(folder, labelled_rows)
    (warned,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said in warned and "a new" in warned and "'bad', 'fair', 'good'" in warned
    model = tw.load(record.folder).model  # and the layer that was made is the one that is loaded
    (path,) = record.folder.glob("adapter/*.safetensors")
    assert torch.equal(model.get_parameter("head.weight"), load_file(path)["head.weight"])


def test_a_classifier_without_the_label_layer_that_it_promises_is_told(
    classifier: Classifier, labelled_rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = classifier()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["score.weight"]
    save_file(tensors, path)
    evaluated(folder, labelled_rows)
    (warned,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "is a GPT2ForSequenceClassification, and its weights have no label layer" in warned


@pytest.mark.parametrize(
    ("id2label", "said"),
    [
        ({"0": "bad", "1": "good"}, "rows 0 to 2"),
        ({"0": "bad", "1": "good", "3": "fair"}, "names the labels 0, 1, 3"),
        ({"0": "bad", "1": "good", "2": "bad"}, "alike"),
        (["bad", "good", "fair"], "rows 0 to 2"),
    ],
)
def test_names_that_do_not_go_with_the_rows_are_refused_where_they_are_needed(
    id2label: Any,
    said: str,
    classifier: Classifier,
    labelled_rows: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = classifier()
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": id2label}))
    with pytest.raises(TunewiseError, match=said):
        tw.load(folder)
    evaluated(folder, labelled_rows)
    assert said in caplog.text and "a new label layer begins" in caplog.text


# A task of words, given a classifier.


def written(folder: Path, rows: Path) -> Predictor:
    task = {"kind": "generation", "template": "{text}", "completion": "{label}"}
    fields = {"model": str(folder), "task": task | {"path": str(rows)}, "train": {"epochs": 0}}
    return tw.load(run(make_config(fields=fields), out=folder.parent / "run").folder)


@every_family
def test_a_classifier_whose_output_layer_is_its_embedding_can_write_and_says_what_is_left_out(
    family: str, classifier: Classifier, labelled_rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = written(classifier(family=family), labelled_rows)
    assert predictor.model.num_labels is None and predictor.model.head_is_tied
    assert "its label layer is left out" in caplog.text


@every_family
def test_a_classifier_without_words_of_its_own_is_no_language_model_but_still_a_classifier(
    family: str, classifier: Classifier, labelled_rows: Path
) -> None:
    folder = classifier(family=family, tied=False)
    with pytest.raises(TunewiseError, match=r"is a classifier: tensor 'lm_head\.weight'"):
        written(folder, labelled_rows)
    record = evaluated(folder, labelled_rows)
    assert_as_in_transformers(record, folder, {name: name for name in LABELS})


def test_weights_that_are_not_finite_are_refused_by_name(
    classifier: Classifier, labelled_rows: Path
) -> None:
    folder = classifier()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["score.weight"][1, 3] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(TunewiseError, match=r"classifier: its weight 'head\.weight' holds NaN"):
        tw.load(folder)


# What an export tells transformers.


@pytest.mark.parametrize(("kind", "longest"), [("lora", None), ("full", 20)])
@every_family
def test_a_text_longer_than_the_model_reads_has_our_probabilities_in_a_pipeline(
    kind: str,
    longest: int | None,
    family: str,
    folders: dict[str, Path],
    labelled_rows: Path,
    tmp_path: Path,
) -> None:
    fields = {
        "model": str(folders[family]),
        "task": {"kind": "classification", "path": str(labelled_rows)},
        "method": kind,
        "train": {"epochs": 1, "learning_rate": 0.01, "precision": "fp32", "max_length": longest},
    }
    folder = run(make_config(fields=fields), out=tmp_path / "run").folder
    export(folder, "hf", tmp_path / "out")
    texts = ["a very long film, " * 10, "short"]
    answers = tw.load(folder).predict({"text": text} for text in texts)
    outs = [tmp_path / "out", *([folder / "model"] if kind == "full" else [])]
    for out in outs:
        theirs = in_transformers(out, texts)
        again = tw.load(out).predict({"text": text} for text in texts)
        for one, expected, other in zip(answers, theirs, again, strict=True):
            assert one["probabilities"] == pytest.approx(expected, abs=1e-5)
            assert other["probabilities"] == pytest.approx(expected, abs=1e-5)
