"""The loss in slices is the loss, and no more than a slice of logits is ever held."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tunewise.methods.lora import LoRA
from tunewise.models import LanguageModel
from tunewise.models.fast import loss as scoring
from tunewise.models.fast.loss import score, summed_loss

POSITIONS = 11
HEADS = ["frozen", "tied", "untied", "lora", "labels"]


# Slices of one row, of some and of all; tiles of some numbers, of one and of all.
@pytest.mark.parametrize(("rows", "tile"), [(1, 200), (3, 1), (11, 2**19)])
@pytest.mark.parametrize("head", HEADS)
def test_the_sliced_loss_and_its_gradients_are_those_of_one_cross_entropy(
    model: LanguageModel, head: str, rows: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TILE", tile)
    hidden, targets = _prepare(model, head)
    expected = F.cross_entropy(model.logits(hidden), targets, reduction="sum") / 7
    expected.backward()
    expected_gradients = _take_gradients(model, hidden)

    monkeypatch.setattr(scoring, "SLICE", rows * _width(model))
    loss = summed_loss(model, hidden, targets) / 7
    loss.backward()
    gradients = _take_gradients(model, hidden)

    torch.testing.assert_close(loss, expected)
    assert gradients.keys() == expected_gradients.keys()
    assert ("head" in str(gradients.keys())) == (head not in ("frozen", "tied"))
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tile", [1, 2**19])
@pytest.mark.parametrize("head", HEADS)
def test_weights_multiply_the_loss_and_gradient_of_each_position(
    model: LanguageModel, head: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TILE", tile)
    monkeypatch.setattr(scoring, "SLICE", 3 * _width(model))
    hidden, targets = _prepare(model, head)
    weights = torch.linspace(-2, 3, POSITIONS).to(hidden.device)
    expected = (weights * F.cross_entropy(model.logits(hidden), targets, reduction="none")).sum()
    expected.backward()
    expected_gradients = _take_gradients(model, hidden)
    loss = summed_loss(model, hidden, targets, weights)
    loss.backward()
    gradients = _take_gradients(model, hidden)
    torch.testing.assert_close(loss, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-5, rtol=1e-5)


def test_weights_of_one_change_no_bit(model: LanguageModel) -> None:
    hidden, targets = _prepare(model, "tied")
    found = []
    for weights in (None, torch.ones(POSITIONS).to(hidden.device)):
        summed_loss(model, hidden, targets, weights).backward()
        found.append(_take_gradients(model, hidden))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_a_loss_of_frozen_states_still_trains_the_output_layer(
    model: LanguageModel, trained: bool
) -> None:
    hidden, targets = _prepare(model, "untied" if trained else "frozen")
    loss = summed_loss(model, hidden.detach(), targets)
    assert loss.requires_grad == trained
    expected = F.cross_entropy(model.logits(hidden.detach()), targets, reduction="sum")
    torch.testing.assert_close(loss, expected)
    if trained:
        loss.backward()
        found = model.get_parameter("head.weight").grad
        (wanted,) = torch.autograd.grad(expected, [model.get_parameter("head.weight")])
        assert found is not None
        torch.testing.assert_close(found, wanted)


def test_scores_are_log_softmax_and_argmax(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, targets = _prepare(model, "frozen")
    log_softmax = model.logits(hidden).log_softmax(-1)
    expected = log_softmax.gather(1, targets[:, None]).squeeze(1)
    monkeypatch.setattr(scoring, "SLICE", 3 * _width(model))
    log_likelihoods, likeliest = score(model, hidden, targets)
    torch.testing.assert_close(log_likelihoods, expected)
    assert torch.equal(likeliest, log_softmax.argmax(-1))


@pytest.mark.parametrize("head", HEADS)
def test_no_more_than_a_slice_of_logits_is_held_at_once(
    model: LanguageModel, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, targets = _prepare(model, head)
    sizes: list[int] = []

    def recorded(part: Tensor) -> Tensor:
        logits: Tensor = type(model).logits(model, part)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(scoring, "SLICE", 4 * _width(model))
    monkeypatch.setattr(model, "logits", recorded)
    summed_loss(model, hidden, targets)
    score(model, hidden, targets)
    assert max(sizes) <= scoring.SLICE
    assert sum(sizes) == 2 * POSITIONS * _width(model), "a position is scored twice, or not at all"


def test_the_loss_is_added_up_in_fp32_whatever_the_precision(model: LanguageModel) -> None:
    hidden, targets = _prepare(model, "frozen")
    model.set_precision(torch.bfloat16)
    hidden = hidden.detach().to(torch.bfloat16)
    loss = summed_loss(model, hidden, targets)
    log_likelihoods, _ = score(model, hidden, targets)
    assert loss.dtype == log_likelihoods.dtype == torch.float32
    expected = F.cross_entropy(model.logits(hidden).double(), targets, reduction="sum")
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_hopeless_predictions_have_a_finite_loss_and_gradient(model: LanguageModel) -> None:
    hidden, targets = _prepare(model, "frozen")
    hidden = (1e4 * hidden).detach().requires_grad_(True)
    expected = F.cross_entropy(model.logits(hidden).double(), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    loss = summed_loss(model, hidden, targets)
    (found,) = torch.autograd.grad(loss, hidden)
    assert float(expected.detach()) > 1e4
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_pass_with_nothing_to_score_adds_nothing(model: LanguageModel) -> None:
    hidden, targets = _prepare(model, "untied")
    nothing = torch.zeros(POSITIONS, dtype=torch.bool, device=hidden.device)
    loss = summed_loss(model, hidden[nothing], targets[nothing])
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad is not None and not hidden.grad.any()
    log_likelihoods, likeliest = score(model, hidden[nothing], targets[nothing])
    assert len(log_likelihoods) == len(likeliest) == 0


def _prepare(model: LanguageModel, head: str) -> tuple[Tensor, Tensor]:
    """Return states and targets for a model whose output layer is trained as `head` says."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    model.cpu().requires_grad_(False)
    if head == "labels":
        model.use_label_head(3, generator)
    elif head == "untied":
        model.untie_head()
        model.head.requires_grad_(True)
    elif head == "tied":
        model.head.requires_grad_(True)
    elif head == "lora":
        LoRA(targets=("head",), rank=2).adapt(model, generator)
        torch.nn.init.normal_(model.get_parameter("head.B"), generator=generator)
    model.to(device)
    hidden = torch.randn(POSITIONS, model.config.model_dim, generator=generator)
    targets = torch.randint(_width(model), (POSITIONS,), generator=generator)
    return hidden.to(device).requires_grad_(True), targets.to(device)


def _width(model: LanguageModel) -> int:
    return model.num_labels or model.config.vocabulary_size


def _take_gradients(model: LanguageModel, hidden: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the states and of what is trained, and leave none behind."""
    found = {"hidden": hidden, **dict(model.trainable())}
    gradients = {}
    for name, tensor in found.items():
        assert tensor.grad is not None, name
        gradients[name] = tensor.grad
        tensor.grad = None
    return gradients
