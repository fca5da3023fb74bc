"""Our models compute what transformers computes: an independent implementation of each family."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from tiny import batch_of, reference, tiny_config
from torch import Tensor, nn

from tunewise.data.encode import IGNORE
from tunewise.data.packing import Batch
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.fast.loss import score, summed_loss
from tunewise.models.folder import load_model

Packed = Callable[..., Batch]
Sequences = list[list[int]]

NUM_LABELS = 3
EVERY_KIND = pytest.mark.parametrize("num_labels", [None, NUM_LABELS], ids=["language", "labels"])
EVERY_TIE = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


@EVERY_FAMILY
@EVERY_KIND
@EVERY_TIE
def test_logits_are_those_of_transformers(
    family: str,
    num_labels: int | None,
    tied: bool,
    sequences: Sequences,
    packed: Packed,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family, num_labels, tied)
    ours = _ours(theirs, tmp_path, num_labels).to(device)
    for ids in sequences:
        expected = theirs(torch.tensor([ids])).logits[0].detach()  # (T, V), or (L,)
        logits = _logits(ours, packed([ids])).cpu()
        logits = logits[-1] if num_labels else logits
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@EVERY_FAMILY
@EVERY_KIND
@EVERY_TIE
def test_loss_and_every_gradient_are_those_of_transformers_in_float64(
    family: str,
    num_labels: int | None,
    tied: bool,
    sequences: Sequences,
    packed: Packed,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family, num_labels, tied)
    ours = _ours(theirs, tmp_path, num_labels).requires_grad_(True).to(device)
    labels = [index % NUM_LABELS for index in range(len(sequences))] if num_labels else None

    batch = packed(sequences, labels)
    loss = _loss(ours, batch)
    loss.backward()

    exact = copy.deepcopy(theirs).double()
    expected = _reference_loss(exact, sequences, labels)
    expected.backward()

    torch.testing.assert_close(loss.detach().cpu().double(), expected.detach(), rtol=1e-5, atol=0)
    gradients = _gradients_as_stored(ours)
    assert gradients.keys() == {name for name, _ in exact.named_parameters()}
    for name, parameter in exact.named_parameters():
        assert parameter.grad is not None
        size = float(parameter.grad.abs().max())
        torch.testing.assert_close(
            gradients[name].double(),
            parameter.grad,
            rtol=0,
            atol=max(1e-5 * size, 1e-6),
            msg=lambda message, name=name: f"{name}: {message}",
        )


def test_a_new_label_layer_sees_the_last_token_as_in_transformers(
    sequences: Sequences, packed: Packed, tmp_path: Path, device: torch.device
) -> None:
    language = reference("gpt2")
    labels = reference("gpt2", NUM_LABELS)
    labels.transformer.load_state_dict(language.transformer.state_dict())
    ours = _ours(language, tmp_path, None).to(device)
    ours.use_label_head(NUM_LABELS)
    ours.head.weight = nn.Parameter(labels.score.weight.detach().to(device))

    batch = packed(sequences, [0] * len(sequences))
    hidden = ours.hidden(batch)
    scored = batch.targets != IGNORE
    _, likeliest = score(ours, hidden[scored], batch.targets[scored])

    answers = {int(s): int(a) for s, a in zip(batch.segments[scored], likeliest, strict=True)}
    for index, ids in enumerate(sequences):
        assert answers[index] == int(labels(torch.tensor([ids])).logits[0].argmax())


def test_local_attention_is_that_of_transformers_past_its_window(
    packed: Packed, tmp_path: Path, device: torch.device
) -> None:
    theirs = reference("gpt_neo")
    assert theirs.config.window_size == tiny_config("gpt_neo").window
    ours = _ours(theirs, tmp_path, None).to(device)
    ids = torch.randint(1, 100, (64,), generator=torch.Generator().manual_seed(3))
    expected = theirs(ids[None]).logits[0].detach()
    logits = _logits(ours, packed([ids.tolist()])).cpu()
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)

    # The window matters here: with a wider one the same weights give other logits.
    theirs.config.window_size = 64
    wide = transformers.GPTNeoForCausalLM(theirs.config).eval()
    wide.load_state_dict(theirs.state_dict())
    assert (wide(ids[None]).logits[0] - expected).abs().max() > 1e-2


@pytest.mark.slow
def test_gpt2_of_124_million_parameters_has_the_logits_of_transformers(tmp_path: Path) -> None:
    config = transformers.GPT2Config(attn_implementation="eager")
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = _ours(theirs, tmp_path, None)
    (tmp_path / "model.safetensors").unlink()  # half a gigabyte, which pytest would keep
    assert ours.count_parameters()[0] == 124_439_808

    ids = torch.randint(50257, (24,), generator=torch.Generator().manual_seed(0))
    expected = theirs(ids[None]).logits[0]
    hidden = ours.hidden(batch_of(ids))
    torch.testing.assert_close(ours.logits(hidden), expected, atol=1e-4, rtol=0)


def _ours(theirs: nn.Module, folder: Path, num_labels: int | None) -> LanguageModel:
    theirs.save_pretrained(folder)
    return load_model(folder, num_labels).eval()


def _logits(model: LanguageModel, batch: Batch) -> Tensor:
    hidden = model.hidden(batch)
    return model.logits(hidden).detach()


def _loss(model: LanguageModel, batch: Batch) -> Tensor:
    scored = batch.targets != IGNORE
    assert int(scored.sum()) == batch.num_scored
    hidden = model.hidden(batch)
    return summed_loss(model, hidden[scored], batch.targets[scored])


def _reference_loss(theirs: nn.Module, sequences: Sequences, labels: list[int] | None) -> Tensor:
    """Return the summed cross-entropy of sequences that are seen one at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for index, ids in enumerate(sequences):
        logits = theirs(torch.tensor([ids])).logits[0]  # (T, V), or (L,)
        if labels is not None:
            total = total + F.cross_entropy(logits, torch.tensor(labels[index]))
        elif len(ids) > 1:
            total = total + F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    return total


def _gradients_as_stored(model: LanguageModel) -> dict[str, Tensor]:
    """Return our gradients under transformers' names, fused and turned as it stores weights."""
    ours = {name: p.grad for name, p in model.named_parameters(remove_duplicate=False)}
    gradients = {}
    for stored in model.stored_tensors():
        parts = [ours[name] for name in stored.ours]
        assert all(part is not None for part in parts), stored.theirs
        whole = torch.cat([part.cpu() for part in parts if part is not None])
        gradients[model.name_prefix + stored.theirs] = whole.T if stored.transposed else whole
    head = ours["head.weight"]
    if not model.head_is_tied:
        assert head is not None
        gradients["score.weight" if model.num_labels else "lm_head.weight"] = head.cpu()
    return gradients
