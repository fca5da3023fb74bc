"""Laws of mixed batches: every row gets what its own run would give it, and bases are shared."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tiny import every_family
from torch import Tensor, nn

import tunewise as tw
from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import pack
from tunewise.models import LanguageModel
from tunewise.models.cache import Cache
from tunewise.models.layers import Linear
from tunewise.predict import Predictor
from tunewise.serving.mixing import Mix
from tunewise.serving.server import load_all

from .conftest import MIXED

RunOf = Callable[..., str]


@torch.inference_mode()
def logits_of(
    mix: Mix, prompts: Sequence[Sequence[int]], then: Sequence[int], owners: Tensor
) -> Tensor:
    """Return (2, B, V): the logits after each prompt, and after one token more."""
    lengths = [len(prompt) for prompt in prompts]
    cache = Cache(
        mix.config.num_layers,
        lengths,
        room=1,
        max_rows=len(lengths),
        device=mix.device,
        num_before=mix.first_position,
    )
    sequences = [Encoded.prompt(torch.tensor(prompt).int().numpy()) for prompt in prompts]
    (batch,) = pack(sequences, sum(lengths))
    hidden = mix.hidden(batch, cache, owners[batch.segments])
    first = mix.logits(hidden[batch.targets != IGNORE], owners)
    hidden = mix.next_hidden(torch.tensor(then), cache, owners)
    return torch.stack([first, mix.logits(hidden, owners)])


def all_of(predictors: Sequence[Predictor], text: str) -> list[list[int]]:
    """Return prompts whose lengths grow, behind each run's own virtual tokens."""
    return [
        predictor.prompt_ids(text + "!" * 4 * number).tolist()
        for number, predictor in enumerate(predictors)
    ]


@every_family
def test_in_one_pass_every_row_gets_the_logits_of_its_own_run(
    run_of: RunOf, bases: dict[str, str], family: str
) -> None:
    runs = [run_of(method, on=family) for method in MIXED]
    names = [str(bases[family]), *runs, runs[2]]
    predictors = [tw.load(name) for name in names]
    prompts = all_of(predictors, "A good")
    then = list(range(40, 40 + len(names)))
    expected = torch.cat(
        [
            logits_of(Mix([predictor.model]), [prompt], [token], torch.tensor([0]))
            for predictor, prompt, token in zip(predictors, prompts, then, strict=True)
        ],
        dim=1,
    )
    shared = load_all([*names[:-1], names[3] + "/"])
    models = [predictor.model for predictor in shared.values()]
    found = logits_of(Mix(models), prompts, then, torch.arange(len(models)))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    # It would show if a row got another's: no two runs agree.
    others = [n for n in range(len(names) - 1) if names[n] != runs[2]]
    for one in others:
        for other in others:
            close = torch.allclose(expected[1, one], expected[1, other], atol=0.01)
            assert close == (one == other), (names[one], names[other])


def test_rows_of_one_run_in_a_mix_are_computed_as_by_the_run_alone(run_of: RunOf) -> None:
    predictors = [tw.load(run_of(method)) for method in ("lora", "other lora")]
    prompts = all_of([predictors[1]] * 3, "So")
    alone = logits_of(Mix([predictors[1].model]), prompts, [1, 2, 3], torch.zeros(3).long())
    mix = Mix([predictor.model for predictor in predictors])
    assert torch.equal(logits_of(mix, prompts, [1, 2, 3], torch.ones(3).long()), alone)


def test_a_base_is_in_memory_once_and_computed_once(
    run_of: RunOf, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(bases["gpt2"]), run_of("lora"), run_of("other lora"), run_of("ia3")]
    models = [predictor.model for predictor in load_all(names).values()]
    places = {name: p.data_ptr() for name, p in models[0].named_parameters()}
    mix = Mix(models[:3])
    copies: dict[int, Tensor | None] = {}
    for layer in (layer for model in models[:3] for layer in model.modules()):
        if isinstance(layer, Linear):
            assert copies.setdefault(layer.weight.data_ptr(), layer.prepacked) is layer.prepacked
    for model in models:
        assert model.get_parameter("token_embedding.weight").data_ptr() in places.values()
        for name, parameter in frozen(model):
            assert parameter.data_ptr() == places[name.replace(".base", "")], name
    sizes: list[int] = []
    forward = Linear.forward

    def noting(self: Linear, x: Tensor) -> Tensor:
        if self.weight.data_ptr() == places["blocks.0.attention.query.weight"]:
            sizes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Linear, "forward", noting)
    predictors = [tw.load(name) for name in names]
    logits_of(mix, all_of(predictors[:3], "A"), [1, 2, 3], torch.arange(3))
    assert sizes == [1 + 5 + 9, 3]


def frozen(model: LanguageModel) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if not p.requires_grad]
