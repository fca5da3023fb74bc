"""PiSSA: what is trained are the greatest singular values, and the rest is frozen."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tunewise.errors import ConfigError
from tunewise.methods.lora import HEAD, LoRA
from tunewise.methods.lora_layers import LoRALinear
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model, load_model, read_config
from tunewise.models.layers import Linear

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def updates(model: LanguageModel) -> dict[str, LoRALinear]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, LoRALinear)}


# PiSSA


@pytest.mark.parametrize("shape", [(9, 9), (7, 12), (12, 7)])
def test_pissa_trains_the_greatest_singular_values_and_freezes_the_others(
    shape: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    base = Linear(shape[1], shape[0]).requires_grad_(False)
    whole = base.weight.detach().clone()
    layer = LoRALinear(base, rank=3, scale=2.5, dropout=0.0)
    layer.initialise("pissa", torch.Generator())
    u, s, v = torch.linalg.svd(whole.double(), full_matrices=False)
    product = (2.5 * layer.B @ layer.A).detach()
    assert_close(product, (u[:, :3] * s[:3] @ v[:3]).float(), rtol=1e-5, atol=1e-6)
    rest = torch.linalg.svdvals(layer.weight)
    assert_close(rest[: len(s) - 3], s[3:].float(), rtol=1e-4, atol=1e-6)
    # A and B have an equal share of each, so that both start at one length.
    assert_close(layer.A.norm(dim=1) ** 2, (s[:3] / 2.5).float(), rtol=1e-5, atol=1e-6)
    assert_close(layer.B.norm(dim=0) ** 2, (s[:3] / 2.5).float(), rtol=1e-5, atol=1e-6)


def test_pissa_keeps_the_rest_of_a_half_precision_weight_in_fp32() -> None:
    torch.manual_seed(0)
    base = Linear(12, 9).requires_grad_(False).bfloat16()
    whole = base.weight.detach().clone().float()
    layer = LoRALinear(base, rank=3, scale=2.0, dropout=0.0)
    layer.initialise("pissa", torch.Generator())
    assert layer.weight.dtype == torch.float32
    assert_close(layer.weight + 2.0 * layer.B @ layer.A, whole, rtol=0, atol=1e-6)


def test_pissa_leaves_the_same_rest_whatever_the_threads(folders: dict[str, Path]) -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            model = load_model(folders["gpt2"])
            LoRA(init="pissa").adapt(model, torch.Generator().manual_seed(number))
            found.append({name: layer.weight for name, layer in updates(model).items()})
    finally:
        torch.set_num_threads(threads)
    for name, weight in found[0].items():
        assert all(torch.equal(weight, other[name]) for other in found[1:]), name


def test_pissa_of_the_output_layer_leaves_the_embedding_as_it_was(
    folders: dict[str, Path],
) -> None:
    method = LoRA(targets=(HEAD,), init="pissa")
    base, model = load_model(folders["gpt2"]), load_model(folders["gpt2"])
    assert base.head_is_tied
    method.adapt(model, torch.Generator())
    assert not model.head_is_tied
    name = "token_embedding.weight"
    assert torch.equal(model.get_parameter(name), base.get_parameter(name))
    shaped = build_model(read_config(folders["gpt2"]))
    method.adapt(shaped, torch.Generator())
    assert shaped.count_parameters() == model.count_parameters()


@pytest.mark.parametrize("shaped", [False, True])
def test_pissa_of_more_rank_than_a_layer_has_is_refused(
    shaped: bool, folders: dict[str, Path]
) -> None:
    folder = folders["gpt2"]
    model = build_model(read_config(folder)) if shaped else load_model(folder)
    with pytest.raises(ConfigError, match=r"method\.rank: 17 asked for; query has 16 singular"):
        LoRA(rank=17, init="pissa").adapt(model, torch.Generator())
    LoRA(rank=16, init="pissa", targets=("up", "down")).adapt(model, torch.Generator())
