"""The same method in PEFT gives the same logits, gradients and trained weights.

What PEFT does not have is written out with transformers.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tiny import every_family, is_transposed, their_layers, their_single_layers
from torch import Tensor, nn

from tunewise.data.encode import Encoded, encode_texts_whole
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.packing import Batch, pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.methods.adapter import AdaptedLinear, Adapter
from tunewise.methods.bitfit import BitFit
from tunewise.methods.ia3 import IA3
from tunewise.methods.lora import LoRA
from tunewise.methods.lora_layers import LoRALinear
from tunewise.methods.prefix import PrefixTuning
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import summed_loss
from tunewise.models.folder import load_model
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def their_base(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def batch_of(sequences: list[Encoded]) -> Batch:
    (batch,) = pack(sequences, 10_000)
    return batch


def our_logits(model: LanguageModel, sequence: Encoded) -> Tensor:
    return model.logits(model.hidden(batch_of([sequence])))


def our_loss(model: LanguageModel, sequences: list[Encoded]) -> Tensor:
    """Return the mean over all predicted tokens, all texts packed together."""
    batch = batch_of(sequences)
    hidden = model.hidden(batch)
    scored = batch.targets >= 0
    return summed_loss(model, hidden[scored], batch.targets[scored]) / batch.num_scored


def their_loss(model: Any, sequences: list[Encoded]) -> Tensor:
    """Return the mean over all predicted tokens, each text computed alone."""
    total, count = torch.zeros(()), 0
    for sequence in sequences:
        ids = torch.from_numpy(sequence.ids).long()[None]  # (1, T)
        logits = model(input_ids=ids).logits[0, -ids.shape[1] : -1]  # (T - 1, V)
        total = total + nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        count += ids.shape[1] - 1
    return total / count


def lora_pair(family: str, folder: Path) -> tuple[LanguageModel, Any, dict[str, Tensor]]:
    """Return our model, theirs, and their factors by our names; both updates are the same."""
    model = load_model(folder)
    layers = their_single_layers(model)
    targets = [name for name, path in model.layers.items() if f"blocks.0.{path}" in layers]
    LoRA(rank=3, alpha=5.0, targets=targets).adapt(model, torch.Generator().manual_seed(0))
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=list(layers.values()),
        fan_in_fan_out=is_transposed(model),
        task_type="CAUSAL_LM",
    )
    other = peft.get_peft_model(their_base(folder), config).eval()
    their_parameters = dict(other.named_parameters())
    factors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(1)
    for name, layer in model.named_modules():
        if isinstance(layer, LoRALinear):
            nn.init.normal_(layer.B, std=0.2, generator=generator)
            for factor in "AB":
                stem = f"base_model.model.{model.name_prefix}{layers[name]}"
                parameter = their_parameters.pop(f"{stem}.lora_{factor}.default.weight")
                parameter.data = getattr(layer, factor).detach().clone()
                factors[f"{name}.{factor}"] = parameter
    # Every update of theirs has its counterpart here.
    assert not [name for name in their_parameters if "lora_" in name]
    return model, other, factors


@every_family
def test_the_same_lora_gives_the_same_logits_as_in_peft(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other, _ = lora_pair(family, folders[family])
    base = load_model(folders[family])
    assert_same_logits(model, other, texts)
    for sequence in texts:
        assert (our_logits(model, sequence) - our_logits(base, sequence)).abs().max() > 0.01


@every_family
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_moves_a_lora_as_it_does_in_peft(
    family: str, optimizer: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other, factors = lora_pair(family, folders[family])
    before = {name: factor.detach().clone() for name, factor in factors.items()}
    config = TrainConfig(
        epochs=3,
        batch_size=len(texts),
        optimizer=optimizer,
        learning_rate=0.01,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.01,
        clip_norm=None,
    )
    steps = list(train(model, texts, config, seed=0))

    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    theirs = kinds[optimizer](factors.values(), lr=0.01, weight_decay=0.01)
    for step in steps:
        loss = their_loss(other, texts)
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        theirs.zero_grad()
        loss.backward()
        theirs.step()
    assert len(steps) == 3
    for name, factor in factors.items():
        torch.testing.assert_close(model.get_parameter(name), factor, rtol=1e-4, atol=1e-5)
        assert not torch.equal(factor, before[name]), name


@every_family
def test_the_same_soft_prompt_gives_the_same_logits_and_gradient_as_in_peft(
    family: str, folders: dict[str, Path], tokenizer: Tokenizer
) -> None:
    num_virtual = 4
    model = load_model(folders[family])
    method = SoftPrompt(tokens=num_virtual)
    method.adapt(model, torch.Generator().manual_seed(3), tokenizer)
    prompt = model.get_parameter("token_embedding.prompt")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_virtual)
    other = peft.get_peft_model(their_base(folders[family]), config)
    their_prompt = other.prompt_encoder["default"].embedding.weight
    their_prompt.data = prompt.detach().clone()

    examples = [Example(str(n), "", text) for n, text in enumerate(["a good film", "bad, not"])]
    plain = encode_texts_whole(examples, tokenizer, Layout(30)).sequences
    layout = Layout(30 + num_virtual, tuple(range(280, 280 + num_virtual)))
    prefixed = encode_texts_whole(examples, tokenizer, layout).sequences
    with torch.no_grad():
        for ours, theirs in zip(prefixed, plain, strict=True):
            ids = torch.from_numpy(theirs.ids).long()[None]
            expected = other(input_ids=ids).logits[0, num_virtual:]  # of the text's positions
            found = our_logits(model, ours)[num_virtual:]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    our_loss(model, prefixed).backward()
    their_loss(other, plain).backward()
    assert prompt.grad is not None
    assert prompt.grad.abs().max() > 1e-3
    torch.testing.assert_close(prompt.grad, their_prompt.grad, rtol=1e-4, atol=1e-6)


def assert_same_logits(model: LanguageModel, other: Any, texts: list[Encoded]) -> None:
    """Compare ours and theirs on each text."""
    with torch.no_grad():
        for sequence in texts:
            theirs = other(input_ids=torch.from_numpy(sequence.ids).long()[None]).logits[0]
            ours = our_logits(model.eval(), sequence)
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def assert_same_gradient(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None and theirs is not None
    assert ours.abs().max() > 1e-4
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@every_family
def test_the_same_prefix_gives_the_same_logits_and_gradient_as_in_peft(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    num_virtual, num_layers, model_dim = 3, 3, 16
    model = load_model(folders[family])
    PrefixTuning(tokens=num_virtual).adapt(model, torch.Generator().manual_seed(3))
    ours = [
        model.get_parameter(f"blocks.{index}.attention.prefix.{part}")
        for index in range(num_layers)
        for part in ("keys", "values")
    ]
    for parameter in ours:
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_virtual)
    other = peft.get_peft_model(their_base(folders[family]), config).eval()
    theirs = other.prompt_encoder["default"].embedding.weight  # (P, layers · 2 · D)
    assert theirs.shape == (num_virtual, num_layers * 2 * model_dim)
    theirs.data = torch.cat([parameter.detach() for parameter in ours], dim=1)

    assert_same_logits(model, other, texts)
    assert len({len(sequence.ids) for sequence in texts}) > 2
    our_loss(model, texts).backward()
    their_loss(other, texts).backward()
    parts = theirs.grad.chunk(len(ours), dim=1)
    for parameter, part in zip(ours, parts, strict=True):
        assert_same_gradient(parameter.grad, part)


@every_family
def test_the_same_ia3_gives_the_same_logits_and_gradients_as_in_peft(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model = load_model(folders[family])
    IA3().adapt(model, torch.Generator())
    generator = torch.Generator().manual_seed(0)
    for _, parameter in model.trainable():
        nn.init.normal_(parameter, mean=1.0, std=0.3, generator=generator)
    names = dict(model.named_parameters())
    layers = {  # of theirs that are scaled, and ours in each; queries stay as they are, at ones
        layer: paths
        for layer, paths in their_layers(model).items()
        if any(f"{path}.scale" in names for path in paths)
    }
    config = peft.IA3Config(
        task_type="CAUSAL_LM",
        target_modules=list(layers),
        feedforward_modules=[n for n, (path, *_) in layers.items() if path.endswith(".down")],
        fan_in_fan_out=is_transposed(model),
    )
    other = peft.get_peft_model(their_base(folders[family]), config).eval()
    their_parameters = dict(other.named_parameters())
    pairs: list[tuple[Tensor, Tensor, int]] = []  # ours, theirs, and which part of it
    for layer, paths in layers.items():
        stem = f"base_model.model.{model.name_prefix}{layer}"
        theirs = their_parameters.pop(f"{stem}.ia3_l.default")
        theirs.data = torch.ones(theirs.shape)
        scales = [names.get(f"{path}.scale") for path in paths]
        for scale, part in zip(scales, theirs.data.view(len(paths), -1), strict=True):
            part.copy_(part if scale is None else scale.detach())
        pairs += [(ours, theirs, n) for n, ours in enumerate(scales) if ours is not None]
    assert not [name for name in their_parameters if "ia3_l" in name]

    assert_same_logits(model, other, texts)
    our_loss(model, texts).backward()
    their_loss(other, texts).backward()
    assert len(pairs) == len(list(model.trainable()))
    for ours, theirs, number in pairs:
        assert theirs.grad is not None
        assert_same_gradient(ours.grad, theirs.grad.flatten().split(len(ours))[number])


def three_updates(
    model: LanguageModel, other: Any, theirs: list[Tensor], texts: list[Encoded]
) -> None:
    """Make three updates of all texts on ours and on what is named of theirs.

    By SGD: the true gradient of a key's bias is zero, and AdamW would blow up the rounding.
    """
    config = TrainConfig(
        epochs=3,
        batch_size=len(texts),
        optimizer="sgd",
        learning_rate=0.1,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        clip_norm=None,
    )
    optimizer = torch.optim.SGD(theirs, lr=0.1)
    steps = list(train(model, texts, config, seed=0))
    assert len(steps) == 3
    for step in steps:
        loss = their_loss(other, texts)
        assert step.loss == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@every_family
def test_bitfit_trains_every_bias_in_transformers_and_nothing_else_to_the_same_values(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other = load_model(folders[family]), their_base(folders[family])
    BitFit().adapt(model, torch.Generator())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    biases = {name: p for name, p in other.named_parameters() if name.endswith(".bias")}
    three_updates(model, other, list(biases.values()), texts)

    trained = {name for name, _ in model.trainable()}
    for stored in model.stored_tensors():
        theirs = biases.pop(model.name_prefix + stored.theirs, None)
        if theirs is not None:
            ours = torch.cat([model.get_parameter(name) for name in stored.ours])
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
            trained -= set(stored.ours)
    assert not biases
    assert not trained
    for name, parameter in model.named_parameters():
        if not name.endswith("key.bias"):  # moves, if at all, by rounding alone
            assert torch.equal(parameter, before[name]) != name.endswith(".bias"), name


@every_family
def test_the_same_adapters_after_the_sublayers_of_transformers_train_alike(
    family: str, folders: dict[str, Path], texts: list[Encoded]
) -> None:
    model, other = load_model(folders[family]), their_base(folders[family])
    Adapter(bottleneck=5).adapt(model, torch.Generator().manual_seed(0))
    theirs: dict[str, nn.Linear] = {}

    def after(down: nn.Linear, up: nn.Linear) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: Any, h: Tensor) -> Tensor:
            return h + up(nn.functional.gelu(down(h), approximate="tanh"))

        return hook

    other.requires_grad_(False)
    residual = tuple(model.layers[name] for name in model.residual_layers)
    for path, layer in their_single_layers(model).items():
        if not path.endswith(residual):
            continue
        ours = model.get_submodule(path)
        assert isinstance(ours, AdaptedLinear)
        chance = torch.Generator().manual_seed(len(theirs))
        nn.init.normal_(ours.up.weight, std=0.2, generator=chance)
        copies = [copy.deepcopy(part) for part in (ours.down, ours.up)]
        theirs |= {f"{path}.{n}": c for n, c in zip(("down", "up"), copies, strict=True)}
        other.get_submodule(model.name_prefix + layer).register_forward_hook(after(*copies))

    assert_same_logits(model, other, texts)
    three_updates(model, other, [p for part in theirs.values() for p in part.parameters()], texts)
    expected = {f"{n}.{k}": p for n, part in theirs.items() for k, p in part.named_parameters()}
    assert expected.keys() == {name for name, _ in model.trainable()}
    for name, parameter in expected.items():
        torch.testing.assert_close(model.get_parameter(name), parameter, rtol=1e-4, atol=2e-5)
