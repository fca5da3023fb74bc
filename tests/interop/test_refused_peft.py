"""Adapters of PEFT that cannot be read are refused by name."""

from pathlib import Path
from typing import Any

import peft
import pytest
from safetensors.torch import load_file, save_file

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError

from .in_peft import TASK, read, written_by_peft, written_by_us

# PEFT asks transformers by a name that transformers is about to retire, and warns of a tied layer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
    pytest.mark.filterwarnings("ignore:.* LoRA tensor.s. have invalid shape"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
]


OTHERS: dict[str, tuple[Any, str]] = {
    "bias": (peft.LoraConfig(bias="lora_only"), "bias is 'lora_only'"),
    "bias of B": (peft.LoraConfig(lora_bias=True), "lora_bias is True"),
    "embedding": (
        peft.LoraConfig(target_modules=["wte", "c_attn"]),
        "target_modules names 'transformer.wte', which is no linear layer",
    ),
    "norm": (
        peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["ln_f"]),
        "'transformer.ln_f.weight' is not that of this model: it was trained",
    ),
    "layer": (
        peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["c_fc"]),
        "'transformer.h.0.mlp.c_fc.weight' is not that of this model: it was trained",
    ),
    "output layer": (
        peft.LoraConfig(target_modules=["c_attn"], modules_to_save=["lm_head"]),
        "'lm_head.weight' is not that of this model: it was trained",
    ),
    "pissa": (
        peft.LoraConfig(init_lora_weights="pissa"),
        "init_lora_weights is 'pissa', which is not supported; PEFT makes a whole model of it",
    ),
    "olora": (peft.LoraConfig(init_lora_weights="olora"), "init_lora_weights is 'olora'"),
    "tokens": (peft.LoraConfig(trainable_token_indices=[1, 2]), "trainable_token_indices is"),
    "activated by tokens": (
        peft.LoraConfig(task_type="CAUSAL_LM", alora_invocation_tokens=[1]),
        "alora_invocation_tokens is [1]",
    ),
    "parameters": (
        peft.LoraConfig(target_modules=[], target_parameters=["c_attn.weight"]),
        "target_parameters is ['c_attn.weight']",
    ),
    "ia3": (
        peft.IA3Config(),
        "peft_type is 'IA3'; this method reads 'LORA'; LORA and PROMPT_TUNING can be read",
    ),
    "prefix": (peft.PrefixTuningConfig(num_virtual_tokens=2), "peft_type is 'PREFIX_TUNING'"),
    "soft prompt": (peft.PromptTuningConfig(num_virtual_tokens=2), "write kind: soft_prompt"),
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
    one_moved = tensors[copy].float()
    one_moved[5, 0] *= 1.001
    others = {"is not that of this model": one_moved, r"shape \[5, 16\]": tensors[copy][:5].clone()}
    for message, other in others.items():
        save_file(tensors | {copy: other}, path)
        with pytest.raises(TunewiseError, match=message):
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
