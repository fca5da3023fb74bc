"""What is measured: every item of work, as data. To add one, name it in ITEMS."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal["updates", "run", "decode"]
Side = Literal["ours", "peer", "plain"]

LORA = {"kind": "lora", "rank": 16, "alpha": 16}
ALIKE = ["out", "up", "down"]
"""LoRA targets with one parametrisation on both sides; GPT-2's query, key and value are fused."""
PAIR: tuple[Side, ...] = ("ours", "peer")
WITH_PLAIN: tuple[Side, ...] = ("ours", "peer", "plain")

PLAIN_EVERY = 8
"""The plain loop writes on from one prompt in so many; the rest would take minutes."""


@dataclass(frozen=True)
class Item:
    """A piece of work that every side does."""

    name: str
    what: str
    kind: Kind
    """Steady updates after a warm-up; a whole run from the weights on disk; or writing texts."""
    method: dict[str, Any]
    rows: Literal["random", "sst5"] = "random"
    """Random ids of `length` tokens for language modelling, or SST-5's sentences and labels."""
    sides: tuple[Side, ...] = PAIR
    model: str = "gpt2"
    length: int = 256
    """Tokens of a random row; of prompts, the most."""
    num_rows: int = 40
    epochs: int = 1
    warm_up: int = 1
    """Updates before those that are timed."""
    new_tokens: int = 64
    train: dict[str, Any] = field(default_factory=dict)
    """Fields of a TrainConfig beside COMMON's."""
    peer_weights: Literal["bf16", "fp32"] = "bf16"
    """The precision of the peer's frozen weights in a bf16 run: the faster one, as measured."""
    agrees: bool = True
    """Whether both sides are also compared in fp32."""


COMMON = {
    "batch_size": 8,
    "schedule": "constant",
    "warmup": 0.0,
    "learning_rate": 1e-3,
    "evaluate_every": 10**9,
}
"""A constant rate; an evaluation only at the very end, after the time is taken."""

ITEMS = (
    Item(
        "lora_lm", "LoRA on all layers, 8 x 256 tokens", "updates", LORA, peer_weights="fp32"
    ),
    Item(
        "lora_sst5", "LoRA on all layers, 8 sentences", "updates", LORA, "sst5", WITH_PLAIN,
        num_rows=168, train={"learning_rate": 1e-4},
    ),
    Item(
        "full_lm", "every weight, 8 x 256 tokens", "updates", {"kind": "full"},
        train={"learning_rate": 1e-4},
    ),
    Item(
        "soft_prompt", "12 virtual tokens, 8 x 244 tokens", "updates",
        {"kind": "soft_prompt", "tokens": 12}, length=244, train={"learning_rate": 1e-2},
    ),
    Item(
        "last_layer", "the label layer, 10 epochs of 200 sentences", "run",
        {"kind": "last_layer"}, "sst5", WITH_PLAIN, num_rows=200, epochs=10,
    ),
    Item(
        "lora_last4", "LoRA on the last 4 of 12 blocks, 3 epochs of 200 sentences", "run",
        LORA | {"blocks": "last-4"}, "sst5", WITH_PLAIN, num_rows=200, epochs=3,
        train={"learning_rate": 1e-4},
    ),
    Item(
        "decoding", "64 prompts of 8 to 128 tokens, 64 new tokens each, greedy", "decode",
        LORA, sides=WITH_PLAIN, length=128, num_rows=64,
    ),
    Item(
        "memory_medium", "gpt2-medium, LoRA on all layers, 8 x 256 tokens", "updates", LORA,
        model="gpt2-medium", num_rows=24, agrees=False,
    ),
)  # fmt: skip


def for_agreement(item: Item) -> Item:
    """Return the item as it is compared in fp32: few updates of what both sides train alike."""
    method = item.method
    if method["kind"] == "lora":
        method = method | {"targets": ALIKE}
    if item.kind == "decode":
        return replace(item, num_rows=8, new_tokens=16, sides=PAIR)
    return replace(
        item, kind="updates", method=method, num_rows=32, epochs=1, warm_up=0, sides=PAIR
    )


def quick(item: Item) -> Item:
    """Return the item so small that it only shows that the program works."""
    return replace(item, num_rows=24, warm_up=1, epochs=min(item.epochs, 2), new_tokens=8)
