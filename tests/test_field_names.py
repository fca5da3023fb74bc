"""A field under another program's name, or in another part, is answered with its name here."""

from pathlib import Path

import pytest

from tunewise.config import RunConfig, make_config
from tunewise.errors import ConfigError
from tunewise.field_names import OTHER_NAMES, our_name, places_of


def message(*words: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        make_config(path, {}, words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("train.lr=1e-4", "'learning_rate'"),
        ("train.LR=1e-4", "'learning_rate'"),
        ("train.bs=8", "'batch_size'"),
        ("train.batch-size=8", "'batch_size'"),
        ("train.per_device_train_batch_size=8", "'batch_size'"),
        ("train.max_len=64", "'max_length'"),
        ("train.num_train_epochs=3", "'epochs'"),
        ("train.gradient_checkpointing=true", "'checkpointing'"),
        ("method.r=8", "'rank'"),
        ("method.lora_alpha=8", "'alpha'"),
        ("method.target_modules=[query]", "'targets'"),
        ("lr=1e-4", "'train.learning_rate'"),
        ("train.optimizer.lr=1e-4", "'train.learning_rate'"),
        ("rank=8", "'method.rank'"),
        ("train.rank=8", "'method.rank'"),
        ("method.epochs=3", "'train.epochs'"),
        ("dropout=0.1", "'method.dropout' or 'train.dropout'"),
        ("max_new_tokens=8", "'task.decoding.max_new_tokens'"),
        ("train.seed=3", "'seed'"),
        ("label=stars", "'task.label'"),
        ("base_model=gpt2", "'model'"),
    ],
)
def test_the_field_that_is_meant_is_named(word: str, meant: str) -> None:
    assert f"did you mean {meant}?" in message(word)


def test_every_name_leads_to_a_field_and_none_is_a_field_itself() -> None:
    fields = {
        path.rpartition(".")[2] for name in OTHER_NAMES for path in places_of(RunConfig, name)
    }
    assert fields == set(OTHER_NAMES)
    others = [other for names in OTHER_NAMES.values() for other in names.split()]
    assert len(others) == len(set(others))
    assert all(our_name(other, list(OTHER_NAMES)) in OTHER_NAMES for other in others)


WHOLE, NUMBER = "a whole number is needed, without a unit", "a number is needed, with a point"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("train.epochs=8k", f"train.epochs: {WHOLE}"),
        ("train.max_length=512 tokens", f"train.max_length: {WHOLE}"),
        ("train.batch_size=1,000", f"train.batch_size: {WHOLE}"),
        ("train.epochs=1.5", f"train.epochs: {WHOLE}"),
        ("train.epochs=", "(found null)"),
        ("train.learning_rate=0,5", f"train.learning_rate: {NUMBER}"),
        ("method.dropout=10%", f"method.dropout: {NUMBER}"),
        ("train.epochs=true", f"train.epochs: {NUMBER}"),
        ("train.warmup=false", f"train.warmup: {NUMBER}"),
        ("seed=yes", f"seed: {WHOLE}"),
        ("train.checkpointing=perhaps", "train.checkpointing: true or false is needed"),
        ("train=fast", "train: fields are needed: `name: value`"),
        ("train.early_stopping=true", "train.early_stopping: fields are needed"),
        ("train.trackers=wandb", "train.trackers: a list is needed"),
        ("task.labels=[a, b]", "task.labels: fields are needed"),
        ("model=3", "model: a text is needed"),
        ("task.samples={train: some}", f"task.samples.train: {WHOLE}"),
    ],
)
def test_a_value_of_another_type_is_answered_with_the_type_in_plain_words(
    word: str, said: str
) -> None:
    found = message(word)
    assert said in found
    assert "valid" not in found


@pytest.mark.parametrize("value", ["true", "True", "yes", "on", "1"])
def test_a_truth_value_may_be_written_in_any_usual_way(value: str) -> None:
    assert make_config(overrides=[f"train.checkpointing={value}"]).train.checkpointing is True


def test_a_study_that_is_taken_for_a_run_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "ranks.yaml"
    path.write_text("name: ranks\nvary: {method.rank: [1, 2]}")
    assert message(path=path) == f"{path}: is a study, not a run; write `tunewise study {path}`"


def test_what_is_wrong_on_the_command_line_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train: {epochs: 2}")
    for word in ("train.epochs=two", "method=lra", "train.lr=1", "train.min_learning_rate=1"):
        assert message(word, path=path).startswith(f"the command line, over {path}: ")
    path.write_text("train: {epochs: two}")
    for words in ([], ["train.batch_size=3"], ["train.batch_size=x"]):
        assert message(*words, path=path).startswith(f"{path}: train.epochs: ")
    assert make_config(path, overrides=["train.epochs=3"]).train.epochs == 3
