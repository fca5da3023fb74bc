"""Adapters that PEFT wrote give the same answers here, can be trained further, and go back."""

from math import log
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tiny import every_family

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.interop import export
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.folder import read_result
from tunewise.runs.model import load_trained

from .in_peft import (
    TASK,
    Logits,
    Trained,
    assert_same_answers,
    in_peft,
    read,
    shaken,
    written_by_peft,
)

# PEFT asks transformers by a name that transformers is about to retire, and warns of a tied layer.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]


LORAS: dict[str, dict[str, Any]] = {
    "c_attn alone": {"target_modules": ["c_attn"]},
    "every layer": {"target_modules": ["c_attn", "c_proj", "c_fc"]},
    "rsLoRA": {"target_modules": ["c_attn", "c_fc"], "use_rslora": True, "lora_alpha": 7},
    "patterns": {
        "target_modules": ["c_attn", "mlp.c_proj"],
        "rank_pattern": {"attn.c_attn": 5, r"h\.1\.mlp\.c_proj": 1},
        "alpha_pattern": {r"h\.[02]\.attn\.c_attn": 9},
    },
    "some blocks": {"target_modules": ["c_attn"], "layers_to_transform": [0, 2]},
    "output layer": {"target_modules": ["c_fc", "lm_head"]},
    "DoRA": {"target_modules": ["c_attn", "c_proj", "c_fc"], "use_dora": True},
    "DoRA of the output layer": {
        "target_modules": ["c_attn", "lm_head"],
        "use_dora": True,
        "use_rslora": True,
    },
}
NAMES = {"c_attn": ("q_proj", "v_proj"), "c_proj": ("out_proj", "c_proj")}
"""GPT-Neo's names of GPT-2's layers, where they differ."""


def of_family(family: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the same fields for GPT-Neo, whose attention has other names."""
    if family == "gpt2":
        return fields
    targets = [name for target in fields["target_modules"] for name in NAMES.get(target, (target,))]
    changed = {"target_modules": targets}
    if "rank_pattern" in fields:
        changed |= {
            "rank_pattern": {"attention.q_proj": 5, r"h\.1\.mlp\.c_proj": 1},
            "alpha_pattern": {r"h\.[02]\.attn\.attention\.v_proj": 9},
        }
    return fields | changed


@every_family
@pytest.mark.parametrize("name", LORAS)
def test_a_lora_that_peft_wrote_answers_alike_here(
    name: str,
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    fields = {"r": 3, "lora_alpha": 4, "fan_in_fan_out": family == "gpt2"} | LORAS[name]
    config = peft.LoraConfig(task_type="CAUSAL_LM", **of_family(family, fields))
    theirs = written_by_peft(folders[family], tmp_path, config)
    ours = read(folders[family], TASK, tokenizer, kind="lora", **{"from": str(tmp_path)})
    assert_same_answers(ours, theirs, tokenizer, our_logits)


@every_family
@pytest.mark.parametrize("kind", ["lora", "soft_prompt"])
def test_the_label_layer_that_peft_wrote_comes_along(
    kind: str,
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    config = (
        peft.LoraConfig(task_type="SEQ_CLS", r=2, fan_in_fan_out=family == "gpt2")
        if kind == "lora"
        else peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    )
    theirs = written_by_peft(folders[family], tmp_path, config, num_labels=3)
    task = {"kind": "classification", "labels": {"a": "a", "b": "b", "c": "c"}}
    ours = read(folders[family], task, tokenizer, kind=kind, **{"from": str(tmp_path)})
    prefix = 3 if kind == "soft_prompt" else 0
    assert_same_answers(ours, theirs, tokenizer, our_logits, prefix)
    with pytest.raises(TunewiseError, match="layer over 3 labels; the task has none"):
        read(folders[family], TASK, tokenizer, kind=kind, **{"from": str(tmp_path)})
    two = {"kind": "classification", "labels": {"a": "a", "b": "b"}}
    with pytest.raises(TunewiseError, match=r"label layer has shape \[3, 16\]"):
        read(folders[family], two, tokenizer, kind=kind, **{"from": str(tmp_path)})


@every_family
def test_an_adapter_is_trained_on_and_goes_back_to_peft(
    family: str,
    trained: Trained,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    fields = of_family(family, {"target_modules": ["c_attn"]})
    config = peft.LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2", r=2, **fields)
    written_by_peft(folders[family], tmp_path / "theirs", config)
    method = {"kind": "lora", "from": str(tmp_path / "theirs")}
    start = read(folders[family], TASK, tokenizer, **method)
    folder = trained(family, method)
    export(folder, "peft", tmp_path / "back")
    _, model, _ = load_trained(folder)
    moved = dict(model.trainable())
    assert all(not torch.equal(moved[name], before) for name, before in start.trainable())
    theirs = in_peft(tmp_path / "back", folders[family])
    assert_same_answers(model, theirs, tokenizer, our_logits)


@pytest.mark.parametrize("kind", ["lora", "soft_prompt"])
def test_without_an_epoch_an_adapter_is_evaluated_as_it_is(
    kind: str, trained: Trained, tmp_path: Path
) -> None:
    folder = shaken(trained("gpt2", {"kind": kind}, "labels"))
    export(folder, "peft", tmp_path / "out")
    result = read_result(folder)
    assert result is not None
    config = result.config
    values = config.model_dump() | {"method": {"kind": kind, "from": str(tmp_path / "out")}}
    record = run(make_config(fields=values, overrides=["train.epochs=0"]), out=tmp_path / "again")
    answers = load(folder).predict([row.values for row in config.task.rows("test", None)])
    assert record.result.best.epoch == 0
    assert [p.predicted for p in record.predictions] == [answer["label"] for answer in answers]
    for prediction, answer in zip(record.predictions, answers, strict=True):
        expected = log(answer["probabilities"][prediction.expected])
        assert prediction.log_likelihood == pytest.approx(expected, abs=1e-4)


@every_family
def test_a_soft_prompt_that_peft_wrote_answers_alike_here(
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    theirs = written_by_peft(folders[family], tmp_path, config)
    ours = read(folders[family], TASK, tokenizer, kind="soft_prompt", **{"from": str(tmp_path)})
    assert_same_answers(ours, theirs, tokenizer, our_logits, prefix=5)
