"""Names of tensors, in a Hugging Face checkpoint ("theirs") and here ("ours")."""

from collections.abc import Iterator
from typing import NamedTuple


class TensorName(NamedTuple):
    """One tensor of a checkpoint and where it goes."""

    theirs: str
    """Name in the checkpoint, without the name prefix."""
    ours: tuple[str, ...]
    """Our parameters; several if theirs is fused: its output axis is split, in this order."""
    transposed: bool = False
    """Whether it is (in, out) there: the Conv1D of GPT-2."""


class Mapped(NamedTuple):
    """A line of a family's table of names.

    `{}` stands for the number of a block, each in its turn, and a `*` at the end for `weight` and
    `bias`. `Mapped("h.{}.attn.c_attn.*", ("blocks.{}.attention.query.*", ...), transposed=True)`
    names two tensors of each block, both fused; only the weight is transposed.
    """

    theirs: str
    ours: str | tuple[str, ...]
    transposed: bool = False
    """Whether the weight is (in, out) there."""


def expand(mapped: Mapped, num_layers: int) -> Iterator[TensorName]:
    """Yield the tensors that a line of a table names, in a model of so many blocks."""
    ours = (mapped.ours,) if isinstance(mapped.ours, str) else mapped.ours
    for index in range(num_layers) if "{}" in mapped.theirs else [0]:
        for kind in ("weight", "bias") if mapped.theirs.endswith("*") else [""]:
            theirs, *own = (
                name.replace("{}", str(index)).replace("*", kind) for name in (mapped.theirs, *ours)
            )
            yield TensorName(theirs, tuple(own), mapped.transposed and kind != "bias")
