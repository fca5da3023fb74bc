"""PEFT loads what we export and answers alike."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tiny import batch_of, every_family, their_layers

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.interop import export
from tunewise.methods import METHODS
from tunewise.methods.lora import HEAD
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model
from tunewise.runs.model import adapted_model, load_trained

from .in_peft import (
    TASK,
    TEXTS,
    Logits,
    Trained,
    assert_same_answers,
    in_peft,
    read,
    shaken,
    write,
    written_by_us,
)

# PEFT asks transformers by a name that transformers is about to retire, and warns of a tied layer.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]
OTHER_METHODS: list[dict[str, Any]] = [
    {"kind": "soft_prompt", "tokens": 4},
    {"kind": "prefix", "tokens": 4},
    {"kind": "ia3"},
]
"""The methods besides LoRA that PEFT has too."""
SUBSETS = [list(some) for size in range(1, 7) for some in combinations(LanguageModel.layers, size)]


@every_family
def test_lora_on_any_layers_answers_alike_in_peft_and_when_it_comes_back(
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    generator = torch.Generator().manual_seed(0)
    base = folders[family]
    is_fused = any(len(paths) > 1 for paths in their_layers(load_model(base)).values())
    for number, targets in enumerate(SUBSETS):
        if not is_fused and 2 < len(targets) < len(LanguageModel.layers):
            continue  # each layer is one there too, so that they are told apart by two at a time
        method = {"kind": "lora", "rank": 2, "alpha": 3, "targets": targets}
        config = make_config(fields={"model": str(base), "task": TASK, "method": method})
        model = adapted_model(config, base, tokenizer).eval()
        for _, parameter in model.trainable():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        out = tmp_path / str(number)
        out.mkdir()
        write(model, config, base, out)
        theirs = in_peft(out, base)
        assert_same_answers(model, theirs, tokenizer, our_logits)
        config = make_config(
            fields={"model": str(base), "task": TASK, "method": {"kind": "lora", "from": str(out)}}
        )
        back = adapted_model(config, base, tokenizer).eval()
        found, expected = dict(back.trainable()), dict(model.trainable())
        assert found.keys() == expected.keys()
        for name, parameter in expected.items():
            assert torch.equal(found[name], parameter), name


@every_family
@pytest.mark.parametrize("targets", ["query", "key value", "query key value", "value out up"])
@pytest.mark.parametrize("variant", [{"dora": True}, {"init": "pissa"}], ids=str)
def test_a_variant_answers_alike_in_peft_and_when_it_comes_back(
    variant: dict[str, Any],
    targets: str,
    family: str,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    base = folders[family]
    model = written_by_us(base, tmp_path, tokenizer, rank=2, targets=targets.split(), **variant)
    theirs = in_peft(tmp_path, base)
    assert_same_answers(model, theirs, tokenizer, our_logits)
    back = read(base, TASK, tokenizer, kind="lora", **{"from": str(tmp_path)})
    assert_same_answers(back, theirs, tokenizer, our_logits)
    found, expected = dict(back.trainable()), dict(model.trainable())
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        if "dora" in variant:
            assert torch.equal(found[name], parameter), name
        else:  # what PiSSA took out of the base model is in the update: twice the rank
            assert found[name].numel() == 2 * parameter.numel(), name


@pytest.mark.parametrize("init", ["kaiming", "pissa"])
def test_a_joint_dora_has_the_gradients_of_its_parts(
    init: str, folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    base, parts = folders["gpt2"], ("query", "key", "value")
    model = written_by_us(
        base, tmp_path, tokenizer, rank=2, targets=parts, blocks=[1], dora=True, init=init
    )
    bare = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path, is_trainable=True).eval()
    ids = torch.tensor(tokenizer.tokenize(TEXTS)[0])
    hidden = model.hidden(batch_of(ids))
    model.logits(hidden).square().sum().backward()
    theirs(input_ids=ids[None]).logits.square().sum().backward()
    stem = "base_model.model.transformer.h.1.attn.c_attn.lora_"
    joint = {
        kind: theirs.get_parameter(f"{stem}{name}.default.weight").grad
        for kind, name in (("A", "A"), ("B", "B"), ("magnitude", "magnitude_vector"))
    }
    rank = len(joint["A"]) // 3  # after PiSSA: the trained components, then what they began as
    for number, part in enumerate(parts):
        layer = model.get_submodule(f"blocks.1.attention.{part}")
        components = slice(number * rank, number * rank + 2)
        rows = slice(16 * number, 16 * number + 16)
        expected = {
            "A": joint["A"][components],
            "B": joint["B"][rows, components],
            "magnitude": joint["magnitude"][rows],
        }
        for kind, gradient in expected.items():
            found = layer.get_parameter(kind).grad
            assert found is not None and found.any()
            scale = float(gradient.abs().max())
            torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4 * scale)


@every_family
@pytest.mark.parametrize(
    "method",
    [
        {"scaling": "alpha/r", "alpha": 5},
        {"scaling": "alpha/sqrt(r)", "alpha": 5, "dropout": 0.1},
        {"scaling": "alpha", "alpha": 1.5},
        {"blocks": "last-2"},
        {"blocks": [0, 2], "targets": ["query", "value", "up"]},
        {"targets": [HEAD]},
        {"targets": ["key", "down", HEAD], "blocks": [1]},
        {"dora": True, "targets": ["query", "up", HEAD], "blocks": "last-2"},
        {"init": "pissa", "scaling": "alpha/sqrt(r)", "alpha": 5},
        {"init": "pissa", "dora": True, "targets": ["key", "down", HEAD], "blocks": [1]},
    ],
    ids=str,
)
def test_scaling_blocks_variants_and_output_layer_are_kept(
    family: str,
    method: dict[str, Any],
    trained: Trained,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    folder = shaken(trained(family, {"kind": "lora", "rank": 3} | method))
    export(folder, "peft", tmp_path / "out")
    _, model, _ = load_trained(folder)
    theirs = in_peft(tmp_path / "out", folders[family])
    assert_same_answers(model, theirs, tokenizer, our_logits)
    with theirs.disable_adapter(), pytest.raises(AssertionError):
        assert_same_answers(model, theirs, tokenizer, our_logits)


@every_family
@pytest.mark.parametrize(
    "method", [{"kind": "lora", "rank": 2}, {"kind": "soft_prompt", "tokens": 3}]
)
def test_the_label_layer_goes_along(
    family: str,
    method: dict[str, Any],
    trained: Trained,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    folder = shaken(trained(family, method, "labels"))
    export(folder, "peft", tmp_path / "out")
    config, model, _ = load_trained(folder)
    theirs = in_peft(tmp_path / "out", folders[family], num_labels=3)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["modules_to_save"] == ["score"]
    prefix = config.method.num_virtual_ids
    assert_same_answers(model, theirs, tokenizer, our_logits, prefix)
    back = make_config(
        fields={
            **config.model_dump(),
            "method": {"kind": method["kind"], "from": str(tmp_path / "out")},
        }
    )
    again = adapted_model(back, folders[family], tokenizer)
    found = dict(again.trainable())
    for name, parameter in model.trainable():
        assert torch.equal(found[name], parameter), name


def test_every_method_that_peft_has_is_compared_with_it_here(
    folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    found = set()
    for kind in METHODS:
        config = make_config(fields={"task": TASK, "method": kind})
        model = adapted_model(config, folders["gpt2"], tokenizer)
        if config.method.to_peft(model) is not None:
            found.add(kind)
    assert found == {"lora", *(method["kind"] for method in OTHER_METHODS)}


@every_family
@pytest.mark.parametrize("method", OTHER_METHODS)
@pytest.mark.parametrize("task", ["language", "labels"])
def test_other_methods_answer_alike_in_peft(
    family: str,
    method: dict[str, Any],
    task: str,
    trained: Trained,
    folders: dict[str, Path],
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    folder = shaken(trained(family, method, task))
    export(folder, "peft", tmp_path / "out")
    config, model, _ = load_trained(folder)
    theirs = in_peft(tmp_path / "out", folders[family], num_labels=model.num_labels)
    assert_same_answers(model, theirs, tokenizer, our_logits, config.method.num_virtual_ids)
