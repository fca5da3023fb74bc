"""A server says that a model's outputs are not finite, and the others beside it go on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.generation.continuation import Draw
from tunewise.models import LanguageModel
from tunewise.predict import Predictor
from tunewise.runs.model import adapted_model
from tunewise.serving.batch import TextPiece
from tunewise.serving.counters import Counters
from tunewise.serving.engine import Engine
from tunewise.serving.server import load_all

from .conftest import Serve, raw, wait_until

RunOf = Callable[..., str]


@pytest.mark.parametrize("stream", [False, True])
def test_texts_of_a_broken_model_are_refused_and_its_neighbour_writes(
    run_of: RunOf, serve: Serve, stream: bool
) -> None:
    names = [run_of("lora"), run_of("other lora")]
    served = serve(*names, started=False)
    broken, sound = served.engine.predictors
    spoil(served.engine.predictors[broken])
    served.engine.start()
    asked: dict[str, Any] = {"prompt": "A film", "max_tokens": 8, "temperature": 1.0, "seed": 1}
    expected = raw(served, "/v1/completions", {**asked, "model": sound})
    assert expected[0] == 200
    status, found = raw(served, "/v1/completions", {**asked, "model": broken, "stream": stream})
    if stream:
        assert '"error"' in found and "[DONE]" not in found
    else:
        assert status == 500 and found["error"]["type"] == "server_error"
    again = raw(served, "/v1/completions", {**asked, "model": sound})
    assert again[1]["choices"] == expected[1]["choices"]


@pytest.mark.parametrize("task", ["classification", "cloze"])
def test_labels_of_a_broken_model_are_refused_with_the_reason(
    run_of: RunOf, serve: Serve, task: str
) -> None:
    served = serve(run_of("lora", task), started=False)
    (name,) = served.engine.predictors
    spoil(served.engine.predictors[name])
    served.engine.start()
    status, found = raw(served, "/classify", {"model": name, "input": ["a film", "another"]})
    assert status == 500
    assert "the model's outputs are not finite" in found["error"]["message"]


@torch.no_grad()
def spoil(predictor: Predictor, value: float = torch.nan) -> None:
    """Make what is trained of a model, so only of this one, no numbers, or far too large ones."""
    trained = [name for name, _ in adapted(predictor).trainable()]
    for name in trained:
        parameter = predictor.model.get_parameter(name)
        parameter.data = torch.full_like(parameter, value)


def adapted(predictor: Predictor) -> LanguageModel:
    return adapted_model(predictor.config, Path(predictor.config.model), predictor.tokenizer)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_a_broken_model_spoils_no_text_that_is_written_with_its_own(
    run_of: RunOf, value: float
) -> None:
    def texts(names: list[str], spoilt: str = "") -> dict[str, list[TextPiece]]:
        predictors = load_all(names)
        if spoilt:
            spoil(predictors[spoilt], value)
        engine = Engine(predictors, max_batch=8, max_queue=8, counters=Counters())
        pieces: dict[str, list[TextPiece]] = {name: [] for name in predictors}
        for name, predictor in predictors.items():
            decoding = predictor.decoding({"max_new_tokens": 8, "stop": ()})
            prompt = predictor.prompt_ids("A film")
            job = engine.new_job(name, prompt, decoding, Draw(0, 0), pieces[name].append)
            engine.write(name, [job])  # all wait, so that they begin in one pass
        engine.start()
        wait_until(lambda: all(p and p[-1].finish for p in pieces.values()))
        engine.stop()
        return pieces

    names = [run_of("lora"), run_of("other lora"), run_of("ia3"), run_of("full")]
    expected = texts(names)
    for broken in expected:
        found = texts(names, broken)
        assert found.pop(broken)[-1].finish == "error"
        for name, pieces in found.items():
            assert pieces == expected[name]
