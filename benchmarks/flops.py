"""The multiplications that a piece of work cannot do without, counted from shapes.

A product of (N, in) and (in, out) is 2 · N · in · out. Of each linear layer there is counted: the
forward product; the product for the weight's gradient, if it is trained; the product for the
input's gradient, if anything before it is trained; for a LoRA pair of rank R, 2 · N · R · (in +
out) forward, and 2 · N · R · (in + 2 · out) backward, with 2 · N · R · in more for the input's
gradient. The output layer, and what comes after attention in the last block, count at scored
positions only. Causal attention over T tokens is
2 · T² · D forward (half of the square is masked) and twice that backward. Norms, activations,
embeddings, the loss and the optimizer are left out, and nothing is counted that is computed twice
or on padding.
"""

from collections.abc import Sequence

from torch import nn

from tunewise.models import LanguageModel

INPUTS = ("attention.query", "attention.key", "attention.value")
REST = ("attention.out", "feed_forward.up", "feed_forward.down")


def training_flops(model: LanguageModel, lengths: Sequence[int], num_scored: int) -> float:
    """Return the operations of one pass forward and backward over sequences.

    Args:
        model: adapted by a method, so that it shows what is trained.
        lengths: tokens of each sequence, virtual ones included.
        num_scored: positions that the output layer sees.
    """
    num_tokens, model_dim = sum(lengths), model.config.model_dim
    attention = 2.0 * model_dim * sum(length**2 for length in lengths)
    flows = any(p.requires_grad for p in model.token_embedding.parameters())
    total = 0.0
    for block in model.blocks:
        inputs = [block.get_submodule(name) for name in INPUTS]
        total += sum(_layer_flops(layer, num_tokens, flows) for layer in inputs)
        flows |= any(_is_trained(layer) for layer in inputs)
        total += attention * (3 if flows else 1)
        num_read = num_scored if block is model.blocks[-1] else num_tokens
        for name in REST:
            layer = block.get_submodule(name)
            total += _layer_flops(layer, num_read, flows)
            flows |= _is_trained(layer)
    return total + _layer_flops(model.head, num_scored, flows)


def decoding_flops(
    model: LanguageModel, prompts: Sequence[int], new_tokens: Sequence[int]
) -> float:
    """Return the operations of reading prompts and writing after them, each token once.

    Args:
        prompts: tokens of each prompt.
        new_tokens: tokens written after each.
    """
    lengths = [prompt + new - 1 for prompt, new in zip(prompts, new_tokens, strict=True)]
    read = [sum(lengths)] * (len(model.blocks) - 1) + [sum(new_tokens)]
    forward = 2.0 * sum(
        sum(lengths) * sum(_size(block.get_submodule(name)) for name in INPUTS)
        + num_read * sum(_size(block.get_submodule(name)) for name in REST)
        for block, num_read in zip(model.blocks, read, strict=True)
    )
    attention = 2.0 * model.config.model_dim * sum(n**2 for n in lengths) * len(model.blocks)
    return forward + attention + 2.0 * _size(model.head) * sum(new_tokens)


def _layer_flops(layer: nn.Module, num_tokens: int, flows: bool) -> float:
    weight: nn.Parameter = layer.weight
    out_dim, in_dim = weight.shape
    total = in_dim * out_dim * (1 + weight.requires_grad + flows)
    if (a := getattr(layer, "A", None)) is not None:
        rank = a.shape[0]
        total += rank * (2 * in_dim + 3 * out_dim + flows * in_dim)
    return 2.0 * num_tokens * total


def _size(layer: nn.Module) -> int:
    return layer.weight.numel()


def _is_trained(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())
