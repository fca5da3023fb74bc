"""Adapters that PEFT wrote give the same answers here, can be trained further, and go back."""

import re
from math import log
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import add_noise, every_family

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
    in_their_names,
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
    "keys alone, or with what they are fused to": {"target_modules": ["<key>"]},
    "every layer": {"target_modules": ["<query>", "<key>", "<value>", "<out>", "<up>", "<down>"]},
    "all-linear": {"target_modules": "all-linear"},
    "rsLoRA": {"target_modules": ["<query>", "<up>"], "use_rslora": True, "lora_alpha": 7},
    "patterns": {
        "target_modules": ["<value>", "<down>"],
        "rank_pattern": {"<value>": 5, r"h\.1\.<down>": 1},
        "alpha_pattern": {r"h\.[02]\.<value>": 9, r".*\.(mlp|moe)\..*": 3},
    },
    "a pattern of targets": {"target_modules": r".*\.h\.\d+\.(<query>|<up>)"},
    "excluded names": {"target_modules": ["<out>", "<up>"], "exclude_modules": ["h.0.<out>"]},
    "an excluded pattern": {"target_modules": ["<up>"], "exclude_modules": r".*\.[12]\..*"},
    "some blocks": {"target_modules": ["<query>"], "layers_to_transform": [0, 2]},
    "one block of a list": {
        "target_modules": ["<out>"],
        "layers_to_transform": 1,
        "layers_pattern": "h",
    },
    "a name in full": {
        "target_modules": ["transformer.h.1.<out>", "<up>"],
        "layers_to_transform": [0],
    },
    "names that other models have": {"target_modules": ["<query>", "gate_proj"]},
    "orthogonal": {"target_modules": ["<query>"], "init_lora_weights": "orthogonal", "r": 4},
    "mica": {"target_modules": ["<query>"], "init_lora_weights": "mica"},
    "output layer": {"target_modules": ["<up>", "lm_head"]},
    "DoRA": {"target_modules": ["<value>", "<out>", "<down>"], "use_dora": True},
    "DoRA of the output layer": {
        "target_modules": ["<query>", "lm_head"],
        "use_dora": True,
        "use_rslora": True,
    },
}


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
    fields = {"r": 3, "lora_alpha": 4} | in_their_names(LORAS[name], folders[family])
    config = peft.LoraConfig(task_type="CAUSAL_LM", **fields)
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
    fields = in_their_names({"target_modules": ["<query>"]}, folders[family])
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, **fields)
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
    assert [p.predicted for p in record.predictions] == [answer["predicted"] for answer in answers]
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


@every_family
@pytest.mark.parametrize("peft_type", ["lora", "soft_prompt"])
@pytest.mark.parametrize("num_labels", [None, 3])
def test_copies_of_untouched_weights_are_known_as_such(
    num_labels: int | None,
    peft_type: str,
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    task_type, task = "CAUSAL_LM", TASK
    if num_labels is not None:
        labels = {"a": "a", "b": "b", "c": "c"}
        task_type, task = "SEQ_CLS", {"kind": "classification", "labels": labels}
    config: peft.PeftConfig = peft.LoraConfig(task_type=task_type, r=2)
    if peft_type == "soft_prompt":
        config = peft.PromptTuningConfig(task_type=task_type, num_virtual_tokens=3)
    theirs = written_by_peft(
        folders[family], tmp_path, config, num_labels, save_embedding_layers=True
    )
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert any(name.endswith("transformer.wte.weight") for name in saved)
    ours = read(folders[family], task, tokenizer, kind=peft_type, **{"from": str(tmp_path)})
    prefix = 3 if peft_type == "soft_prompt" else 0
    assert_same_answers(ours, theirs, tokenizer, our_logits, prefix)


@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights")
@every_family
def test_a_pissa_adapter_that_peft_made_a_plain_one_of_answers_alike(
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    targets = in_their_names({"target_modules": ["<query>", "<up>"]}, folders[family])
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights="pissa", **targets)
    bare = transformers.AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
    theirs = peft.get_peft_model(bare, config).eval()
    theirs.save_pretrained(tmp_path / "start")
    add_noise((p for p in theirs.parameters() if p.requires_grad), 0.3)
    theirs.save_pretrained(tmp_path / "as it is")
    theirs.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    method = {"kind": "lora", "from": str(tmp_path / "plain")}
    assert_same_answers(
        read(folders[family], TASK, tokenizer, **method), theirs, tokenizer, our_logits
    )
    with pytest.raises(TunewiseError, match=r"'pissa', which is not supported; .*merge_and_unload"):
        read(folders[family], TASK, tokenizer, **method | {"from": str(tmp_path / "as it is")})


@every_family
def test_names_of_tensors_are_read_as_peft_reads_them(
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, use_dora=True)
    written_by_peft(folders[family], tmp_path, config)
    path = tmp_path / "adapter_model.safetensors"
    kept = {
        re.sub("(lora_[AB])", r"\1.default", name).replace(
            "vector", "vector.default.weight"
        ): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(kept, path)
    ours = read(folders[family], TASK, tokenizer, kind="lora", **{"from": str(tmp_path)})
    theirs = in_peft(tmp_path, folders[family])
    assert_same_answers(ours, theirs, tokenizer, our_logits)
    with theirs.disable_adapter(), pytest.raises(AssertionError):
        assert_same_answers(ours, theirs, tokenizer, our_logits)
