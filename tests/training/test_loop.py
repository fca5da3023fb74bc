"""The loop makes the updates that the definition of each optimizer asks for, and says so."""

import copy
import itertools
import math
import random
import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from tunewise.data.encode import Encoded
from tunewise.errors import TrainingError
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model, save_model
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, epoch_order, group_by_length, train, updates_per_epoch
from tunewise.training.optimizers import NAMES

NewModel = Callable[..., LanguageModel]
PLAIN: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 5,
    "learning_rate": 0.01,
    "schedule": "constant",
    "warmup": 0.0,
    "clip_norm": None,
}
"""Settings under which an update is nothing but the optimizer's."""


def config_of(**settings: Any) -> TrainConfig:
    return TrainConfig(**(PLAIN | settings))


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def trained(model: LanguageModel, sequences: list[Encoded], config: TrainConfig) -> list[Step]:
    return list(train(model, sequences, config, seed=3))


@pytest.mark.parametrize("heads", ["language", "labels"])
@pytest.mark.parametrize("tokens_per_pass", [1, 17])
def test_an_update_in_many_passes_equals_one_in_a_single_pass(
    new_model: NewModel, request: pytest.FixtureRequest, heads: str, tokens_per_pass: int
) -> None:
    sequences = request.getfixturevalue("texts" if heads == "language" else "labelled")
    num_labels = None if heads == "language" else 3
    whole, parts = new_model(num_labels), new_model(num_labels)
    settings = {"optimizer": "sgd", "learning_rate": 0.3}
    steps = trained(whole, sequences, config_of(**settings))
    again = trained(parts, sequences, config_of(**settings, tokens_per_pass=tokens_per_pass))
    for one, other in zip(steps, again, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
        assert (other.num_tokens, other.num_scored) == (one.num_tokens, one.num_scored)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(
            parts.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name
        )


def plain_optimizer(name: str, model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    rate = config.learning_rate
    assert rate is not None
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate)
        case "adam":
            return torch.optim.Adam(groups, lr=rate)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9)


@pytest.mark.parametrize("optimizer", NAMES)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_updates_equal_those_of_a_plain_loop_in_torch_and_transformers(
    new_model: NewModel,
    texts: list[Encoded],
    folder: Path,
    tmp_path: Path,
    optimizer: str,
    clip_norm: float | None,
) -> None:
    config = config_of(
        optimizer=optimizer, clip_norm=clip_norm, batch_size=4, weight_decay=0.1, tokens_per_pass=30
    )
    model = new_model()
    steps = list(islice(train(model, texts, config, seed=3), 5))

    # Eval mode: its configuration has dropout, ours has none.
    other: Any = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    theirs = plain_optimizer(optimizer, other, config)
    chosen = [epoch_order(12, epoch, seed=3) for epoch in range(2)]
    batches = [order[start : start + 4] for order in chosen for start in (0, 4, 8)]
    for step, batch in zip(steps, batches, strict=False):
        logits, targets = [], []
        for sequence in (texts[index] for index in batch):
            ids = torch.from_numpy(sequence.ids).long()
            start = max(1, sequence.prompt_length)
            logits.append(other(ids[None]).logits[0, start - 1 : -1])
            targets.append(ids[start:])
        loss = nn.functional.cross_entropy(torch.cat(logits), torch.cat(targets))
        theirs.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(other.parameters(), clip_norm or math.inf)
        theirs.step()
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
        assert step.grad_norm == pytest.approx(norm.item(), rel=1e-4)
        assert step.num_scored == len(torch.cat(targets))
    assert len(steps) == 5

    other.save_pretrained(tmp_path)
    for name, expected in weights(load_model(tmp_path)).items():
        if name.endswith("key.bias"):
            continue  # its gradient is zero but for rounding, which Adam makes large
        found = model.get_parameter(name)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5, msg=name)


def test_the_gradient_is_clipped_to_the_norm_asked_for(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    free, clipped = new_model(), new_model()
    before = weights(free)
    settings = {"optimizer": "sgd", "epochs": 1, "batch_size": 12, "weight_decay": 0.0}
    (one,) = trained(free, texts, config_of(**settings))
    (other,) = trained(clipped, texts, config_of(**settings, clip_norm=one.grad_norm / 4))
    assert other.grad_norm == pytest.approx(one.grad_norm)  # told as it was before clipping
    for name, weight in before.items():
        change = (free.get_parameter(name) - weight) / 4
        torch.testing.assert_close(clipped.get_parameter(name) - weight, change, msg=name)


def test_weight_decay_leaves_biases_and_norms_alone(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    decayed, free = new_model(), new_model()
    settings = {"optimizer": "sgd", "epochs": 1, "batch_size": 12}
    trained(decayed, texts, config_of(**settings, weight_decay=0.5))
    trained(free, texts, config_of(**settings, weight_decay=0.0))
    for name, weight in weights(free).items():
        assert torch.equal(decayed.get_parameter(name), weight) == (weight.ndim < 2), name


@pytest.mark.parametrize("num_sequences", [1, 7, 100])
def test_an_epoch_takes_every_sequence_once(num_sequences: int) -> None:
    for epoch in range(3):
        assert sorted(epoch_order(num_sequences, epoch, 0)) == list(range(num_sequences))


def test_the_order_changes_with_the_epoch_and_the_seed_and_with_nothing_else() -> None:
    orders = {
        (epoch, seed): epoch_order(50, epoch, seed) for epoch in range(3) for seed in range(3)
    }
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    torch.manual_seed(99)
    assert all(epoch_order(50, *key) == order for key, order in orders.items())


@pytest.mark.parametrize("num_sequences", [40, 43, 7, 5, 3])
def test_in_a_window_updates_share_out_sequences_by_length(num_sequences: int) -> None:
    config = config_of(batch_size=5, length_window=4)
    chance = random.Random(0)
    lengths = [chance.randrange(1, 1000) for _ in range(num_sequences)]
    orders = []
    for epoch in range(2):
        order = epoch_order(num_sequences, epoch, seed=0)
        arranged = group_by_length(order, lengths, config, epoch, seed=0)
        assert arranged == group_by_length(order, lengths, config, epoch, seed=0)
        for start in range(0, num_sequences, 20):
            window = arranged[start : start + 20]
            assert sorted(window) == sorted(order[start : start + 20])
            updates = [sorted(lengths[i] for i in window[at : at + 5]) for at in (0, 5, 10, 15)]
            spans = sorted((some[0], some[-1]) for some in updates if some)
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
        orders.append(arranged)
    assert num_sequences < 10 or orders[0] != orders[1]


def test_the_updates_of_a_window_are_in_no_order_of_length() -> None:
    config = config_of(batch_size=1, length_window=50)
    arranged = group_by_length(range(50), range(50), config, epoch=0, seed=0)
    assert sorted(arranged) == list(range(50)) != arranged


def test_training_in_windows_of_length_takes_every_sequence_once_an_epoch(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    steps = trained(new_model(), texts, config_of(length_window=2))
    plain = trained(new_model(), texts, config_of())
    for epoch in (1, 2):
        tokens = [sum(s.num_tokens for s in some if s.epoch == epoch) for some in (steps, plain)]
        assert tokens[0] == tokens[1]
    assert [s.num_tokens for s in steps] != [s.num_tokens for s in plain]


def test_every_method_sees_the_rows_in_the_same_order(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    full, head_only = new_model(), new_model()
    head_only.requires_grad_(False)
    head_only.untie_head()
    head_only.head.requires_grad_(True)
    one, other = (trained(model, texts, config_of()) for model in (full, head_only))
    assert [s.num_tokens for s in one] == [s.num_tokens for s in other]
    assert [s.num_scored for s in one] == [s.num_scored for s in other]
    assert one[0].loss == other[0].loss  # before any update both are the base model
    assert one[-1].loss != other[-1].loss


def test_updates_and_epochs_are_numbered_from_one_and_the_last_update_may_be_short(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    config = config_of(epochs=2, batch_size=5)
    steps = trained(new_model(), texts, config)
    assert updates_per_epoch(len(texts), config) == 3
    assert [(s.number, s.epoch) for s in steps] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    for epoch in (steps[:3], steps[3:]):
        assert sum(s.num_tokens for s in epoch) == sum(len(t.ids) for t in texts)
        assert sum(s.num_scored for s in epoch) == sum(t.num_scored for t in texts)


def test_the_caller_may_stop_after_any_update(new_model: NewModel, texts: list[Encoded]) -> None:
    model, uninterrupted = new_model(), new_model()
    next(iter(train(model, texts, config_of(), seed=3)))
    after_one = weights(model)
    for step in train(uninterrupted, texts, config_of(), seed=3):
        if step.number == 1:
            break
    assert all(torch.equal(uninterrupted.get_parameter(n), w) for n, w in after_one.items())


def test_training_lowers_the_loss(new_model: NewModel, labelled: list[Encoded]) -> None:
    steps = trained(new_model(3), labelled, config_of(epochs=15, batch_size=12))
    assert steps[-1].loss < 0.5 * steps[0].loss


# A loss that is not finite ends the run before it spoils the weights.


def test_a_loss_that_is_not_finite_stops_with_the_update_the_rate_and_the_rows(
    new_model: NewModel, texts: list[Encoded]
) -> None:
    model = new_model()
    with torch.no_grad():
        model.get_parameter("final_norm.weight")[0] = math.nan
    before = weights(model)
    with pytest.raises(TrainingError) as caught:
        trained(model, texts, config_of(learning_rate=0.0625))
    found = str(caught.value)
    assert "update 1" in found
    assert "0.0625" in found
    rows = {texts[index].example_id for index in epoch_order(12, 0, 3)[:5]}
    assert set(re.findall(r"rows:\d+", found)) == rows
    for name, weight in weights(model).items():
        assert torch.equal(weight.nan_to_num(7.0), before[name].nan_to_num(7.0)), name


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
@pytest.mark.parametrize("size", [1, 5, 6, 12])
def test_a_message_names_five_rows_at_most_and_how_many_more(
    new_model: NewModel,
    texts: list[Encoded],
    caplog: pytest.LogCaptureFixture,
    size: int,
    on_nan: str,
) -> None:
    model = new_model()
    with torch.no_grad():
        model.get_parameter("final_norm.weight")[0] = math.nan
    config = config_of(batch_size=size, epochs=1, on_nan=on_nan)
    with pytest.raises(TrainingError) if on_nan == "stop" else nullcontext() as caught:
        trained(model, texts, config)
    found = caplog.messages[0] if caught is None else str(caught.value)
    names = [texts[index].example_id for index in epoch_order(12, 0, 3)[:size]]
    assert re.findall(r"rows:\d+", found) == names[:5]
    assert re.findall(r"(\d+) more", found) == ([str(size - 5)] if size > 5 else [])


def test_an_update_that_diverges_is_not_applied(new_model: NewModel, texts: list[Encoded]) -> None:
    model = new_model()
    config = config_of(optimizer="sgd", learning_rate=1e30)
    last: dict[str, Tensor] = {}
    numbers = []
    with pytest.raises(TrainingError, match=r"update \d+: .*1e\+30") as caught:
        for step in train(model, texts, config, seed=3):
            numbers.append(step.number)
            last = weights(model)
    assert f"update {len(numbers) + 1}:" in str(caught.value)
    assert numbers
    for name, weight in last.items():
        assert torch.equal(model.get_parameter(name), weight), name


def test_a_saved_model_goes_on_from_the_weights_it_had(
    new_model: NewModel, texts: list[Encoded], tmp_path: Path
) -> None:
    model = new_model()
    trained(model, texts, config_of())
    save_model(model, tmp_path, end_of_text=0)
    loaded = load_model(tmp_path)
    loaded.requires_grad_(True)
    plain = config_of(optimizer="sgd", epochs=1)
    one, other = trained(copy.deepcopy(model), texts, plain), trained(loaded, texts, plain)
    assert [s.loss for s in one] == [s.loss for s in other]


def test_a_step_says_what_was_done(new_model: NewModel, texts: list[Encoded]) -> None:
    config = config_of(schedule="linear", epochs=1, batch_size=4, min_learning_rate=0.001)
    steps = trained(new_model(), texts, config)
    assert [s.learning_rate for s in steps] == pytest.approx([0.01, 0.007, 0.004])
    assert all(math.isfinite(s.loss) for s in steps)
