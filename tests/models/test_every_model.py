"""Laws that hold for every family: `FAMILIES` is the list, `conftest.py` has a shape of each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from tunewise.data.encode import IGNORE
from tunewise.data.packing import Batch
from tunewise.models import LanguageModel, ModelConfig
from tunewise.models.attention import Attention
from tunewise.models.fast.loss import summed_loss
from tunewise.models.folder import build_model
from tunewise.models.language_model import Block, initialise

Packed = Callable[..., Batch]
Sequences = list[list[int]]


def test_packed_equals_one_by_one(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    batch = packed(sequences)
    together = _hidden(model, batch)
    for index, ids in enumerate(sequences):
        alone = _hidden(model, packed([ids]))
        torch.testing.assert_close(together[batch.segments == index], alone, atol=1e-5, rtol=1e-5)


def test_packed_gradients_equal_the_sum_of_one_by_one(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    model.requires_grad_(True)
    _loss(model, packed(sequences)).backward()
    together = _take_gradients(model)
    for ids in sequences:
        _loss(model, packed([ids])).backward()
    _assert_same_gradients(together, _take_gradients(model))


def test_the_order_of_sequences_in_a_pass_is_of_no_account(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    batch, turned = packed(sequences), packed(sequences[::-1])
    hidden, other = _hidden(model, batch), _hidden(model, turned)
    for index in range(len(sequences)):
        there = turned.segments == len(sequences) - 1 - index
        torch.testing.assert_close(
            hidden[batch.segments == index], other[there], atol=1e-5, rtol=1e-5
        )


def test_no_sequence_looks_into_another(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    before = packed(sequences)
    hidden = _hidden(model, before)
    for index, ids in enumerate(sequences):
        changed = [*sequences[:index], [99 - token for token in ids], *sequences[index + 1 :]]
        after = packed(changed)
        others = before.segments != index
        hidden_after = _hidden(model, after)
        assert torch.equal(hidden_after[others], hidden[others])
        assert not torch.equal(hidden_after[~others], hidden[~others])


def test_no_token_sees_a_later_one(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    ids = max(sequences, key=len)
    hidden = _hidden(model, packed([ids]))
    for place in (1, 7, 8, 20, len(ids) - 1):
        changed = [*ids[:place], (ids[place] + 1) % 100, *ids[place + 1 :]]
        after = _hidden(model, packed([changed]))
        assert torch.equal(after[:place], hidden[:place])
        assert not torch.equal(after[place], hidden[place])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(
    model: LanguageModel, packed: Packed, sequences: Sequences, dropout: float
) -> None:
    model.requires_grad_(True).train()
    model.set_dropout(dropout)
    batch = packed(sequences)
    losses, gradients, kept = [], [], []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        torch.manual_seed(0)
        with _count_bytes_kept() as sizes:
            loss = _loss(model, batch)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(_take_gradients(model))
        kept.append(sum(sizes))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    _assert_same_gradients(*gradients)
    assert kept[1] < kept[0] / 2, "as much is kept for the backward pass, so no memory is spared"


def test_dropout_is_off_when_evaluating(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    batch = packed(sequences)
    plain = _hidden(model, batch)
    model.set_dropout(0.5)
    assert torch.equal(_hidden(model.eval(), batch), plain)


def test_training_without_dropout_computes_what_evaluating_does(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    batch = packed(sequences)
    assert torch.equal(_hidden(model.train(), batch), _hidden(model.eval(), batch))


@pytest.mark.parametrize("place", ["embeddings", "attention weights", "residuals"])
def test_dropout_acts_at_each_of_its_three_places_when_training(
    model: LanguageModel, packed: Packed, sequences: Sequences, place: str
) -> None:
    batch = packed(sequences)
    plain = _hidden(model, batch)
    model.set_dropout(0.5)
    if place != "embeddings":
        model.dropout = 0.0
    for module in model.modules():
        other = {"attention weights": Block, "residuals": Attention}.get(place, (Block, Attention))
        if isinstance(module, other):
            module.dropout = 0.0
    torch.manual_seed(0)
    first, second = (_hidden(model.train(), batch) for _ in range(2))
    torch.manual_seed(0)
    again = _hidden(model, batch)
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second), "two passes dropped the same numbers"
    assert torch.equal(first, again), "the seed does not settle what is dropped"


def test_dropout_keeps_the_expected_value(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    batch = packed(sequences)
    _hidden(model, batch)
    model.set_dropout(0.25)
    torch.manual_seed(0)
    _hidden(model.train(), batch)
    plain, dropped = seen
    kept = dropped != 0
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.05)
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.75)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trained"])
def test_bf16_logits_and_gradients_are_near_those_of_fp32(
    model: LanguageModel, packed: Packed, sequences: Sequences, frozen: bool
) -> None:
    initialise(model.cpu(), torch.Generator().manual_seed(0))
    batch = packed(sequences)
    model.to(batch.tokens.device).requires_grad_(not frozen)
    model.final_norm.requires_grad_(True)
    exact = model.logits(_hidden(model, batch)).detach()
    _loss(model, batch).backward()
    exact_gradients = _take_gradients(model)

    model.set_precision(torch.bfloat16)
    hidden = _hidden(model, batch)
    assert hidden.dtype == torch.bfloat16
    assert _distance(model.logits(hidden).detach(), exact) < 0.02
    _loss(model, batch).backward()
    for name, gradient in _take_gradients(model).items():
        assert gradient.dtype == torch.float32, name
        # A bias of the keys shifts all logits of a softmax alike: its gradient is rounding.
        if not name.endswith("key.bias"):
            assert _distance(gradient, exact_gradients[name]) < 0.05, name


def test_precision_leaves_a_tied_output_layer_tied(model: LanguageModel) -> None:
    model.set_precision(torch.bfloat16)
    assert model.head_is_tied
    model.requires_grad_(True)
    model.set_precision(torch.bfloat16)
    assert model.head_is_tied
    assert len(list(model.trainable())) == len(list(model.parameters()))


def test_an_untied_output_layer_starts_as_a_copy_and_goes_its_own_way(
    model: LanguageModel, packed: Packed, sequences: Sequences
) -> None:
    hidden = _hidden(model, packed(sequences))
    before = model.logits(hidden)
    total, _ = model.count_parameters()
    table = model.get_parameter("token_embedding.weight").clone()
    model.untie_head()
    assert torch.equal(model.logits(hidden), before)
    assert model.count_parameters()[0] == total + table.numel()
    with torch.no_grad():
        model.get_parameter("head.weight").zero_()
    assert torch.equal(model.get_parameter("token_embedding.weight"), table)


def test_a_new_label_layer_comes_from_the_generator_alone(model: LanguageModel) -> None:
    model.cpu()
    layers = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(layers))
        model.use_label_head(3, torch.Generator().manual_seed(seed))
        layers.append(model.get_parameter("head.weight").detach())
    assert layers[0].shape == (3, model.config.model_dim)
    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])


def test_fresh_weights_come_from_the_generator_alone(config: ModelConfig) -> None:
    fresh = []
    for seed in (0, 0, 1):
        model = build_model(config, "cpu")
        initialise(model, torch.Generator().manual_seed(seed))
        fresh.append(model.state_dict())
    assert all(torch.equal(weight, fresh[1][name]) for name, weight in fresh[0].items())
    assert any(not torch.equal(weight, fresh[2][name]) for name, weight in fresh[0].items())


def test_a_fresh_model_knows_nothing(
    config: ModelConfig, packed: Packed, sequences: Sequences, device: torch.device
) -> None:
    model = build_model(config, "cpu")
    initialise(model, torch.Generator().manual_seed(0))
    batch = packed(sequences)
    loss = float(_loss(model.to(device), batch).detach()) / batch.num_scored
    uniform = float(torch.tensor(config.vocabulary_size).log())
    assert loss == pytest.approx(uniform, abs=0.1)


def test_the_checkpoint_names_cover_every_parameter_once(config: ModelConfig) -> None:
    model = build_model(config)
    named = [name for stored in model.stored_tensors() for name in stored.ours]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    theirs = [stored.theirs for stored in model.stored_tensors()]
    assert len(set(theirs)) == len(theirs)


def _hidden(model: LanguageModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model.hidden(batch)


def _loss(model: LanguageModel, batch: Batch) -> Tensor:
    scored = batch.targets != IGNORE
    hidden = model.hidden(batch)
    return summed_loss(model, hidden[scored], batch.targets[scored])


def _take_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of everything that is trained, and leave none behind."""
    gradients = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            gradients[name] = parameter.grad
        parameter.grad = None
    return gradients


def _assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        tolerance = max(1e-5 * float(expected[name].abs().max()), 1e-6)
        torch.testing.assert_close(
            gradient,
            expected[name],
            atol=tolerance,
            rtol=0,
            msg=lambda message, name=name: f"{name}: {message}",
        )


@contextmanager
def _count_bytes_kept() -> Iterator[list[int]]:
    """Give a list of the sizes of the tensors that are kept for the backward pass."""
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes


def _distance(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())
