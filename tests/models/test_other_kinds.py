"""A folder or file that is given as a model and is none is recognised, and told what to write."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import save_tiny

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ModelError
from tunewise.models.folder import find_folder, load_model
from tunewise.run import run


def message(name: str | Path) -> str:
    """Return what is said to a model's name that cannot be used."""
    with pytest.raises(ModelError) as caught:
        load_model(find_folder(str(name)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder: Path, **texts: str) -> Path:
    """Write files; `__` in a name stands for a folder, and the last `_` for the point."""
    for name, text in texts.items():
        *parents, last = name.split("__")
        path = folder.joinpath(*parents, ".".join(last.rsplit("_", 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


LORA = '{"peft_type": "LORA", "base_model_name_or_path": "gpt2"}'
IA3 = '{"peft_type": "IA3", "base_model_name_or_path": "gpt2"}'
SOFT = '{"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "me/mine"}'
UNFINISHED = "model: gpt2\nmethod: {kind: lora}\n"

FOLDERS: dict[str, tuple[dict[str, str], list[str]]] = {
    "an adapter of PEFT": (
        {"adapter_config_json": LORA, "adapter_model_safetensors": ""},
        ["an adapter that PEFT wrote (LORA)", "--model gpt2", "kind: lora, from: {folder}"],
    ),
    "a soft prompt of PEFT": (
        {"adapter_config_json": SOFT},
        ["--model me/mine", "kind: soft_prompt, from: {folder}"],
    ),
    "an adapter that no method begins with": (
        {"adapter_config_json": IA3},
        ["IA3", "merge_and_unload"],
    ),
    "an adapter beside the configuration of its base": (
        {"config_json": '{"model_type": "gpt2"}', "adapter_config_json": LORA},
        ["an adapter that PEFT wrote (LORA)"],
    ),
    "a broken adapter": ({"adapter_config_json": "{"}, ["adapter", "merge_and_unload"]),
    "an unfinished run": (
        {"config_yaml": UNFINISHED, "lock_": ""},
        ["a run that has not finished", "gpt2"],
    ),
    "a run whose configuration is broken": (
        {"config_yaml": "{", "result_json": "{}"},
        ["the folder of a run", "tunewise export {folder}"],
    ),
    "a study": (
        {"study_yaml": "", "runs__a__config_yaml": UNFINISHED},
        ["the folder of a study", "{folder}/runs"],
    ),
    "what a trainer wrote": (
        {f"checkpoint-{n}__config_json": "{}" for n in (500, 1000, 90)},
        ["checkpoints of a training", "{folder}/checkpoint-1000"],
    ),
    "what a trainer of adapters wrote": (
        {f"checkpoint-{n}__adapter_config_json": LORA for n in (5, 10)},
        ["{folder}/checkpoint-10"],
    ),
    "the hub's cache": (
        {"snapshots__abc__config_json": "{}", "refs__main_": "abc"},
        ["{folder}/snapshots/abc"],
    ),
    "a folder of models": (
        {"mine__config_json": "{}", "yours__config_json": "{}"},
        ["folders of models", "{folder}/mine"],
    ),
    "weights of llama.cpp": ({"small-q4_gguf": ""}, ["small-q4.gguf", "GGUF"]),
    "pickled weights": ({"pytorch_model_bin": ""}, ["pytorch_model.bin is a pickle"]),
    "pickled weights with a configuration": (
        {"config_json": '{"model_type": "gpt2"}', "pytorch_model_bin": ""},
        ["pytorch_model.bin is a pickle"],
    ),
    "weights of TensorFlow": ({"tf_model_h5": ""}, ["tf_model.h5", "TensorFlow"]),
    "weights of Flax": ({"flax_model_msgpack": ""}, ["flax_model.msgpack", "Flax"]),
    "weights under another name": (
        {"config_json": '{"model_type": "gpt2"}', "weights_safetensors": ""},
        ["no model.safetensors", "weights.safetensors is not read under that name"],
    ),
    "a tokenizer alone": ({"tokenizer_json": "{}", "vocab_txt": ""}, ["a tokenizer and no model"]),
    "rows": ({"train_jsonl": "{}", "test_jsonl": "{}"}, ["it holds rows", "--data or task.path"]),
    "nothing": ({}, ["it is empty"]),
    "a folder of runs": (
        {"b__config_yaml": UNFINISHED, "a__config_yaml": UNFINISHED},
        ["it holds the folders of runs, such as {folder}/a"],
    ),
    "a folder of another program's": (
        {"config_yaml": "learning_rate: 1", "sub__config_yaml": "a: 1"},
        ["no such file; a model folder has config.json"],
    ),
    "anything else": ({"notes_md": ""}, ["a model folder has config.json"]),
    "a model without its kind": ({"config_json": "{}"}, ["model_type None", "known: gpt2"]),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_another_kind_is_told_what_to_write(kind: str, tmp_path: Path) -> None:
    texts, expected = FOLDERS[kind]
    if "model_type" in texts.get("config_json", ""):
        shape = save_tiny(tmp_path / "shape") / "config.json"
        texts = texts | {"config_json": shape.read_text()}
    folder = tmp_path / "folder"
    folder.mkdir()
    found = message(files(folder, **texts))
    assert found.startswith(str(folder))
    for words in expected:
        assert words.format(folder=folder) in found, found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small-q4_gguf", "GGUF"),
        ("pytorch_model_bin", "is a pickle"),
        ("best_pt", "is a pickle"),
        ("study_yaml", "tunewise run {file}"),
        ("model_safetensors", "a model folder has config.json"),
        ("rows_jsonl", "is a file of rows; write it as task.path={file}"),
        ("notes_md", "is a file; a model folder has"),
        ("model__model_safetensors", "write its folder, {file.parent}"),
        ("model__config_json", "write its folder, {file.parent}"),
    ],
)
@pytest.mark.parametrize("is_relative", [False, True])  # which looks like OWNER/NAME of the hub
def test_a_file_is_told_what_to_write(
    name: str, expected: str, is_relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    folder = Path(tmp_path.name) if is_relative else tmp_path
    texts = {name: "", **({"model__config_json": "{}"} if name.startswith("model__") else {})}
    files(folder, **texts)
    file = folder.joinpath(".".join(name.rsplit("_", 1)).replace("__", os.sep))
    found = message(file)
    assert found.startswith(str(file))
    assert expected.format(file=file) in found


@pytest.fixture
def finished(quick: None, model_folder: Path, rows: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that trains by a method and returns the run's folder."""

    def train(method: str) -> Path:
        fields = {
            "model": str(model_folder),
            "task": {"kind": "classification", "path": str(rows)},
            "method": method,
            "train": {"epochs": 1, "checkpoint_every": 1},
        }
        return run(make_config(fields=fields), out=tmp_path / method).folder

    return train


def test_what_a_run_leaves_is_recognised_in_every_part(
    finished: Callable[[str], Path], model_folder: Path, tokenizer: Tokenizer
) -> None:
    folder = finished("lora")
    said = message(folder)
    assert f"the folder of a run that trained lora on the model {model_folder}" in said
    assert f"tunewise export {folder} --format hf" in said and "method.from" in said
    assert f"it holds the trained weights of {folder}, the folder of a run" in message(
        folder / "adapter"
    )
    (folder / "checkpoint").mkdir(exist_ok=True)
    assert f"it holds the checkpoints of {folder}, the folder of a run" in message(
        folder / "checkpoint"
    )
    whole = finished("full")
    assert message(whole).endswith(f"it is the folder of a run; its model is {whole / 'model'}")
    load_model(whole / "model")
    assert json.loads((whole / "model" / "config.json").read_text())["id2label"]
