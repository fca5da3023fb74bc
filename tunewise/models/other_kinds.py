"""Files and folders that are given as a model and are none: what each is, and what to write."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yaml import YAMLError

from tunewise.yaml import load_yaml

CONFIG = "config.json"
NEEDED = f"a model folder has {CONFIG}, model.safetensors and a tokenizer"
RUN_CONFIG = "config.yaml"
LEFT_BY_A_RUN = ("result.json", "metrics.jsonl", "adapter/adapter.safetensors", "error.json")
PARTS_OF_A_RUN = {"adapter": "the trained weights", "checkpoint": "the checkpoints"}
"""Folders in the folder of a run, and what they hold."""
METHODS_OF_PEFT = {"LORA": "lora", "PROMPT_TUNING": "soft_prompt"}
"""The methods that begin with an adapter of PEFT, by its `peft_type`."""
OTHER_WEIGHTS = {
    "*.bin": "pickle",
    "*.pt": "pickle",
    "*.pth": "pickle",
    "*.ckpt": "pickle",
    "*.pkl": "pickle",
    "*.gguf": "GGUF",
    "*.h5": "TensorFlow",
    "*.msgpack": "Flax",
    "*.onnx": "ONNX",
}
"""Patterns of files with weights that are not read here, and their kinds."""
ROWS = ("*.jsonl", "*.csv", "*.tsv", "*.parquet", "*.txt")


def describe(folder: Path) -> str:
    """Return what a folder without a model is, and what to write instead."""
    kinds: tuple[Callable[[Path], str | None], ...] = (
        _run,
        _part_of_a_run,
        _study,
        _adapter,
        _folder_of_models,
        _other_weights,
        _rows,
    )
    try:
        return next(filter(None, (kind(folder) for kind in kinds)), NEEDED)
    except OSError:  # it may not be looked into
        return NEEDED


def describe_file(file: Path) -> str:
    """Return what a file is that is given as a model, and what to write instead."""
    if file.suffix in (".yaml", ".yml"):
        return f"is a configuration; write it without --model: tunewise run {file}"
    for pattern, kind in OTHER_WEIGHTS.items():
        if file.match(pattern):
            return _advice(file.name, kind)
    if any(file.match(pattern) for pattern in ROWS):
        return f"is a file of rows; write it as task.path={file}, with task.kind"
    if (file.parent / CONFIG).is_file():
        return f"is a file of a model; write its folder, {file.parent}"
    return f"is a file; {NEEDED}"


def _run(folder: Path) -> str | None:
    return f"it is {_advice_on_run(folder)}" if _is_run(folder) else None


def _is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run: other programs have a config.yaml too."""
    if not (folder / RUN_CONFIG).is_file():
        return False
    return any((folder / name).exists() for name in LEFT_BY_A_RUN) or "method: " in (
        (folder / RUN_CONFIG).read_text("utf-8", errors="replace")
    )


def _part_of_a_run(folder: Path) -> str | None:
    whole, name = folder.absolute().parent, folder.absolute().name
    if name not in PARTS_OF_A_RUN or not _is_run(whole):
        return None
    return f"it holds {PARTS_OF_A_RUN[name]} of {whole}, {_advice_on_run(whole)}"


def _advice_on_run(folder: Path) -> str:
    if (folder / "model" / CONFIG).is_file():
        return f"the folder of a run; its model is {folder / 'model'}"
    base, method = _base_and_method(folder / RUN_CONFIG)
    if not (folder / "result.json").is_file():
        return f"the folder of a run that has not finished; its base model is {base}"
    further = (
        f"; or to --format peft, and write --model {base} with method.from=NEW"
        if method in METHODS_OF_PEFT.values()
        else ""
    )
    return (
        f"the folder of a run that trained {method} on the model {base}, which predict, generate "
        f"and serve take as it is; to train further, export it (tunewise export {folder} --format "
        f"hf --out NEW) and write --model NEW{further}"
    )


def _base_and_method(config: Path) -> tuple[str, str]:
    """Return the base model and the method that a run's configuration names."""
    try:
        values = load_yaml(config.read_text("utf-8"))
        return str(values["model"]), str(values["method"]["kind"])
    except (OSError, ValueError, LookupError, TypeError, YAMLError):
        return "of its configuration", "an adapter"


def _study(folder: Path) -> str | None:
    if not (folder / "study.yaml").is_file():
        return None
    return f"it is the folder of a study; its runs are in {folder / 'runs'}"


def _adapter(folder: Path) -> str | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    values = _read(path)
    base, kind = values.get("base_model_name_or_path") or "its base model", values.get("peft_type")
    method = METHODS_OF_PEFT.get(str(kind))
    way = (
        f'write --model {base} and method="{{kind: {method}, from: {folder}}}"'
        if method
        else "merge it in PEFT (merge_and_unload, then save_pretrained) and give that folder"
    )
    return f"it is an adapter that PEFT wrote ({kind}) for {base}, and no model: {way}"


def _folder_of_models(folder: Path) -> str | None:
    """Return what is told of a folder of folders: of a trainer, of the hub's cache, of runs."""
    inside = [path.parent for path in (*folder.glob(f"*/{CONFIG}"), *folder.glob(f"*/*/{CONFIG}"))]
    inside += [path.parent for path in folder.glob("checkpoint-*/adapter_config.json")]
    if not inside:
        runs = sorted(p.parent for p in folder.glob(f"*/{RUN_CONFIG}") if _is_run(p.parent))
        return f"it holds the folders of runs, such as {runs[0]}" if runs else None
    newest = max(inside, key=_number)
    if _number(newest) >= 0:
        return f"it holds the checkpoints of a training; write one of them, such as {newest}"
    return f"it holds folders of models; write one of them, such as {min(inside)}"


def _number(folder: Path) -> int:
    """Return the number of a trainer's checkpoint; -1 for any other folder."""
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() and number != folder.name else -1


def _other_weights(folder: Path) -> str | None:
    for pattern, kind in OTHER_WEIGHTS.items():
        for file in sorted(folder.glob(pattern)):
            return _advice(file.name, kind)
    if others := sorted(path.name for path in folder.glob("*.safetensors")):
        return f"{others[0]} is not read under that name"
    return None


def _advice(name: str, kind: str) -> str:
    if kind == "pickle":
        return (
            f"{name} is a pickle, which can run any code when it is opened; "
            "convert it to model.safetensors (in transformers: save_pretrained)"
        )
    return (
        f"{name} holds weights of {kind}, which is not read here; give the folder that they were "
        "made from, or one that transformers' save_pretrained wrote"
    )


def _rows(folder: Path) -> str | None:
    files = sorted(path.name for pattern in ROWS for path in folder.glob(pattern))
    if any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return f"it holds a tokenizer and no model; {NEEDED}"
    if files:
        return f"it holds rows ({files[0]}), which --data or task.path takes; {NEEDED}"
    return None if os.listdir(folder) else f"it is empty; {NEEDED}"


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; nothing if it holds anything else."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
