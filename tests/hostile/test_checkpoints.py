"""Checkpoints that lie are refused, and nothing of them is believed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tunewise.config import make_config
from tunewise.run import run
from tunewise.runs.folder import CHECKPOINT_FOLDER

from .conftest import Copy, Tensors, refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_the_cpu")]


Values = dict[str, Any]


def without(name: str) -> Callable[[Tensors, Values], Any]:
    def change(tensors: Tensors, values: Values) -> None:
        for one in [one for one in tensors if one.startswith(name)][:1]:
            del tensors[one]
        values.pop(name, None)

    return change


def narrower(tensors: Tensors, values: Values) -> None:
    name = next(name for name in tensors if name.startswith("weights."))
    tensors[name] = tensors[name][:, :1].repeat(1, 7).contiguous()


CHECKPOINTS: dict[str, Callable[[Tensors, Values], Any]] = {
    "no weights": without("weights."),
    "no state of chance": without("chance"),
    "no rows": without("rows"),
    "no best": without("best"),
    "no validation": without("validation"),
    "no seconds": without("evaluation_seconds"),
    "weights of another shape": narrower,
    "a short state of chance": lambda t, v: t.update(chance=t["chance"][:10].clone()),
    "an optimizer of more parameters": lambda t, v: t.update(
        {"optimizer.first.exp_avg": torch.zeros(2)}
    ),
    "a list in place of values": lambda t, v: v.update(best=[1]),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_whole_checkpoint_that_is_none_of_this_run_is_refused(
    stopped: Path, copy: Copy, what: str
) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    with safe_open(last, "pt") as file:
        metadata = file.metadata()
    tensors, values = load_file(last), json.loads(metadata["values"])
    CHECKPOINTS[what](tensors, values)
    last.unlink()
    save_file(tensors, last, metadata | {"values": json.dumps(values)})
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    message = refusal(lambda: run(config, out=folder, resume=True))
    assert "not a checkpoint of this run" in message


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"number": "2"}, {"number": "two", "values": "{}"}, {"number": "2", "values": "{"}],
)
def test_a_checkpoint_without_its_values_is_refused(
    stopped: Path, copy: Copy, metadata: dict[str, str] | None
) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    tensors = load_file(last)
    last.unlink()
    save_file(tensors, last, metadata)
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    assert "checkpoint" in refusal(lambda: run(config, out=folder, resume=True))


def test_a_checkpoint_that_is_no_safetensors_file_is_refused(stopped: Path, copy: Copy) -> None:
    folder = copy(stopped)
    last = max((folder / CHECKPOINT_FOLDER).glob("*.safetensors"))
    last.write_bytes(b"\x80\x04.")  # a pickle
    rename_by_content(last)
    config = make_config(folder / "config.yaml")
    assert "not a sound safetensors" in refusal(lambda: run(config, out=folder, resume=True))


def rename_by_content(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    path.rename(path.with_name(f"{path.stem.partition('-')[0]}-{digest}.safetensors"))
