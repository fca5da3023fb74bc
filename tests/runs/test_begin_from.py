"""A run begins with the trained weights of another, by every method, and nothing is dropped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import TASK_SETTINGS, save_tiny, write_splits

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, ModelError
from tunewise.methods import METHODS
from tunewise.predict import load
from tunewise.run import RunRecord, run
from tunewise.runs.folder import ADAPTER_FILE, CONFIG_FILE

pytestmark = pytest.mark.usefixtures("quick")

Start = Callable[..., RunRecord]
VARIANTS = {
    "dora": ["method.dora=true"],
    "pissa": ["method.init=pissa"],
    "text": ["method=soft_prompt", "method.init=text", "method.text=A film"],
}


@pytest.fixture
def start(model_folder: Path, rows: Path, tmp_path: Path) -> Start:
    """Return a function that runs the tiny model, from another run if one is named."""

    def begin(
        *words: str, out: str, former: str | None = None, task: str = "classification"
    ) -> Any:
        values = {
            "model": str(model_folder),
            "task": {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {}),
            "train": {"epochs": 2, "batch_size": 5, "learning_rate": 0.02, "precision": "fp32"},
        }
        if former is not None:
            values["from"] = str(tmp_path / former)
        return run(make_config(fields=values, overrides=words), out=tmp_path / out)

    return begin


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_without_an_epoch_it_answers_as_the_run_before_it_did(
    name: str, start: Start, tmp_path: Path
) -> None:
    words = VARIANTS.get(name, [f"method={name}"])
    before = start(*words, out="before")
    after = start(*words, "train.epochs=0", "seed=9", out="after", former="before")
    assert after.predictions == before.predictions
    shutil.rmtree(tmp_path / "before")  # the new run has all that it needs
    rows = [{"text": prediction.id} for prediction in after.predictions]
    assert len(load(tmp_path / "after").predict(rows)) == len(rows)


@pytest.mark.parametrize("name", ["full", "lora", "last_layer", "prefix"])
def test_training_goes_on_from_the_weights_of_the_run(name: str, start: Start) -> None:
    before = start(f"method={name}", "train.epochs=6", out="before")
    after = start(f"method={name}", "train.epochs=1", out="after", former="before")
    afresh = start(f"method={name}", "train.epochs=1", out="afresh")
    assert after.steps[0].loss < afresh.steps[0].loss
    assert after.result.metrics["test"]["loss"] == pytest.approx(
        before.result.metrics["test"]["loss"], rel=0.5
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_labels_in_another_order_keep_their_rows(
    method: str, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    before = start(f"method={method}", "task.labels={good: good, bad: bad}", out="before")
    words = (f"method={method}", "task.labels={bad: Bad, good: Good}", "train.epochs=0")
    after = start(*words, out="after", former="before")
    for one, other in zip(before.predictions, after.predictions, strict=True):
        assert other.predicted == one.predicted.capitalize()
        assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-6)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_other_labels_begin_anew_and_that_is_said(
    method: str, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(f"method={method}", out="before")
    other = write_splits(
        tmp_path / "other",
        lambda split: [{"text": f"{split} {n}", "label": f"{n % 3}"} for n in range(12)],
    )
    words = (f"method={method}", f"task.path={other}", "train.epochs=1")
    assert start(*words, out="after", former="before").result.config.task.label_names == (*"012",)
    assert any("is left out" in text and "'good'" in text for text in caplog.messages)
    caplog.clear()
    start(f"method={method}", "train.epochs=1", out="words", former="before", task="generation")
    assert any("left out" in text for text in caplog.messages)


def test_a_run_that_cannot_be_gone_on_from_is_refused(
    start: Start, model_folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    start(out="lora")
    start("method=full", out="full")
    start("method=prefix", out="prefix")
    start("method=last_layer", out="layer")
    other = save_tiny(
        tmp_path / "another", tokenizer=tokenizer, noise=0.3, seed=3, num_layers=2, mlp_dim=32
    )
    refused = {
        ("lora", "method=full"): "method lora, and this has full; for another method, merge its "
        f"weights (tunewise export {tmp_path}/lora --format hf",
        ("full", "method=lora"): f"train on what it has become: --model {tmp_path}/full/model",
        ("prefix", "method=lora"): "so only the same method can go on",
        ("lora", "method.rank=3"): "method.rank 8, and this has 3",
        ("lora", "method.init=pissa"): ", and this has pissa",
        ("lora", f"model={other}"): "trained on another base model",
        ("full", f"model={other}"): "nothing of",
        ("none", "method=lora"): "none",
    }
    for (former, word), message in refused.items():
        words = [word, "method=full"] if (former, word[:5]) == ("full", "model") else [word]
        with pytest.raises((ConfigError, ModelError)) as caught:
            start(*words, out=f"x{former}{len(word)}", former=former)
        assert message in str(caught.value)
    with pytest.raises(ConfigError, match="it trained nothing but an output layer"):
        start("method=last_layer", out="y", former="layer", task="generation")
    (tmp_path / "lora" / "result.json").unlink()
    (tmp_path / "lora" / ADAPTER_FILE).unlink()
    with pytest.raises(ConfigError, match="has not finished"):
        start(out="z", former="lora")


def test_weights_of_another_shape_are_refused(start: Start, tmp_path: Path) -> None:
    before = start(out="before")
    path = before.folder / ADAPTER_FILE
    tensors = load_file(path)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name][:, :1].contiguous()}, path)
    with pytest.raises(ModelError, match="has shape"):
        start(out="after", former="before")


def test_it_is_said_whether_the_rows_are_as_then(start: Start, rows: Path, tmp_path: Path) -> None:
    from tunewise.runs.progress import Progress

    told: list[str] = []

    class Listening(Progress):
        def begins(self, lines: Any) -> None:
            told.extend(lines)

    own = tmp_path / "own"
    shutil.copytree(rows, own)
    before = start(f"task.path={own}", "train.epochs=0", out="before")
    assert {size.hash for size in before.result.data.values()} != {""}
    config = make_config(before.folder / CONFIG_FILE)
    run(config, None, tmp_path / "again", Listening(), repeats=before.folder)
    assert told[-1] == f"rows as in {before.folder}"
    path = own / "train.jsonl"
    path.write_text(path.read_text().replace("fine", "good"))
    run(config, None, tmp_path / "changed", Listening(), repeats=before.folder)
    assert told[-1] == f"rows differ from those of {before.folder}: train"
    assert len(told) == 6
