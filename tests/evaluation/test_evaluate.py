"""Every example is answered once, in order, however it is packed, and the model stays as it was."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from tiny import batch_of, draw_weights, tiny_config

from tunewise.data.encode import Encoded, join_ids
from tunewise.data.example import Example
from tunewise.data.packing import Batch
from tunewise.evaluation.evaluate import evaluate, score_sequences
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model

LABELS = ("bad", "fair", "good")
SIZES = {"vocabulary_size": 50, "context_length": 32, "num_layers": 2, "mlp_dim": 32}
Split = tuple[list[Example], list[Encoded]]


def new_model(num_labels: int | None) -> LanguageModel:
    model = build_model(tiny_config(**SIZES), "cpu")
    if num_labels is not None:
        model.use_label_head(num_labels)
    draw_weights(model, 0.3)
    return model


def ids_of(number: int) -> npt.NDArray[np.int32]:
    chance = random.Random(number)
    return np.array([chance.randrange(50) for _ in range(chance.choice((2, 2, 9, 30)))], np.int32)


def labelled() -> Split:
    examples = [Example(f"rows:{n}", "", LABELS[n % 3], LABELS) for n in range(17)]
    ids = [ids_of(number) for number in range(17)]
    return examples, [
        Encoded(example.id, one, len(one), LABELS.index(example.target))
        for example, one in zip(examples, ids, strict=True)
    ]


def texts_in_pieces() -> Split:
    examples = [Example(f"rows:{n}", "", "a text") for n in range(9)]
    return examples, [
        Encoded(example.id, ids_of(10 * number + piece), 1)
        for number, example in enumerate(examples)
        for piece in range(1 + number % 3)
    ]


SPLITS: dict[str, tuple[int | None, Callable[[], Split]]] = {
    "labels": (3, labelled),
    "texts": (None, texts_in_pieces),
}
both_kinds = pytest.mark.parametrize("kind", SPLITS)


def close(one: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    for first, second in zip(one, other, strict=True):
        assert first.log_likelihood == pytest.approx(second.log_likelihood, rel=1e-5, abs=1e-5)
        assert first.probabilities == pytest.approx(second.probabilities, abs=1e-6)
        for field in ("id", "expected", "predicted", "num_scored"):
            assert getattr(first, field) == getattr(second, field)


@torch.no_grad()
def one_by_one(
    model: LanguageModel, examples: list[Example], sequences: list[Encoded]
) -> list[Prediction]:
    """Return the predictions, each sequence computed alone and by the definition."""
    predictions = []
    for example in examples:
        total, count, predicted, probabilities = 0.0, 0, "", {}
        for sequence in sequences:
            if sequence.example_id != example.id:
                continue
            ids = torch.from_numpy(sequence.ids).long()
            hidden = model.hidden(batch_of(ids))
            logs = F.log_softmax(model.logits(hidden), -1)
            if sequence.label is not None:
                total, count = float(logs[-1, sequence.label]), 1
                predicted = example.choices[int(logs[-1].argmax())]
                probabilities = dict(zip(example.choices, logs[-1].exp().tolist(), strict=True))
            else:
                total += sum(float(logs[t - 1, ids[t]]) for t in range(1, len(ids)))
                count += len(ids) - 1
        expected = example.target if example.choices else ""
        predictions.append(
            Prediction(example.id, expected, predicted, total, count, probabilities=probabilities)
        )
    return predictions


@both_kinds
def test_predictions_are_those_of_each_example_alone(kind: str) -> None:
    num_labels, split = SPLITS[kind]
    model, (examples, sequences) = new_model(num_labels), split()
    expected = one_by_one(model, examples, sequences)
    if kind == "labels":
        assert len({p.predicted for p in expected}) > 1  # else this would show little
    close(evaluate(model, examples, sequences, 64), expected)


@both_kinds
def test_predictions_do_not_depend_on_how_much_goes_in_one_pass(kind: str) -> None:
    num_labels, split = SPLITS[kind]
    model, (examples, sequences) = new_model(num_labels), split()
    whole = evaluate(model, examples, sequences, 10_000)
    for tokens_per_pass in (1, 5, 40):
        close(evaluate(model, examples, sequences, tokens_per_pass), whole)


@both_kinds
def test_predictions_come_in_the_order_of_the_examples(kind: str) -> None:
    num_labels, split = SPLITS[kind]
    model, (examples, sequences) = new_model(num_labels), split()
    forwards = evaluate(model, examples, sequences, 64)
    assert [p.id for p in forwards] == [e.id for e in examples]
    close(evaluate(model, examples[::-1], sequences[::-1], 64), forwards[::-1])


def test_an_example_in_pieces_is_counted_with_all_its_tokens() -> None:
    examples, sequences = texts_in_pieces()
    counts = {p.id: p.num_scored for p in evaluate(new_model(None), examples, sequences, 9)}
    for example in examples:
        pieces = [s for s in sequences if s.example_id == example.id]
        assert counts[example.id] == sum(piece.num_scored for piece in pieces)


@both_kinds
@pytest.mark.parametrize("training", [False, True])
def test_evaluation_leaves_mode_weights_and_chance_as_they_were(kind: str, training: bool) -> None:
    num_labels, split = SPLITS[kind]
    model, (examples, sequences) = new_model(num_labels), split()
    model.train(training)
    model.set_dropout(0.5)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = [name for name, _ in model.trainable()]
    chance = torch.get_rng_state()
    predictions = evaluate(model, examples, sequences, 64)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), chance)
    assert [name for name, _ in model.trainable()] == trained
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
        assert parameter.grad is None, name
    # Dropout plays no part in an answer.
    assert evaluate(model, examples, sequences, 64) == predictions


def test_where_memory_runs_out_passes_are_halved_and_answers_stay(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = new_model(None)
    sequences = [Encoded(str(n), join_ids(range(1, 4 + n % 5)), 1) for n in range(12)]
    expected = score_sequences(model, sequences, 1000)
    whole, sizes = type(model).scored_hidden, []

    def with_little_room(self: LanguageModel, batch: Batch) -> torch.Tensor:
        if batch.num_tokens > 15:
            raise RuntimeError("could not create a primitive")
        sizes.append(batch.num_tokens)
        return whole(self, batch)

    monkeypatch.setattr(type(model), "scored_hidden", with_little_room)
    found = score_sequences(model, sequences, 40)
    assert len(sizes) > 3
    for one, other in zip(found, expected, strict=True):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)
    assert "out of memory: from here on a pass has at most" in caplog.text
    monkeypatch.setattr(
        type(model), "scored_hidden", lambda *_: (_ for _ in ()).throw(MemoryError())
    )
    with pytest.raises(MemoryError):
        score_sequences(model, sequences, 40)
