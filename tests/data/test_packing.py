"""Packing loses nothing, repeats nothing, and keeps sequences whole."""

import random

import numpy as np
import pytest
import torch

from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import Batch, pack

BOUNDS = (1, 7, 20, 64, 10_000)


def random_sequences(seed: int, labelled: bool = False) -> list[Encoded]:
    """Return sequences of uneven lengths, no two tokens of which are equal."""
    chance = random.Random(seed)
    sequences, first = [], 0
    for number in range(40):
        length = chance.choice((1, 2, 3, 3, 3, 8, 30))
        ids = np.arange(first, first + length, dtype=np.int32)
        label = chance.randrange(3) if labelled else None
        prompt_length = length if labelled else chance.randrange(length)
        sequences.append(Encoded(f"rows:{number}", ids, prompt_length, label))
        first += length
    return sequences


def unpacked(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Return the tokens, positions and targets of each sequence, in the order of the segments."""
    parts = []
    for segment in range(int(batch.segments.max()) + 1):
        mine = batch.segments == segment
        tensors = (batch.tokens[mine], batch.positions[mine], batch.targets[mine])
        parts.append(tuple(tensor.tolist() for tensor in tensors))
    return parts


@pytest.mark.parametrize("bound", BOUNDS)
def test_every_sequence_comes_out_whole_once_and_in_order(bound: int) -> None:
    sequences = random_sequences(0)
    found = [part for batch in pack(sequences, bound) for part in unpacked(batch)]
    assert [tokens for tokens, _, _ in found] == [s.ids.tolist() for s in sequences]
    for tokens, positions, _ in found:
        assert positions == list(range(len(tokens)))


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_tokens_of_a_sequence_are_neighbours(bound: int) -> None:
    for batch in pack(random_sequences(1), bound):
        runs = torch.unique_consecutive(batch.segments)
        assert len(runs) == len(set(runs.tolist()))


@pytest.mark.parametrize("bound", BOUNDS)
def test_each_token_after_the_prompt_is_the_target_of_the_token_before_it_and_of_no_other(
    bound: int,
) -> None:
    sequences = random_sequences(4)
    found = [part for batch in pack(sequences, bound) for part in unpacked(batch)]
    for sequence, (tokens, _, targets) in zip(sequences, found, strict=True):
        assert len(targets) == len(tokens)
        for place, target in enumerate(targets):
            scored = place + 1 >= max(1, sequence.prompt_length) and place + 1 < len(tokens)
            assert target == (tokens[place + 1] if scored else IGNORE)


def test_a_label_is_predicted_from_the_last_token_only() -> None:
    sequences = random_sequences(5, labelled=True)
    found = [part for batch in pack(sequences, 50) for part in unpacked(batch)]
    for sequence, (_, _, targets) in zip(sequences, found, strict=True):
        assert targets == [IGNORE] * (len(sequence.ids) - 1) + [sequence.label]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_number_of_scored_tokens_is_the_number_of_targets(labelled: bool, bound: int) -> None:
    sequences = random_sequences(6, labelled)
    batches = list(pack(sequences, bound))
    for batch in batches:
        assert batch.num_scored == int((batch.targets != IGNORE).sum())
        assert torch.equal(batch.scored, (batch.targets != IGNORE).nonzero().squeeze(1))
    assert sum(b.num_scored for b in batches) == sum(s.num_scored for s in sequences)


def test_nothing_packs_into_nothing() -> None:
    assert list(pack([], 10)) == []
