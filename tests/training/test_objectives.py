"""The loop learns what an objective says: here preferences, compared with a plain formula."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import Batch, Unit, pack, pack_units
from tunewise.models import LanguageModel
from tunewise.models.fast.loss import score
from tunewise.training import parallel
from tunewise.training.config import TrainConfig
from tunewise.training.loop import Step, epoch_order, train
from tunewise.training.objectives import CrossEntropy, Objective
from tunewise.training.objectives.objective import loss_of_likelihoods

NewModel = Callable[..., LanguageModel]
BETA = 0.5


@dataclass(frozen=True, eq=False)
class Judged(Encoded):
    """A sequence, and the log-likelihood of its scored tokens before training."""

    reference: float = math.nan


class Preferences(Objective):
    """Of two answers the first is to become likelier than the second, from where both began.

    The mean over pairs of -log sigmoid(beta * ((l1 - r1) - (l2 - r2))), as DPO has it.
    """

    kind: Literal["preferences"] = "preferences"

    def prepare(
        self, model: LanguageModel, sequences: Sequence[Encoded], tokens_per_pass: int
    ) -> list[Encoded]:
        found: list[Encoded] = []
        for part in pack_units(self.units(sequences), tokens_per_pass):
            log_likelihoods, _ = score(model, hidden_of(model, part.batch), targets_of(part.batch))
            sums = summed(log_likelihoods, part.batch, len(part.sequences)).tolist()
            for one, reference in zip(part.sequences, sums, strict=True):
                found.append(
                    Judged(one.example_id, one.ids, one.prompt_length, None, None, reference)
                )
        return found

    def units(self, sequences: Sequence[Encoded]) -> list[Unit]:
        return list(zip(sequences[::2], sequences[1::2], strict=True))

    def count(self, units: Sequence[Unit]) -> int:
        return len(units)

    def summed_loss(
        self, model: LanguageModel, hidden: Tensor, batch: Batch, sequences: Sequence[Encoded]
    ) -> Tensor:
        references = torch.tensor([one.reference for one in sequences if isinstance(one, Judged)])

        def formula(log_likelihoods: Tensor) -> Tensor:
            gains = summed(log_likelihoods, batch, len(sequences)) - references
            return -F.logsigmoid(BETA * (gains[::2] - gains[1::2])).sum()

        return loss_of_likelihoods(model, hidden, targets_of(batch), formula)


def hidden_of(model: LanguageModel, batch: Batch) -> Tensor:
    return model.scored_hidden(batch)


def targets_of(batch: Batch) -> Tensor:
    return batch.targets[batch.scored]


def summed(log_likelihoods: Tensor, batch: Batch, num_sequences: int) -> Tensor:
    """Return the sum over each sequence's tokens, by its number in the pass."""
    return log_likelihoods.new_zeros(num_sequences).index_add(
        0, batch.segments[batch.scored], log_likelihoods
    )


@pytest.fixture
def pairs() -> list[Encoded]:
    """Return six pairs of uneven lengths with a prompt of two tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = [4, 9, 30, 3, 7, 7, 12, 5, 3, 28, 6, 10]
    return [
        Encoded(
            f"rows:{number // 2}", torch.randint(50, (n,), generator=generator).int().numpy(), 2
        )
        for number, n in enumerate(lengths)
    ]


def config_of(**settings: object) -> TrainConfig:
    plain = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1, "schedule": "constant"}
    plain |= {"warmup": 0.0, "clip_norm": None, "optimizer": "sgd", "weight_decay": 0.0}
    return TrainConfig.model_validate(plain | {"objective": Preferences()} | settings)


def trained(model: LanguageModel, pairs: list[Encoded], config: TrainConfig) -> list[Step]:
    known = config.objective.prepare(model, pairs, config.tokens_per_pass)
    return list(train(model, known, config, seed=3))


def by_formula(model: LanguageModel, reference: LanguageModel, pair: Sequence[Encoded]) -> Tensor:
    """Return the loss of a pair, with all logits at once."""

    def likelihood(model: LanguageModel, sequence: Encoded) -> Tensor:
        (batch,) = pack([sequence], 10**6)
        hidden = model.hidden(batch)
        log_p = model.logits(hidden)[1:-1].log_softmax(-1)
        return log_p.gather(1, batch.tokens[2:, None]).sum()

    one, other = (
        likelihood(model, sequence) - likelihood(reference, sequence).detach() for sequence in pair
    )
    return -F.logsigmoid(BETA * (one - other))


@pytest.mark.parametrize("tokens_per_pass", [1, 45, 8192])
def test_updates_are_those_of_the_plain_formula_in_float64(
    new_model: NewModel, pairs: list[Encoded], tokens_per_pass: int
) -> None:
    model = new_model()
    steps = trained(model, pairs, config_of(tokens_per_pass=tokens_per_pass, epochs=2))
    plain, reference = new_model().double(), new_model().double()
    for number, step in enumerate(steps):
        order = epoch_order(len(pairs) // 2, number // 2, seed=3)
        places = order[:4] if number % 2 == 0 else order[4:]
        plain.zero_grad()
        losses = [by_formula(plain, reference, pairs[2 * p : 2 * p + 2]) for p in places]
        loss = torch.stack(losses).mean()
        loss.backward()
        assert step.loss == pytest.approx(loss.item(), rel=1e-4)
        squares = [p.grad.square().sum() for _, p in plain.trainable() if p.grad is not None]
        assert step.grad_norm == pytest.approx(math.sqrt(sum(squares)), rel=1e-3)
        with torch.no_grad():
            for _, parameter in plain.trainable():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    for name, parameter in plain.trainable():
        found = model.get_parameter(name).double()
        torch.testing.assert_close(found, parameter, rtol=1e-3, atol=1e-5, msg=name)


def test_the_gradient_of_a_formula_is_autograd_s(new_model: NewModel) -> None:
    model = new_model()
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(9, 16, generator=generator).requires_grad_(True)
    targets = torch.randint(50, (9,), generator=generator)

    def formula(log_likelihoods: Tensor) -> Tensor:
        return (log_likelihoods.exp().sin() * torch.arange(9)).sum() - log_likelihoods[2] ** 2

    loss = loss_of_likelihoods(model, hidden, targets, formula)
    (found,) = torch.autograd.grad(loss, hidden)
    log_p = model.logits(hidden).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    expected = formula(log_p)
    (wanted,) = torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_pair_is_never_split_between_passes(pairs: list[Encoded]) -> None:
    units = Preferences().units(pairs)
    for tokens_per_pass in (1, 20, 45, 1000):
        passes = list(pack_units(units, tokens_per_pass))
        assert [one for part in passes for one in part.sequences] == pairs
        for part in passes:
            assert part.batch.num_tokens <= tokens_per_pass or len(part.sequences) == 2
            for one, other in zip(part.sequences[::2], part.sequences[1::2], strict=True):
                assert one.example_id == other.example_id
        for part, after in pairwise(passes):
            first = sum(len(one.ids) for one in after.sequences[:2])
            assert part.batch.num_tokens + first > tokens_per_pass


def test_a_pair_is_never_split_between_processes(
    pairs: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    units = Preferences().units(pairs)
    monkeypatch.setattr(parallel, "_is_alone", lambda: False)
    monkeypatch.setattr(parallel.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(parallel.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(parallel.my_share(units, lambda unit: sum(len(one.ids) for one in unit)))
    assert sorted(map(id, shares[0] + shares[1])) == sorted(map(id, units))


def test_the_first_loss_is_that_of_a_model_that_is_its_own_reference(
    new_model: NewModel, pairs: list[Encoded]
) -> None:
    first, *_ = trained(new_model(), pairs, config_of())
    assert first.loss == pytest.approx(math.log(2))
    assert first.num_scored == sum(
        one.num_scored for place in epoch_order(6, 0, 3)[:4] for one in pairs[2 * place :][:2]
    )


def test_cross_entropy_counts_scored_tokens_of_single_sequences(texts: list[Encoded]) -> None:
    objective = CrossEntropy()
    units = objective.units(texts)
    assert units == [(one,) for one in texts]
    assert objective.count(units) == sum(one.num_scored for one in texts)
