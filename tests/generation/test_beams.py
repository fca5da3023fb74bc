"""Laws of beam search: its outputs are those of transformers."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import reference
from torch import Tensor

from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate

from .ways import (
    BEAMS,
    EVERY_FAMILY,
    GREEDY,
    NEVER,
    VOCABULARY,
    Sequences,
    load_ours,
    tokenizer_of,
    written_by_transformers,
)

pytestmark = pytest.mark.slow


@EVERY_FAMILY
@pytest.mark.parametrize("num_beams", [2, 3, 4])
def test_beam_outputs_are_those_of_transformers(
    family: str,
    num_beams: int,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = load_ours(theirs, tmp_path, device)
    prompts = sequences[:5]
    greedy = generate(ours, prompts, tokenizer_of(NEVER), GREEDY)
    ends = [token for token, _ in Counter(chain(*greedy)).most_common(2)]
    written = set()
    for end in (NEVER, *ends):
        for length_penalty in (-1.0, 0.0, 1.0, 2.0):
            way = GREEDY.model_copy(
                update={"num_beams": num_beams, "length_penalty": length_penalty}
            )
            expected = [written_by_transformers(theirs, ids, way, end) for ids in prompts]
            assert generate(ours, prompts, tokenizer_of(end), way) == expected
            written.add(str(expected))
    assert len(written) > 3, "neither the end nor the length penalty made a difference"


@EVERY_FAMILY
def test_penalised_beams_are_those_of_transformers(
    family: str, sequences: Sequences, tmp_path: Path, device: torch.device
) -> None:
    theirs = reference(family)
    ours = load_ours(theirs, tmp_path, device)
    expected = [written_by_transformers(theirs, ids, BEAMS, NEVER) for ids in sequences]
    assert generate(ours, sequences, tokenizer_of(NEVER), BEAMS) == expected


@EVERY_FAMILY
@pytest.mark.parametrize("num_beams", [2, 4])
def test_a_stop_string_ends_a_beam_as_in_transformers(
    family: str,
    num_beams: int,
    sequences: Sequences,
    tmp_path: Path,
    device: torch.device,
) -> None:
    theirs = reference(family)
    ours = load_ours(theirs, tmp_path, device)
    tokenizer = tokenizer_of(NEVER, "letters")
    ending = range(0, VOCABULARY, 2)  # half of all tokens, so that beams run out
    way = DecodingConfig(
        max_new_tokens=5, num_beams=num_beams, stop=tuple(tokenizer.decode([t]) for t in ending)
    )

    def ends(ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.isin(ids[:, -1], torch.tensor(ending))

    expected = [written_by_transformers(theirs, ids, way, NEVER, [ends]) for ids in sequences]
    found = generate(ours, sequences, tokenizer, way)
    assert found == [ids[:-1] if ids[-1] in ending else ids for ids in expected]
    assert len({len(ids) for ids in found}) > 2
