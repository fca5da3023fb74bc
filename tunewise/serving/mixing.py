"""Models of one shape as one model: each row of a batch passes the layers of its own run.

What runs have in common, such as the frozen base, is kept once and computed once for all rows; an
update of low rank is added to the rows of its run. Everything else that a run has changed, up to
whole layers, is computed for its rows alone. Attention holds no weights, so it is common to all.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from tunewise.data.packing import Batch
from tunewise.methods.lora_layers import LoRALinear
from tunewise.methods.method import unwrapped_name
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.fast.prepacked import prepack
from tunewise.models.folder import build_model


class Weights:
    """Weights of models: those that are equal in several lie in memory once."""

    def __init__(self) -> None:
        self._known: dict[str, list[Tensor]] = {}

    def share(self, model: LanguageModel) -> None:
        """Put weights that are known in the place of a model's own."""
        for name, parameter in model.named_parameters():
            others = self._known.setdefault(unwrapped_name(name), [])
            same = (other for other in others if _equal(other, parameter.data))
            if (kept := next(same, None)) is None:
                others.append(parameter.data)
            else:
                parameter.data = kept


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


class Mix:
    """Models with equal configurations and no prefix or label layer, as one.

    Args:
        models: whose equal `Weights` are shared; what lies in memory twice is computed twice.
    """

    def __init__(self, models: Sequence[LanguageModel]) -> None:
        self.config = models[0].config
        self.first_position = models[0].first_position
        self.device = next(models[0].parameters()).device
        for model in models:
            _round_updates(model)
        self._owners = _Owners()
        self._model = models[0] if len(models) == 1 else _mixed(models, self._owners)
        prepack(self._model)

    def hidden(self, batch: Batch, cache: Cache, owners: Tensor) -> Tensor:
        """Return (N, D) as `LanguageModel.hidden` does.

        Args:
            owners: (N,) the number of the model that each token belongs to.
        """
        self._owners.set(owners)
        return self._model.hidden(batch, cache)

    def next_hidden(self, tokens: Tensor, cache: Cache, owners: Tensor) -> Tensor:
        """Return (B, D) as `LanguageModel.next_hidden` does, with (B,) owners of the rows."""
        self._owners.set(owners)
        return self._model.next_hidden(tokens, cache)

    def logits(self, hidden: Tensor, owners: Tensor) -> Tensor:
        """Return (M, V) from (M, D) and (M,)."""
        self._owners.set(owners)
        return self._model.logits(hidden).float()


class _Owners:
    """Which rows are whose, in the pass that is being computed."""

    def set(self, owners: Tensor) -> None:
        """Take note of (N,) numbers of models."""
        self.of_rows = owners
        order = owners.argsort(stable=True)
        numbers = sorted(counts := Counter(owners.tolist()))
        rows = torch.split(order, [counts[number] for number in numbers])
        self.rows = dict(zip(numbers, rows, strict=True))


def _mixed(models: Sequence[LanguageModel], owners: _Owners) -> LanguageModel:
    whole = build_model(models[0].config).eval().requires_grad_(False)
    whole.compute_dtype = models[0].compute_dtype
    leaves = [path for path, module in whole.named_modules() if not list(module.children())]
    for path in leaves:
        owner, _, attribute = path.rpartition(".")
        layers = [model.get_submodule(path) for model in models]
        layer = layers[0] if len(_bases(layers)) == 1 == len(set(map(_weights, layers))) else None
        setattr(whole.get_submodule(owner), attribute, layer or _Mixed(layers, owners))
    return whole


class _Mixed(nn.Module):
    """One layer of each model; every row passes its own.

    All updates of low rank are one: their A lie below each other, (S, in) with S the sum of ranks,
    and their B side by side, (out, S). Of x Aᵀ, a row keeps the columns of its own model. So a few
    products more are computed, in two calls where one for each model took most of a pass's time.
    """

    def __init__(self, layers: Sequence[nn.Module], owners: _Owners) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.bases = _bases(layers)
        self.owners = owners
        updates = [(number, layer) for number, layer in enumerate(layers) if _is_update(layer)]
        self.has_updates = len(updates) > 0
        if updates:
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
        y = self._frozen(x, rows)
        if self.has_updates:
            own = self.owners.of_rows[:, None] == self.numbers  # (N, S)
            low = (x @ self.A.T) * (own * self.scales)  # (N, in) -> (N, S)
            y.addmm_(low, self.B.T)  # (N, S) -> (N, out)
        return y

    def _frozen(self, x: Tensor, rows: dict[int, Tensor]) -> Tensor:
        """Return (N, out) without updates of low rank."""
        parts, order = [], []
        for base, numbers in self.bases:
            if of_base := [rows[number] for number in numbers if number in rows]:
                if len(of_base) == len(rows):
                    y: Tensor = base(x)
                    return y
                order.append(torch.cat(of_base))
                parts.append(base(x[order[-1]]))
        return torch.cat(parts)[torch.cat(order).argsort()]


def _round_updates(model: LanguageModel) -> None:
    """Keep updates of low rank as they are computed with; otherwise every pass rounds them."""
    for layer in model.modules():
        if _is_update(layer):
            for parameter in (layer.A, layer.B):
                parameter.data = parameter.data.to(model.compute_dtype)


def _bases(layers: Sequence[nn.Module]) -> list[tuple[nn.Module, list[int]]]:
    """Return the layers that differ, updates of low rank left aside, each with its models."""
    found: dict[object, tuple[nn.Module, list[int]]] = {}
    for number, layer in enumerate(layers):
        base = layer.base if _is_update(layer) else layer
        found.setdefault(_weights(base), (base, []))[1].append(number)
    return list(found.values())


def _weights(layer: nn.Module) -> object:
    """Return what two layers have in common if they are the same layer."""
    return type(layer), *(parameter.data_ptr() for parameter in layer.parameters())


def _is_update(layer: nn.Module) -> TypeGuard[LoRALinear]:
    """Return whether a layer only adds an update of low rank; DoRA scales the sum as well."""
    return type(layer) is LoRALinear
