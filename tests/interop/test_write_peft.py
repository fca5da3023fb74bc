"""PEFT loads what we export and answers alike; what PEFT wrote goes on here."""

import json
from collections.abc import Callable
from itertools import combinations
from math import log
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import batch_of, every_family
from torch import Tensor

from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.interop import export
from tunewise.methods import METHODS
from tunewise.methods.lora import HEAD
from tunewise.models import LanguageModel
from tunewise.peft.write import write_adapter
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.folder import read_result
from tunewise.runs.model import adapted_model, load_trained

# PEFT asks transformers by a name that transformers is about to retire, and warns of a tied layer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]
Trained = Callable[..., Path]
Logits = Callable[..., Tensor]

TEXTS = ["the film is not good at all", "a good film", "bad, bad, bad", "x"]
TASK = {"kind": "language_modeling"}
OTHER_METHODS: list[dict[str, Any]] = [
    {"kind": "soft_prompt", "tokens": 4},
    {"kind": "prefix", "tokens": 4},
    {"kind": "ia3"},
]
"""The methods besides LoRA that PEFT has too."""
SUBSETS = [list(some) for size in range(1, 7) for some in combinations(LanguageModel.layers, size)]


def written_by_us(base: Path, out: Path, tokenizer: Tokenizer, **method: Any) -> LanguageModel:
    """Write an adapter whose values have moved at random, and return its model."""
    fields = {"model": str(base), "task": TASK, "method": {"kind": "lora", **method}}
    config = make_config(fields=fields)
    model = adapted_model(config, base, tokenizer).eval()
    generator = torch.Generator().manual_seed(0)
    for _, parameter in model.trainable():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    write(model, config, base, out)
    return model


def write(model: LanguageModel, config: RunConfig, base: Path, out: Path) -> None:
    adapter = config.method.to_peft(model)
    assert adapter is not None
    write_adapter(adapter, model, str(base), out)


def in_peft(folder: Path, base: Path, num_labels: int | None = None) -> Any:
    kind = transformers.AutoModelForCausalLM
    labels = {}
    if num_labels is not None:
        kind = transformers.AutoModelForSequenceClassification
        labels = {"num_labels": num_labels}
    model = kind.from_pretrained(base, dtype=torch.float32, pad_token_id=0, **labels)
    return peft.PeftModel.from_pretrained(model, folder).eval()


def assert_same_answers(
    ours: LanguageModel, theirs: Any, tokenizer: Tokenizer, our_logits: Logits, prefix: int = 0
) -> None:
    """Compare all logits of all texts, at 1e-4."""
    for ids in tokenizer.tokenize(TEXTS):
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([ids])).logits  # (1, T, V) or (1, labels)
        if ours.num_labels is None:
            expected = expected[0, prefix:]
        torch.testing.assert_close(our_logits(ours, ids, prefix), expected, rtol=1e-4, atol=1e-4)


def shaken(folder: Path) -> Path:
    """Return a run whose trained tensors are large at random, so that every one matters."""
    path = folder / "adapter" / "adapter.safetensors"
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    return folder


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
    for number, targets in enumerate(SUBSETS):
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


# What PEFT wrote goes on here.

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


def written_by_peft(
    base: Path, out: Path, config: peft.PeftConfig, num_labels: int | None = None
) -> Any:
    """Write an adapter with values that are large at random, and return its model."""
    kind = transformers.AutoModelForCausalLM
    labels = {}
    if num_labels is not None:
        kind = transformers.AutoModelForSequenceClassification
        labels = {"num_labels": num_labels}
    model = kind.from_pretrained(base, dtype=torch.float32, pad_token_id=0, **labels)
    model = peft.get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(out)
    return model


def read(base: Path, task: dict[str, Any], tokenizer: Tokenizer, **method: Any) -> LanguageModel:
    config = make_config(fields={"model": str(base), "task": task, "method": method})
    model = adapted_model(config, base, tokenizer).eval()
    model.set_precision(torch.float32)
    return model


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


OTHERS: dict[str, tuple[Any, str]] = {
    "bias": (peft.LoraConfig(bias="lora_only"), "bias is 'lora_only'"),
    "embedding": (peft.LoraConfig(target_modules=["wte", "c_attn"]), "wte.lora_embedding_A"),
    "saved": (
        peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["ln_f"]),
        "'transformer.ln_f.bias' cannot be used",
    ),
    "pissa": (peft.LoraConfig(init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "tokens": (peft.LoraConfig(trainable_token_indices=[1, 2]), "trainable_token_indices is"),
    "ia3": (peft.IA3Config(), "peft_type is 'IA3'; this method reads 'LORA'"),
    "prefix": (peft.PrefixTuningConfig(num_virtual_tokens=2), "peft_type is 'PREFIX_TUNING'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_supported_is_refused_by_name(
    name: str, folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config, reason = OTHERS[name]
    config.task_type = "CAUSAL_LM"
    written_by_peft(folders["gpt2"], tmp_path, config)
    with pytest.raises(TunewiseError) as caught:
        read(folders["gpt2"], TASK, tokenizer, kind="lora", **{"from": str(tmp_path)})
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_magnitude_of_rows_without_an_update_is_refused(
    folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    base, method = folders["gpt2"], {"kind": "lora", "from": str(tmp_path)}
    written_by_us(base, tmp_path, tokenizer, targets=["query"], dora=True)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    (name,) = (n for n in tensors if "h.1.attn.c_attn.lora_magnitude_vector" in n)
    assert len(dict(read(base, TASK, tokenizer, **method).trainable())) == 9
    tensors[name][-1] += 0.5  # of value, which has no B
    save_file(tensors, path)
    message = "'lora_magnitude_vector' of 'transformer.h.1.attn.c_attn' is trained where B is zero"
    with pytest.raises(TunewiseError, match=message):
        read(base, TASK, tokenizer, **method)


def test_a_folder_that_is_none_or_of_another_model_is_named(
    folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def message(**method: Any) -> str:
        with pytest.raises(TunewiseError) as caught:
            read(
                folders["gpt2"], TASK, tokenizer, **{"kind": "lora", "from": str(tmp_path)} | method
            )
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"{tmp_path}: no adapter_config.json" in message()
    assert f"{tmp_path}: no adapter_config.json" in message(kind="soft_prompt")
    written_by_peft(folders["gpt2"], tmp_path, peft.LoraConfig(task_type="CAUSAL_LM"))
    assert "rank: the adapter in `from` decides it" in message(rank=2)
    assert "reads 'PROMPT_TUNING'" in message(kind="soft_prompt")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor[:, :5].contiguous() for name, tensor in tensors.items()}, path)
    assert "the update of 'transformer.h.0.attn.c_attn' has shapes [8, 5]" in message()
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path}: not a sound safetensors file" in message()
    path.unlink()
    assert "a pickle (.bin) can run any code" in message()


def test_an_update_of_the_output_layer_is_read_for_no_other_one(
    folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"])
    written_by_peft(folders["gpt2"], tmp_path, config)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    (copy,) = (name for name in tensors if name.endswith("lm_head.base_layer.weight"))
    method = {"kind": "lora", "from": str(tmp_path)}
    tensors[copy] = tensors[copy].bfloat16()  # as PEFT stores it of a model that is loaded in bf16
    save_file(tensors, path)
    assert len(dict(read(folders["gpt2"], TASK, tokenizer, **method).trainable())) == 2
    for other in (tensors[copy] + (torch.arange(257) == 5).unsqueeze(1), tensors[copy][:5].clone()):
        save_file(tensors | {copy: other}, path)
        with pytest.raises(TunewiseError, match="is not the output layer of this model"):
            read(folders["gpt2"], TASK, tokenizer, **method)


def test_a_soft_prompt_knows_its_length_from_its_folder(
    folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    written_by_peft(folders["gpt2"], tmp_path, config)
    method = {"kind": "soft_prompt", "from": str(tmp_path)}
    config = make_config(fields={"method": method})
    assert config.method.num_virtual_ids == 5
    assert make_config(fields=config.model_dump(mode="json")) == config
    with pytest.raises(TunewiseError, match="tokens: 3; the adapter in `from` has 5"):
        make_config(fields={"method": method | {"tokens": 3}})
    with pytest.raises(TunewiseError, match="init: the adapter in `from` decides it"):
        make_config(fields={"method": method | {"init": "gaussian"}})
