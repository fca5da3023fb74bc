"""No token is chosen from outputs that are not finite, however it is chosen."""

import copy
import math
from typing import Any

import pytest
import torch

from tunewise.errors import NotFiniteError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate, stream
from tunewise.generation.sample import NO_TOKEN, choose_tokens
from tunewise.models import LanguageModel

from .ways import NEVER, VOCABULARY, Sequences, tokenizer_of

WAYS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"temperature": 1.0},
    {"temperature": 0.5, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.5},
    {"temperature": 2.0, "top_k": 50, "top_p": 0.9, "repetition_penalty": 2.0},
]
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@every_way
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_has_no_token_and_its_neighbours_have_theirs(
    way: dict[str, Any], value: float, device: torch.device
) -> None:
    decoding = DecodingConfig(**way)
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0)).to(device)
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[:, ::2] = True

    def chosen(logits: torch.Tensor) -> list[int]:
        generators = [torch.Generator().manual_seed(number) for number in range(3)]
        return choose_tokens(logits, seen, decoding, generators)

    expected = chosen(logits)
    for place in (0, 41, VOCABULARY - 1):  # one such logit is enough, and all of them
        broken = logits.clone()
        broken[1, place] = value
        assert chosen(broken) == [expected[0], NO_TOKEN, expected[2]]
    broken[1] = -math.inf
    assert chosen(broken) == [expected[0], NO_TOKEN, expected[2]]


@pytest.mark.parametrize("way", [*WAYS, {"num_beams": 3}], ids=str)
def test_a_model_whose_outputs_are_not_finite_writes_nothing(
    way: dict[str, Any], model: LanguageModel, sequences: Sequences
) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_parameter("final_norm.weight")[0] = math.nan
    tokenizer, decoding = tokenizer_of(NEVER), DecodingConfig(max_new_tokens=3, **way)
    broken.train()
    with pytest.raises(NotFiniteError, match=r"outputs are not finite: its weights .*lower"):
        generate(broken, [ids for ids in sequences if len(ids) < 20], tokenizer, decoding)
    assert broken.training
    with pytest.raises(NotFiniteError):
        list(stream(broken.eval(), sequences[0], tokenizer, decoding))
