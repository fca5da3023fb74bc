"""LoRA: trainable updates of low rank beside frozen layers (https://arxiv.org/abs/2106.09685).

W x becomes W x + scale · B A x, with A of shape (R, in) and B of shape (out, R). B starts at zero,
so a fresh model is the frozen one. One pair costs R · (in + out) parameters.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import ConfigError, nearest
from tunewise.methods import peft_folder
from tunewise.methods.method import Method, freeze
from tunewise.models import LanguageModel
from tunewise.models.layers import Linear

PATHS = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "out": "attention.out",
    "up": "feed_forward.up",
    "down": "feed_forward.down",
}
"""Where each target lies in a block; `head` is the output layer."""
HEAD = "head"


class LoRALinear(nn.Module):
    """A frozen layer plus a trainable update of rank R. Equal to the frozen layer at the start."""

    def __init__(self, base: Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.dropout = dropout
        out_dim, in_dim = base.weight.shape
        device = base.weight.device
        self.A = nn.Parameter(torch.empty(rank, in_dim, device=device))
        self.B = nn.Parameter(torch.zeros(out_dim, rank, device=device))

    @property
    def weight(self) -> Tensor:
        """The frozen weight, (out, in)."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out) from (N, in)."""
        dropout = self.dropout if self.training else 0.0
        y: Tensor = _LowRankUpdate.apply(  # type: ignore[no-untyped-call]  # torch has no types here
            x, self.base.weight, self.base.bias, self.A, self.B, self.scale, dropout
        )
        return y

    @torch.no_grad()
    def merged(self) -> Linear:
        """Return a plain layer with W + scale · B A, equal to this one up to rounding."""
        out_dim, in_dim = self.base.weight.shape
        layer = Linear(in_dim, out_dim, bias=self.base.bias is not None, device=self.A.device)
        update = self.scale * (self.B @ self.A)  # (out, R) @ (R, in)
        layer.weight = nn.Parameter(self.base.weight.float() + update)
        if self.base.bias is not None:
            layer.bias = nn.Parameter(self.base.bias.detach().clone())
        return layer


class _LowRankUpdate(torch.autograd.Function):
    """y = x Wᵀ + b + scale · drop(x) Aᵀ Bᵀ with W and b frozen, as one step of the graph.

    The update is added into the frozen product, forward and backward, where separate steps would
    each fill an (N, out) or (N, in) of their own; x is kept once, not with its dropped copy.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        ctx.master_dtype = a.dtype
        a, b, weight = a.to(x.dtype), b.to(x.dtype), weight.to(x.dtype)
        kept, mask = torch.native_dropout(x, dropout, True) if dropout else (x, None)
        low = kept @ a.T  # (N, in) -> (N, R)
        y = F.linear(x, weight, None if bias is None else bias.to(x.dtype))  # (N, out)
        y.addmm_(low, b.T, alpha=scale)
        ctx.save_for_backward(x, low, weight, a, b, mask)
        ctx.scale, ctx.dropout = scale, dropout
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, weight, a, b, mask = ctx.saved_tensors
        grad_low = (grad @ b).mul_(ctx.scale)  # (N, out) -> (N, R)
        grad_b = (grad.T @ low).mul_(ctx.scale)  # (out, R)
        kept = x if mask is None else (x * mask).div_(1 - ctx.dropout)
        grad_a = grad_low.T @ kept  # (R, in)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight  # (N, in)
            if mask is None:
                grad_x.addmm_(grad_low, a)
            else:
                grad_x.addcmul_(grad_low @ a, mask.to(x.dtype), value=1 / (1 - ctx.dropout))
        masters = (grad.to(ctx.master_dtype) for grad in (grad_a, grad_b))
        return grad_x, None, None, *masters, None, None


class LoRA(Method):
    """Train low-rank updates of chosen layers in chosen blocks."""

    kind: Literal["lora"] = "lora"
    default_learning_rate: ClassVar[float] = 1e-3
    rank: int = Field(default=8, gt=0)
    """Inner dimension of the update."""
    alpha: float = Field(default=16.0, gt=0)
    """Strength of the update; see `scaling`."""
    scaling: Literal["alpha/r", "alpha/sqrt(r)", "alpha"] = "alpha/r"
    """Factor of the update: LoRA's, rsLoRA's (https://arxiv.org/abs/2312.03732), or alpha."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the update's input."""
    init: Literal["kaiming", "gaussian"] = "kaiming"
    """How A starts: uniform within ±1/sqrt(in), as PEFT does, or normal with deviation 1/rank."""
    targets: tuple[str, ...] = Field(default=tuple(PATHS), min_length=1)
    """Layers with an update: query, key, value, out, up, down of each block, and head."""
    blocks: str | tuple[int, ...] = "all"
    """Blocks with an update: `all`, `last-K`, or a list of numbers from 0."""
    from_: peft_folder.Folder | None = Field(default=None, alias="from")
    """The folder of an adapter that PEFT wrote, to go on from; all but `dropout` is as it says."""

    @field_validator("targets")
    @classmethod
    def _targets_exist(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            if target not in (*PATHS, HEAD):
                raise ValueError(f"no layer {target!r}; {nearest(target, (*PATHS, HEAD))}")
        if len(set(targets)) < len(targets):
            raise ValueError("a layer is named twice")
        return targets

    @field_validator("blocks")
    @classmethod
    def _blocks_are_readable(cls, blocks: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(blocks, str) and not re.fullmatch(r"all|last-[1-9]\d*", blocks):
            raise ValueError(f"{blocks!r} is not `all`, `last-K` or a list of block numbers")
        if not isinstance(blocks, str) and (not blocks or len(set(blocks)) < len(blocks)):
            raise ValueError("the list is empty or names a block twice")
        return blocks

    @model_validator(mode="after")
    def _adapter_speaks_for_itself(self) -> Self:
        peft_folder.refuse_fields(self, self.from_, but=("dropout",))
        return self

    @property
    def scale(self) -> float:
        """The factor of the update."""
        if self.scaling == "alpha":
            return self.alpha
        return self.alpha / (self.rank if self.scaling == "alpha/r" else math.sqrt(self.rank))

    def adapt(
        self, model: LanguageModel, generator: torch.Generator, tokenizer: Tokenizer | None = None
    ) -> None:
        """Freeze the model and put an update beside each chosen layer."""
        if HEAD in self.targets and model.num_labels is not None:
            raise ConfigError(
                "method.targets: 'head' is the new label layer here, which is trained in full; "
                f"choose from {', '.join(PATHS)}"
            )
        freeze(model)
        if self.from_ is not None:
            for name, (a, b, scale) in peft_folder.read_lora(self.from_, model).items():
                path, _, attribute = name.rpartition(".")
                owner = model.get_submodule(path)
                layer = LoRALinear(getattr(owner, attribute), len(a), scale, self.dropout)
                if not layer.A.is_meta:
                    layer.A.data, layer.B.data = a, b
                setattr(owner, attribute, layer)
            return
        for owner, attribute in self._places(model):
            layer = LoRALinear(getattr(owner, attribute), self.rank, self.scale, self.dropout)
            if not layer.A.is_meta:
                self._initialise(layer.A, generator)
            setattr(owner, attribute, layer)

    def _places(self, model: LanguageModel) -> Iterator[tuple[nn.Module, str]]:
        """Yield the module and attribute of every chosen layer, from the input to the output."""
        for index in self._chosen_blocks(model.config.num_layers):
            for target, path in PATHS.items():
                if target in self.targets:
                    owner, _, attribute = path.rpartition(".")
                    yield model.blocks[index].get_submodule(owner), attribute
        if HEAD in self.targets:
            yield model, HEAD

    def _chosen_blocks(self, num_layers: int) -> list[int]:
        if self.blocks == "all":
            return list(range(num_layers))
        if isinstance(self.blocks, str):
            count = int(self.blocks.removeprefix("last-"))
            if count > num_layers:
                raise ConfigError(
                    f"method.blocks: the last {count} asked for; the model has {num_layers}"
                )
            return list(range(num_layers - count, num_layers))
        if wrong := [index for index in self.blocks if not 0 <= index < num_layers]:
            raise ConfigError(
                f"method.blocks: no block {wrong[0]}; the model has 0 to {num_layers - 1}"
            )
        return sorted(self.blocks)

    def _initialise(self, a: Tensor, generator: torch.Generator) -> None:
        if self.init == "kaiming":
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        else:
            nn.init.normal_(a, std=1 / self.rank, generator=generator)


def merge(model: LanguageModel) -> None:
    """Replace every LoRA layer of a model by a plain one that computes the same up to rounding."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoRALinear):
                setattr(module, name, child.merged().requires_grad_(False))
