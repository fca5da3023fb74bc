"""What must hold for every method, whatever it trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import METHOD_SETTINGS, batch_of, every_family, write_splits
from torch import Tensor

from tunewise.config import make_config
from tunewise.data.cache import Ids
from tunewise.data.encode import IGNORE, Encoded
from tunewise.data.packing import pack
from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.evaluate import evaluate
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.methods import METHODS, Method
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.fast.loss import summed_loss
from tunewise.models.folder import build_model, load_model, read_config
from tunewise.run import run
from tunewise.runs.folder import PREDICTIONS_FILE, read_predictions
from tunewise.runs.memo import Shared
from tunewise.runs.model import load_trained
from tunewise.runs.predictions import predict_examples
from tunewise.runs.prepare import prepare
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"kind": "lora", "dora": True, "rank": 2, "dropout": 0.1, "loraplus_lr_ratio": 4.0},
    "pissa": {"kind": "lora", "init": "pissa", "rank": 2},
}
"""Settings that make almost another method of one."""
SETTINGS: dict[str, dict[str, Any]] = {
    **METHOD_SETTINGS,
    "lora": {"rank": 2, "dropout": 0.1},
    **VARIANTS,
}
VERBALIZERS = {"good": " good", "bad": " bad", "fair": " not good"}
TASK_SETTINGS: dict[str, dict[str, Any]] = {
    "cloze": {"template": "{text*} A", "verbalizers": VERBALIZERS},
    "generation": {
        "template": "{text} is",
        "completion": " {label}",
        "decoding": {"max_new_tokens": 5, "temperature": 1.0},
    },
}
"""What a kind of task needs beside a path."""

every_method = pytest.mark.parametrize("kind", [*METHODS, *VARIANTS])
every_kind = pytest.mark.parametrize("kind", METHODS)
both_kinds_of_head = pytest.mark.parametrize("num_labels", [None, 3], ids=["language", "labels"])
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def method_of(kind: str) -> Method:
    settings = {"kind": kind} | SETTINGS.get(kind, {})
    return METHODS[settings["kind"]](**settings)


def adapted(
    kind: str,
    folder: Path,
    num_labels: int | None = None,
    seed: int = 0,
    precision: str = "fp32",
) -> LanguageModel:
    generator = torch.Generator().manual_seed(seed)
    model = load_model(folder)
    if num_labels is not None:
        model.use_label_head(num_labels, generator)
    method_of(kind).adapt(model, generator)
    model.set_precision(DTYPES[precision])
    return model


def after_training(model: LanguageModel, kind: str, sequences: list[Encoded]) -> LanguageModel:
    """Return the model after a few updates; its dropout draws from the global source."""
    torch.manual_seed(0)
    prefixed = behind_prefix(model, kind, sequences)
    config = TrainConfig(epochs=2, batch_size=2, learning_rate=0.005, warmup=0.0, dropout=0.1)
    model.set_dropout(config.dropout)
    list(train(model, prefixed, config, seed=0))
    return model.eval()


def behind_prefix(model: LanguageModel, kind: str, sequences: list[Encoded]) -> list[Encoded]:
    """Return the sequences with the method's virtual tokens before them."""
    first, length = model.config.vocabulary_size, method_of(kind).num_virtual_ids
    prefix = np.arange(first, first + length, dtype=np.int32)
    return [
        replace(s, ids=np.concatenate([prefix, s.ids]), prompt_length=s.prompt_length + length)
        for s in sequences
    ]


def gradients(
    model: LanguageModel, sequences: list[Encoded], tokens_per_pass: int
) -> dict[str, Tensor]:
    """Return the gradient of the summed loss over all sequences, by what is trained."""
    model.zero_grad()
    for batch in pack(sequences, tokens_per_pass):
        scored = batch.targets != IGNORE
        hidden = model.hidden(batch)
        summed_loss(model, hidden[scored], batch.targets[scored]).backward()
    return {name: p.grad.clone() for name, p in model.trainable() if p.grad is not None}


def values(model: LanguageModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@every_method
@pytest.mark.parametrize(
    ("family", "num_labels", "precision"),
    [
        ("gpt2", 3, "fp32"),
        *((family, None, "fp32") for family in FAMILIES if family != "gpt2"),
        ("gpt2", None, "bf16"),
    ],
)
def test_what_is_frozen_stays_bit_for_bit_and_what_is_trained_moves(
    kind: str,
    num_labels: int | None,
    precision: str,
    family: str,
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
) -> None:
    sequences = request.getfixturevalue("labelled" if num_labels else "texts")
    model = adapted(kind, folders[family], num_labels, precision=precision)
    trained = {name for name, _ in model.trainable()}
    before = values(model)
    after = values(after_training(model, kind, sequences))
    assert trained
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == (name not in trained), name


@every_method
@both_kinds_of_head
def test_the_same_seed_gives_the_same_numbers(
    kind: str,
    num_labels: int | None,
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
) -> None:
    sequences = request.getfixturevalue("labelled" if num_labels else "texts")
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        model = adapted(kind, folders["gpt2"], num_labels, seed=5)
        results.append((values(model), values(after_training(model, kind, sequences))))
    assert_same(results[0][0], results[1][0])
    assert_same(results[0][1], results[1][1])


@every_kind
def test_another_seed_gives_other_fresh_weights_and_the_same_base(
    kind: str, folders: dict[str, Path]
) -> None:
    base = values(load_model(folders["gpt2"]))
    del base["token_embedding.weight"]  # a soft prompt moves it, and its rows stay
    one, other = (values(adapted(kind, folders["gpt2"], 3, seed)) for seed in (0, 1))
    fresh = [name for name in one if name not in base and "token_embedding.w" not in name]
    assert "head.weight" in fresh
    for name in fresh:
        alike = torch.equal(one[name], other[name])
        frozen_or_constant = ".base." in name or len(one[name].unique()) == 1
        assert alike == frozen_or_constant, name
    for name in base.keys() & one.keys():
        assert torch.equal(one[name], base[name]), name


@every_method
@pytest.mark.parametrize(
    ("family", "num_labels"),
    [("gpt2", 3), *((family, None) for family in FAMILIES)],
)
def test_the_gradient_depends_on_neither_passes_nor_checkpointing(
    kind: str,
    num_labels: int | None,
    family: str,
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
) -> None:
    sequences = request.getfixturevalue("labelled" if num_labels else "texts")
    model = after_training(adapted(kind, folders[family], num_labels), kind, sequences)
    sequences = behind_prefix(model, kind, sequences)
    packed = gradients(model, sequences, tokens_per_pass=1000)
    assert packed.keys() == {name for name, _ in model.trainable()}
    one_by_one = gradients(model, sequences, tokens_per_pass=1)
    model.checkpointing = True
    for other in (one_by_one, gradients(model, sequences, tokens_per_pass=1000)):
        for name, gradient in packed.items():
            assert gradient.any(), name
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@every_method
@every_family
def test_what_is_written_with_a_cache_is_what_is_written_without(
    kind: str, family: str, folders: dict[str, Path], texts: list[Encoded], tokenizer: Tokenizer
) -> None:
    model = after_training(adapted(kind, folders[family]), kind, texts)
    prompts = [sequence.ids[:-1] for sequence in behind_prefix(model, kind, texts)]
    decoding = DecodingConfig(max_new_tokens=8)
    found = generate(model, prompts, tokenizer, decoding)
    for prompt, output in zip(prompts, found, strict=True):
        expected: list[int] = []
        while len(expected) < 8 and (token := next_token(model, prompt, expected)) != 0:
            expected.append(token)
        assert output == expected
    assert len({tuple(output) for output in found}) > 1
    assert tokenizer.end_of_text == 0


@torch.inference_mode()
def next_token(model: LanguageModel, prompt: Ids, output: list[int]) -> int:
    tokens = torch.tensor([*prompt.tolist(), *output])
    hidden = model.hidden(batch_of(tokens))
    return int(model.logits(hidden[-1:]).argmax())


@every_method
def test_a_label_layer_is_always_trained(kind: str, folders: dict[str, Path]) -> None:
    model = adapted(kind, folders["gpt2"], num_labels=3)
    assert list(model.head.parameters())
    assert all(parameter.requires_grad for parameter in model.head.parameters())


@every_method
@both_kinds_of_head
def test_parameters_are_counted_alike_with_and_without_weights(
    kind: str, num_labels: int | None, folders: dict[str, Path]
) -> None:
    shaped = build_model(read_config(folders["gpt2"]))
    if num_labels is not None:
        shaped.use_label_head(num_labels)
    method_of(kind).adapt(shaped, torch.Generator())
    real = adapted(kind, folders["gpt2"], num_labels)
    assert shaped.count_parameters() == real.count_parameters()


@every_method
def test_trained_weights_are_masters_in_fp32_and_frozen_ones_are_kept_in_bf16(
    kind: str, folders: dict[str, Path]
) -> None:
    model = adapted(kind, folders["gpt2"], num_labels=3, precision="bf16")
    for name, parameter in model.named_parameters():
        wanted = torch.float32 if parameter.requires_grad else torch.bfloat16
        assert parameter.dtype == wanted, name


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a folder of splits with texts of uneven lengths, some too long for one sequence."""

    def rows_of(split: str) -> list[dict[str, str]]:
        return [
            {"text": f"{split} {word} film, " * (1 + number % 4), "label": word}
            for number, word in enumerate(["good", "bad", "fair", "good", "bad", "good", "fair"])
        ]

    return write_splits(tmp_path / "rows", rows_of)


# Each method twice, in both precisions, and each kind of answer with the default method.
SAVED = [
    *((kind, "classification", "fp32") for kind in [*METHODS, *VARIANTS]),
    *((kind, "language_modeling", "bf16") for kind in [*METHODS, *VARIANTS]),
    *(("lora", task, precision) for task in TASK_SETTINGS for precision in DTYPES),
]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "task", "precision"), SAVED)
def test_a_saved_run_gives_the_same_predictions_when_it_is_loaded(
    kind: str,
    task: str,
    precision: str,
    folders: dict[str, Path],
    rows: Path,
    tmp_path: Path,
) -> None:
    fields = {
        "model": str(folders["gpt2"]),
        "task": {"kind": task, "path": str(rows)} | TASK_SETTINGS.get(task, {}),
        "method": {"kind": kind} | SETTINGS.get(kind, {}),
        "train": {"epochs": 1, "batch_size": 4, "precision": precision, "max_length": 24},
    }
    record = run(make_config(fields=fields), out=tmp_path / "run")

    config, model, _ = load_trained(tmp_path / "run")
    prepared = prepare(config, None, torch.device("cpu"), Shared(), SPLITS)
    examples, encoded = prepared.examples["test"], prepared.encoded["test"]
    predictions = predict_examples(prepared, model, examples, encoded, config.task.metrics)
    assert predictions == record.predictions
    assert predictions == read_predictions(tmp_path / "run" / PREDICTIONS_FILE)
    base = load_model(folders["gpt2"])
    if task == "language_modeling" and kind != "soft_prompt":  # else the base cannot be asked
        untrained = evaluate(base, examples, encoded.sequences, config.train.tokens_per_pass)
        assert predictions != untrained


@every_kind
def test_a_method_can_be_named_in_a_configuration(kind: str) -> None:
    config = make_config(fields={"method": kind})
    assert config.method == METHODS[kind]()
    assert config.train.learning_rate == METHODS[kind].default_learning_rate
