"""What is made again in the backward pass changes no number, and is not kept until then."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from tiny import METHOD_SETTINGS
from torch import Tensor

from tunewise.data.packing import Batch
from tunewise.methods import METHODS, Method, adapter
from tunewise.methods.lora import LoRA
from tunewise.models import LanguageModel, language_model, layers
from tunewise.models.fast import recompute
from tunewise.models.fast.loss import summed_loss
from tunewise.models.fast.recompute import recomputed, recomputing

Packed = Callable[..., Batch]
Sequences = list[list[int]]

VARIANTS: dict[str, Method] = {
    "lora with dropout": LoRA(rank=2, dropout=0.3),
    "lora of some layers": LoRA(rank=2, targets=("value", "down")),
}
EVERY_METHOD = {
    kind: method(**METHOD_SETTINGS.get(kind, {})) for kind, method in METHODS.items()
} | VARIANTS
NOTHING_IS_KEPT = ("last_layer", "soft_prompt", "prefix", "bitfit")
"""The methods whose blocks keep no input of a layer, so that there is nothing to make again."""


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", EVERY_METHOD)
def test_neither_loss_nor_gradients_change_by_a_bit(
    model: LanguageModel,
    packed: Packed,
    sequences: Sequences,
    kind: str,
    dropout: float,
    precision: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = _adapted(model, EVERY_METHOD[kind], packed, sequences, precision)
    model.train().set_dropout(dropout)
    monkeypatch.setattr(recompute, "WORTH_IT", 0)
    calls = _count_calls(monkeypatch)
    again = _gradients(model, batch)
    num_again = len(calls)
    calls.clear()
    monkeypatch.setattr(language_model, "recomputing", lambda states: nullcontext())
    kept = _gradients(model, batch)
    assert again.keys() == kept.keys()
    for name, gradient in kept.items():
        assert torch.equal(again[name], gradient), name
    assert (num_again > len(calls)) == (kind not in NOTHING_IS_KEPT)


@pytest.mark.parametrize("kind", ["full", "lora with dropout", "adapter"])
def test_checkpointing_is_as_before(
    model: LanguageModel,
    packed: Packed,
    sequences: Sequences,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = _adapted(model, EVERY_METHOD[kind], packed, sequences, torch.float32)
    model.train()
    monkeypatch.setattr(recompute, "WORTH_IT", 0)
    again = _gradients(model, batch)
    model.checkpointing = True
    for name, gradient in _gradients(model, batch).items():
        torch.testing.assert_close(gradient, again[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["full", "lora", "lora with dropout"])
@pytest.mark.parametrize("worth_it", [0, 2**40], ids=["worth it", "too small"])
def test_the_output_of_the_activation_is_gone_after_the_forward_pass_where_that_is_worth_it(
    model: LanguageModel,
    packed: Packed,
    sequences: Sequences,
    kind: str,
    worth_it: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = _adapted(model, EVERY_METHOD[kind], packed, sequences, torch.float32)
    model.train()
    monkeypatch.setattr(recompute, "WORTH_IT", worth_it)
    storages = _watch_storages(monkeypatch)
    hidden = model.hidden(batch)
    alive = [storage for storage in storages if storage() is not None]
    assert len(storages) == len(model.blocks)
    assert len(alive) == (0 if worth_it == 0 else len(storages))
    assert hidden.requires_grad


def test_what_several_layers_share_is_made_again_once() -> None:
    calls: list[Tensor] = []

    @recomputed
    def squared(x: Tensor) -> Tensor:
        calls.append(x)
        return x * x

    x = torch.randn(600_000, requires_grad=True)
    weights = [torch.randn(600_000, requires_grad=True) for _ in range(3)]
    with recomputing(x):
        y = squared(x)
        loss = sum((weight * y).sum() for weight in weights)
    del y
    assert isinstance(loss, Tensor)
    loss.backward()
    assert len(calls) == 2
    for weight in weights:
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, x.detach() ** 2)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * x.detach() * sum(w.detach() for w in weights))


def _adapted(
    model: LanguageModel,
    method: Method,
    packed: Packed,
    sequences: Sequences,
    precision: torch.dtype,
) -> Batch:
    """Adapt the model, and return texts for it."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    method.adapt(model.cpu(), generator)
    with torch.no_grad():
        for name, parameter in model.trainable():
            if name.endswith(".B"):
                parameter.normal_(std=0.2, generator=generator)
    model.set_precision(precision)
    model.to(device)
    first = model.config.vocabulary_size
    prefix = list(range(first, first + method.num_virtual_ids))
    return packed([prefix + ids for ids in sequences])


def _gradients(model: LanguageModel, batch: Batch) -> dict[str, Tensor]:
    """Return the loss and the gradient of everything trained."""
    torch.manual_seed(1)
    hidden = model.hidden(batch)
    scored = batch.targets >= 0
    loss = summed_loss(model, hidden[scored], batch.targets[scored] % model.config.vocabulary_size)
    loss.backward()
    found = {"loss": loss.detach()}
    for name, parameter in model.trainable():
        assert parameter.grad is not None, name
        found[name] = parameter.grad
        parameter.grad = None
    return found


def _count_calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list that gets every input of the activation, an adapter's included."""
    calls: list[Tensor] = []
    gelu = layers.gelu.__wrapped__  # type: ignore[attr-defined]

    @recomputed
    def counted(x: Tensor) -> Tensor:
        calls.append(x.detach())
        return gelu(x)

    for module in (layers, adapter):
        monkeypatch.setattr(module, "gelu", counted)
    return calls


def _watch_storages(
    monkeypatch: pytest.MonkeyPatch,
) -> list[weakref.ReferenceType[torch.UntypedStorage]]:
    """Return a list that gets a weak reference to the memory of every output of the activation."""
    storages: list[weakref.ReferenceType[torch.UntypedStorage]] = []
    gelu = layers.gelu.__wrapped__  # type: ignore[attr-defined]

    @recomputed
    def watched(x: Tensor) -> Tensor:
        y = gelu(x)
        storages.append(weakref.ref(y.untyped_storage()))
        return y

    monkeypatch.setattr(layers, "gelu", watched)
    return storages
