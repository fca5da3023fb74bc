"""Compiled blocks train as plain ones do; without a compiler, that is said."""

import shutil
from collections.abc import Callable
from itertools import islice

import pytest
import torch
from tiny import batch_of

from tunewise.data.encode import Encoded
from tunewise.errors import ConfigError
from tunewise.methods.lora import LoRA
from tunewise.models import LanguageModel
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

pytestmark = pytest.mark.slow

NewModel = Callable[..., LanguageModel]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch warns of what it does itself while it compiles
def test_compiled_blocks_make_the_same_updates(
    new_model: NewModel, texts: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewise.models.fast.recompute.WORTH_IT", 0)
    results = []
    for choice in ("off", "on"):
        torch._dynamo.utils.counters.clear()
        model = new_model()
        LoRA(rank=2).adapt(model, torch.Generator().manual_seed(0))
        config = TrainConfig(epochs=1, batch_size=4, learning_rate=1e-2, compile=choice)
        steps = list(islice(train(model, texts, config, seed=3), 3))
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (compiled > 0) == (choice == "on")
        with torch.inference_mode():
            hidden = model.eval().hidden(batch_of(range(9)))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
        results.append((steps, hidden))
    for plain, compiled_step in zip(results[0][0], results[1][0], strict=True):
        assert compiled_step.loss == pytest.approx(plain.loss, rel=1e-5)
        assert compiled_step.grad_norm == pytest.approx(plain.grad_norm, rel=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-4)


def test_without_a_compiler_that_is_said(
    new_model: NewModel, texts: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(ConfigError, match=r"train\.compile: .* C\+\+ compiler"):
        next(train(new_model(), texts, TrainConfig(compile="on"), seed=3))
