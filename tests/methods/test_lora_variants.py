"""Variants of LoRA: DoRA, rsLoRA, PiSSA and LoRA+ are those of PEFT."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers
from peft.optimizers import create_loraplus_optimizer
from tiny import every_family, is_transposed, their_single_layers
from torch import Tensor, nn
from torch.testing import assert_close

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.methods.lora import HEAD, LoRA
from tunewise.methods.lora_layers import DoRALinear, Init, LoRALinear
from tunewise.methods.method import merge
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model, load_model, read_config
from tunewise.models.layers import Linear
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train
from tunewise.training.optimizers import NAMES, build_optimizer

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

both_ways = pytest.mark.parametrize("init", ["kaiming", "pissa"])

VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"scaling": "alpha/sqrt(r)"},
    "dora": {"dora": True},
    "pissa": {"init": "pissa"},
    "loraplus": {"loraplus_lr_ratio": 8.0},
    "all": {
        "scaling": "alpha/sqrt(r)",
        "dora": True,
        "init": "pissa",
        "loraplus_lr_ratio": 3.0,
    },
}
RATE, WEIGHT_DECAY = 0.01, 0.01


def updates(model: LanguageModel) -> dict[str, LoRALinear]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def our_logits(model: LanguageModel, sequences: list[Encoded]) -> Tensor:
    (batch,) = pack(sequences, 10_000)
    return model.logits(model.hidden(batch))


def their_logits(model: Any, sequence: Encoded) -> Tensor:
    logits: Tensor = model(input_ids=torch.from_numpy(sequence.ids).long()[None]).logits[0]
    return logits


def their_loss(model: Any, sequences: list[Encoded]) -> Tensor:
    """Return the mean over all predicted tokens, each text computed alone."""
    losses = [
        F.cross_entropy(
            their_logits(model, sequence)[:-1],
            torch.from_numpy(sequence.ids[1:]).long(),
            reduction="none",
        )
        for sequence in sequences
    ]
    return torch.cat(losses).mean()


def pair(
    family: str, folder: Path, settings: dict[str, Any]
) -> tuple[LanguageModel, Any, dict[str, nn.Parameter]]:
    """Return our model, PEFT's, and its parameters by our names, equal to ours.

    What PiSSA starts from each side has computed by itself; singular vectors have either sign.
    """
    model = load_model(folder)
    layers = their_single_layers(model)
    targets = [name for name, path in model.layers.items() if f"blocks.0.{path}" in layers]
    method = LoRA(rank=3, alpha=5.0, targets=targets, **settings)
    method.adapt(model, torch.Generator().manual_seed(0))
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=list(layers.values()),
        use_rslora=method.scaling == "alpha/sqrt(r)",
        use_dora=method.dora,
        init_lora_weights="pissa" if method.init == "pissa" else True,
        fan_in_fan_out=is_transposed(model),
        task_type="CAUSAL_LM",
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    other = peft.get_peft_model(base, config).eval()
    parameters: dict[str, nn.Parameter] = {}
    for name, layer in updates(model).items():
        stem = f"base_model.model.{model.name_prefix}{layers[name]}"
        theirs = {
            "A": other.get_parameter(f"{stem}.lora_A.default.weight"),
            "B": other.get_parameter(f"{stem}.lora_B.default.weight"),
        }
        if method.dora:
            theirs["magnitude"] = other.get_parameter(
                f"{stem}.lora_magnitude_vector.default.weight"
            )
            assert_close(theirs["magnitude"], layer.get_parameter("magnitude"))
        if method.init == "pissa":
            signs = (theirs["A"].detach() * layer.A.detach()).sum(dim=1).sign()  # (R,)
            assert_close(theirs["A"] * signs.unsqueeze(1), layer.A, rtol=1e-3, atol=1e-5)
            assert_close(theirs["B"] * signs, layer.B, rtol=1e-3, atol=1e-5)
            rest = other.get_parameter(f"{stem}.base_layer.weight")
            rest = rest.T if is_transposed(model) else rest
            assert_close(rest, layer.weight, rtol=1e-4, atol=1e-5)
        else:
            generator = torch.Generator().manual_seed(int(name.split(".")[1]))
            nn.init.normal_(layer.B, std=0.2, generator=generator)
        for kind, parameter in theirs.items():
            parameter.data = layer.get_parameter(kind).detach().clone()
            parameters[f"{name}.{kind}"] = parameter
    # Everything that PEFT trains has its counterpart here.
    assert len(parameters) == sum(p.requires_grad for p in other.parameters())
    assert parameters.keys() == {name for name, _ in model.trainable()}
    return model, other, parameters


@pytest.mark.slow
@every_family
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_updates_give_the_values_and_the_logits_of_peft(
    variant: str, optimizer: str, family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    settings = VARIANTS[variant]
    model, other, parameters = pair(family, folders[family], settings)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    config = TrainConfig(
        epochs=3,
        batch_size=len(texts),
        optimizer=optimizer,
        learning_rate=RATE,
        schedule="constant",
        warmup=0.0,
        weight_decay=WEIGHT_DECAY,
        clip_norm=None,
    )
    steps = list(train(model, texts, config, seed=0))

    theirs = create_loraplus_optimizer(
        other,
        {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer],
        lr=RATE,
        loraplus_lr_ratio=settings.get("loraplus_lr_ratio", 1.0),
        loraplus_weight_decay=WEIGHT_DECAY,
    )
    part_with_vectors(theirs)
    for step in steps:
        loss = their_loss(other, texts)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
    assert len(steps) == 3
    for name, parameter in parameters.items():
        assert_close(model.get_parameter(name), parameter, rtol=1e-4, atol=2e-5)
        assert not torch.equal(parameter, before[name]), name
    with torch.no_grad():
        for sequence in texts:
            ours = our_logits(model.eval(), [sequence])
            assert_close(ours, their_logits(other, sequence), rtol=1e-4, atol=1e-4)


def part_with_vectors(optimizer: torch.optim.Optimizer) -> None:
    """Take the weight decay from vectors, which ours has for matrices only and PEFT for all."""
    for group in list(optimizer.param_groups):
        vectors = [p for p in group["params"] if p.ndim < 2]
        group["params"] = [p for p in group["params"] if p.ndim >= 2]
        if vectors:
            optimizer.add_param_group(group | {"params": vectors, "weight_decay": 0.0})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dora_is_the_plain_formula_with_the_norm_as_a_constant(
    dtype: torch.dtype, dropout: float, bias: bool
) -> None:
    torch.manual_seed(0)
    base = Linear(7, 5, bias=bias).to(dtype).requires_grad_(False)
    layer = DoRALinear(base, rank=3, scale=1.5, dropout=dropout)
    if dtype == torch.float64:
        layer.double()
    for parameter in (layer.A, layer.B, layer.magnitude):
        nn.init.normal_(parameter)
    x = torch.randn(40, 7, dtype=dtype, requires_grad=True)
    grad = torch.randn(40, 5, dtype=dtype)

    def plainly(x: Tensor) -> Tensor:
        a, b, m = (p.double() for p in (layer.A, layer.B, layer.magnitude))
        w = base.weight.double()
        norm = (w + 1.5 * b @ a).norm(dim=1).detach()
        y = (m / norm) * (x.double() @ w.T + 1.5 * F.dropout(x, dropout).double() @ a.T @ b.T)
        return y if base.bias is None else y + base.bias.double()

    found = []
    for formula in (layer, plainly):
        torch.manual_seed(1)  # the same elements are dropped
        y = formula(x)
        trained = (x, layer.A, layer.B, layer.magnitude)
        found.append((y.double(), *torch.autograd.grad(y, trained, grad.to(y.dtype))))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    for ours, plain in zip(*found, strict=True):
        atol = tolerance * float(plain.detach().abs().max())
        assert_close(ours, plain, rtol=tolerance, atol=atol)


def test_a_length_may_change_by_less_than_half_precision_can_tell_from_one() -> None:
    torch.manual_seed(0)
    base = Linear(7, 5, bias=False).requires_grad_(False)
    layer = DoRALinear(base, rank=3, scale=1.5, dropout=0.0)
    layer.initialise("kaiming", torch.Generator())
    base.bfloat16()
    x = torch.randn(5000, 7, dtype=torch.bfloat16)
    with torch.no_grad():
        before = layer(x).float()
        layer.magnitude *= 1.003
        after = layer(x).float()
    ratio = float((after * before).sum() / before.square().sum())
    assert ratio == pytest.approx(1.003, abs=1e-3)


@every_family
@both_ways
@pytest.mark.parametrize("training", [False, True])
def test_a_fresh_variant_changes_nothing(
    init: Init, training: bool, family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model = load_model(folders[family]).train(training)
    with torch.no_grad():
        before = our_logits(model, texts)
        LoRA(targets=(*LanguageModel.layers, HEAD), rank=3, dora=True, init=init).adapt(
            model, torch.Generator()
        )
        after = our_logits(model, texts)
    if init == "kaiming":
        assert torch.equal(after, before)
    assert_close(after, before, rtol=1e-5, atol=1e-5)


@every_family
@both_ways
@pytest.mark.parametrize("dora", [False, True])
def test_merged_equals_unmerged_and_the_factors_are_of_the_base_models_own_weight(
    dora: bool, init: Init, family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    base = load_model(folders[family])
    model = deepcopy(base)
    LoRA(targets=(*LanguageModel.layers, HEAD), rank=3, dora=dora, init=init).adapt(
        model, torch.Generator()
    )
    generator = torch.Generator().manual_seed(1)
    for _, parameter in model.trainable():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        unmerged = our_logits(model, texts)
        assert (unmerged - our_logits(base, texts)).abs().max() > 0.1
        layers = updates(model)
        merge(model)
        assert_close(our_logits(model, texts), unmerged, rtol=1e-4, atol=1e-4)
        for name, layer in layers.items():
            a, b, _, _ = layer.update()
            assert len(a) == (6 if init == "pissa" else 3)
            weight = base.get_parameter(f"{name}.weight") + layer.scale * b @ a
            if isinstance(layer, DoRALinear):
                weight = weight * (layer.magnitude / weight.norm(dim=1)).unsqueeze(1)
            assert_close(model.get_parameter(f"{name}.weight"), weight, rtol=1e-4, atol=1e-5)


# LoRA+


@pytest.mark.parametrize("kind", NAMES)
def test_b_and_magnitude_have_the_ratios_rate(kind: str, folders: dict[str, Path]) -> None:
    model = load_model(folders["gpt2"])
    model.use_label_head(3, torch.Generator())
    LoRA(dora=True, loraplus_lr_ratio=16.0).adapt(model, torch.Generator())
    rule = TrainConfig.model_validate({"optimizer": kind}).optimizer
    optimizer = build_optimizer(model, rule, weight_decay=0.1)
    names = {parameter: name for name, parameter in model.trainable()}
    seen = set()
    for group in optimizer.groups:
        for parameter in group.parameters:
            name = names[parameter].rpartition(".")[2]
            seen.add(name)
            ratio = {"A": 1.0, "weight": 1.0, "B": 16.0, "magnitude": 16.0}[name]
            assert group.lr_ratio == ratio, names[parameter]
            assert group.weight_decay == (0.0 if name == "magnitude" else 0.1)
    assert seen == {"A", "B", "magnitude", "weight"}
    assert len(optimizer.parameters) == len(names)


def test_dora_trains_one_length_more_per_row(folders: dict[str, Path]) -> None:
    counts = []
    for dora in (False, True):
        model = build_model(read_config(folders["gpt2"]))
        LoRA(dora=dora, targets=("query", "up")).adapt(model, torch.Generator())
        counts.append(model.count_parameters()[1])
    assert counts[1] - counts[0] == 3 * (16 + 64)
