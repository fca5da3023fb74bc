"""Mixing of models of one shape: each row of a batch passes the layers of its own run.

Layers that runs share, such as the frozen base, are kept once and computed once for all rows; a
low-rank update is added to the rows of its run. Everything else that a run has changed, up to whole
layers, is computed for its rows alone. Attention holds no weights, so all share it.

Shapes: N tokens, M rows, S the sum of ranks, V vocabulary.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from tunewise.data.packing import Batch
from tunewise.methods.lora_layers import LoRALinear
from tunewise.methods.method import unwrapped_name
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.fast.prepacked import prepack
from tunewise.models.folder import build_model


class SharedWeights:
    """Weights of several models; equal ones are in memory once."""

    def __init__(self) -> None:
        self._known: dict[str, list[Tensor]] = {}

    def share(self, model: LanguageModel) -> None:
        """Replace each weight of a model that equals one of an earlier model by that one."""
        for name, parameter in model.named_parameters():
            known = self._known.setdefault(unwrapped_name(name), [])
            equal = (other for other in known if _are_equal(other, parameter.data))
            if (shared := next(equal, None)) is None:
                known.append(parameter.data)
            else:
                parameter.data = shared


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)


class Mix:
    """Several models as one, with equal configurations and without label layers.

    Args:
        models: models that went through `SharedWeights.share`: layers that do not share memory are
            computed once per model. One with a prefix can only be alone.
    """

    def __init__(self, models: Sequence[LanguageModel]) -> None:
        self.config = models[0].config
        self.first_position = models[0].first_position
        self.device = next(models[0].parameters()).device
        for model in models:
            _round_updates(model)
        self._owners = _Owners()
        self._model = models[0] if len(models) == 1 else _mix_layers(models, self._owners)
        prepack(self._model)

    def hidden(self, batch: Batch, cache: Cache, owners: Tensor) -> Tensor:
        """Return (N, D) as `LanguageModel.hidden` does.

        Args:
            owners: (N,) number of the model that each token belongs to.
        """
        self._owners.set(owners)
        return self._model.hidden(batch, cache)

    def next_hidden(self, tokens: Tensor, cache: Cache, owners: Tensor) -> Tensor:
        """Return (B, D) as `LanguageModel.next_hidden` does, with (B,) owners of the rows."""
        self._owners.set(owners)
        return self._model.next_hidden(tokens, cache)

    def logits(self, hidden: Tensor, owners: Tensor) -> Tensor:
        """Return logits (M, V) from hidden states (M, D) and the numbers of their models (M,)."""
        self._owners.set(owners)
        return self._model.logits(hidden).float()


class _Owners:
    """The model that each row of the present pass belongs to."""

    def set(self, owners: Tensor) -> None:
        """Set the numbers (N,) of the rows' models."""
        self.of_rows = owners
        order = owners.argsort(stable=True)
        counts = Counter(owners.tolist())
        numbers = sorted(counts)
        rows = torch.split(order, [counts[number] for number in numbers])
        self.rows = dict(zip(numbers, rows, strict=True))


class _Base(NamedTuple):
    """A layer without its low-rank update."""

    layer: nn.Module
    models: list[int]
    """Numbers of the models that share it."""


def _mix_layers(models: Sequence[LanguageModel], owners: _Owners) -> LanguageModel:
    """Return a model of the same shape, each layer of which is the shared or the mixed one."""
    whole = build_model(models[0].config).eval().requires_grad_(False)
    whole.compute_dtype = models[0].compute_dtype
    leaves = [path for path, module in whole.named_modules() if not list(module.children())]
    for path in leaves:
        owner, _, attribute = path.rpartition(".")
        layers = [model.get_submodule(path) for model in models]
        is_shared = len({_memory_of(layer) for layer in layers}) == 1
        layer = layers[0] if is_shared else _MixedLayer(layers, owners)
        setattr(whole.get_submodule(owner), attribute, layer)
    return whole


class _MixedLayer(nn.Module):
    """One layer of each model; every row passes its own.

    All low-rank updates are computed as one: their A lie below each other, (S, in), and their B
    side by side, (out, S). Of x Aᵀ, a row keeps the columns of its own model. This computes more
    products than needed, but in two calls; two calls for each model took most of a pass's time.
    """

    def __init__(self, layers: Sequence[nn.Module], owners: _Owners) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.bases = _distinct_bases(layers)
        self.owners = owners
        updates = [(number, layer) for number, layer in enumerate(layers) if _is_update(layer)]
        self.has_updates = len(updates) > 0
        if self.has_updates:
            self.A = torch.cat([layer.A.detach() for _, layer in updates])
            self.B = torch.cat([layer.B.detach() for _, layer in updates], dim=1)
            columns = [(number, layer.scale) for number, layer in updates for _ in layer.A]
            numbers, scales = zip(*columns, strict=True)
            self.numbers = torch.tensor(numbers, device=self.A.device)  # (S,)
            self.scales = torch.tensor(scales, device=self.A.device, dtype=self.A.dtype)  # (S,)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in), or from (N,) ids."""
        rows = self.owners.rows
        if len(rows) == 1:
            y: Tensor = self.layers[next(iter(rows))](x)
            return y
        y = self._apply_bases(x, rows)
        if self.has_updates:
            own = self.owners.of_rows[:, None] == self.numbers  # (N, S)
            low = (x @ self.A.T) * (own * self.scales)  # (N, in) -> (N, S)
            y.addmm_(low, self.B.T)  # (N, S) -> (N, out)
        return y

    def _apply_bases(self, x: Tensor, rows: dict[int, Tensor]) -> Tensor:
        """Return (N, out) without the low-rank updates."""
        parts, order = [], []
        for base, models in self.bases:
            if of_base := [rows[number] for number in models if number in rows]:
                if len(of_base) == len(rows):
                    y: Tensor = base(x)
                    return y
                order.append(torch.cat(of_base))
                parts.append(base(x[order[-1]]))
        return torch.cat(parts)[torch.cat(order).argsort()]


def _round_updates(model: LanguageModel) -> None:
    """Round low-rank updates to the precision they are computed in, so that no pass has to."""
    for layer in model.modules():
        if _is_update(layer):
            for parameter in (layer.A, layer.B):
                parameter.data = parameter.data.to(model.compute_dtype)


def _distinct_bases(layers: Sequence[nn.Module]) -> list[_Base]:
    """Return the layers below low-rank updates that do not share memory."""
    bases: dict[object, _Base] = {}
    for number, layer in enumerate(layers):
        base = layer.base if _is_update(layer) else layer
        bases.setdefault(_memory_of(base), _Base(base, [])).models.append(number)
    return list(bases.values())


def _memory_of(layer: nn.Module) -> object:
    """Return a key that is equal for two layers of one type with weights in the same memory."""
    return type(layer), *(parameter.data_ptr() for parameter in layer.parameters())


def _is_update(layer: nn.Module) -> TypeGuard[LoRALinear]:
    """Return whether a layer only adds a low-rank update; DoRA scales the sum as well."""
    return type(layer) is LoRALinear
