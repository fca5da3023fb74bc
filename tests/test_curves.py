"""Every method learns as in a plain implementation: 200 updates, each with the same loss.

Ours packs rows, splits an update into passes and makes the updates in a loop of its own. The other
is transformers and PEFT on padded batches, with the optimizer, clipping and schedule of PyTorch and
transformers. It computes in float64, so that the rounding is ours alone. No number is stored:
results cannot change here without a difference from there.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from tiny import METHOD_SETTINGS, is_transposed, save_tiny, their_layers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from tunewise.data.encode import Encoded, join_ids
from tunewise.methods import METHODS, Method
from tunewise.models import FAMILIES, LanguageModel
from tunewise.models.folder import load_model
from tunewise.training.config import TrainConfig
from tunewise.training.loop import epoch_order, train

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

TOLERANCE = 1e-5
"""Of every loss, gradient norm and learning rate, relative; of trained tensors, over the greatest
number in each."""
NUM_UPDATES, NUM_WARMUP, NUM_ROWS = 200, 10, 98
VOCABULARY, NUM_LABELS, SEED = 60, 3, 3
SIZES = {"vocabulary_size": VOCABULARY, "context_length": 32, "model_dim": 32}
SETTINGS: dict[str, dict[str, Any]] = METHOD_SETTINGS | {
    "last_blocks": {"blocks": 2},
    "lora": {"rank": 4, "alpha": 6.0},
}

Views = dict[str, Tensor]
"""Their numbers by our names: views of their parameters, which follow every update."""
Counterpart = Callable[[Any, LanguageModel, Any], tuple[Any, Views]]
"""From our method, our model and their plain one: theirs with the method, and its numbers."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a model folder per family. Its weights are large enough for every layer to matter."""
    return {
        family: save_tiny(tmp_path_factory.mktemp(family), family, noise=0.1, **SIZES)
        for family in FAMILIES
    }


def test_every_method_has_a_counterpart() -> None:
    assert COUNTERPARTS.keys() == METHODS.keys()


@pytest.mark.parametrize(("family", "head"), [("gpt2", "labels"), ("gpt_neo", "language")])
@pytest.mark.parametrize("kind", METHODS)
def test_each_of_200_updates_is_that_of_a_plain_implementation(
    kind: str, family: str, head: str, folders: dict[str, Path]
) -> None:
    generator = torch.Generator().manual_seed(SEED)
    model = load_model(folders[family])
    if head == "labels":
        model.use_label_head(NUM_LABELS, generator)
    method = METHODS[kind](**SETTINGS.get(kind, {}))
    method.adapt(model, generator)
    other, views = counterpart(method, model, folders[family])
    for name, parameter in model.trainable():
        views[name].copy_(parameter.detach())

    config = TrainConfig(
        epochs=8,
        batch_size=4,  # and 2 in the last update of each epoch
        tokens_per_pass=40,  # one to three passes per update
        learning_rate=method.default_learning_rate,
        warmup=NUM_WARMUP / NUM_UPDATES,
        weight_decay=0.1,
        clip_norm=1.0,
    )
    rows = rows_of(head)
    virtual = range(VOCABULARY, VOCABULARY + method.num_virtual_ids)
    prefixed = [
        replace(row, ids=join_ids(virtual, row.ids), prompt_length=len(virtual) + row.prompt_length)
        for row in rows
    ]
    steps = list(train(model, prefixed, config, SEED))
    ours = np.array([(step.loss, step.grad_norm, step.learning_rate) for step in steps])
    theirs = np.array(list(plain_updates(other, rows, config)))

    assert len(theirs) == NUM_UPDATES
    assert theirs[-20:, 0].mean() < theirs[:20, 0].mean()
    loss, norm = np.abs(ours[:, :2] / theirs[:, :2] - 1).max(axis=0)
    differences = {
        name: float((parameter.detach() - views[name]).abs().max() / views[name].abs().max())
        for name, parameter in model.trainable()
        # Its true gradient is zero, and AdamW blows up the rounding.
        if not name.endswith("attention.key.bias")
    }
    tensors = max(differences.values())
    print(f"{kind}, {family}, {head}: loss {loss:.1e}, norm {norm:.1e}, tensors {tensors:.1e}")
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE)
    assert all(difference <= TOLERANCE for difference in differences.values()), differences


def rows_of(head: str) -> list[Encoded]:
    """Return rows of 3 to 16 tokens: with a label, or scored after the first token or two."""
    chance = np.random.default_rng(0)
    rows = []
    for number in range(NUM_ROWS):
        ids = chance.integers(VOCABULARY, size=chance.integers(3, 17), dtype=np.int32)
        if head == "labels":
            rows.append(Encoded(f"rows:{number}", ids, len(ids), label=int(ids.max()) % NUM_LABELS))
        else:
            rows.append(Encoded(f"rows:{number}", ids, prompt_length=1 + number % 2))
    return rows


def plain_updates(
    other: Any, rows: list[Encoded], config: TrainConfig
) -> Iterator[tuple[float, float, float]]:
    """Yield the loss, the gradient's norm and the learning rate of each update."""
    trained = {name: p for name, p in other.named_parameters() if p.requires_grad}
    is_vector = re.compile(r"\.bias$|\.ln_|ia3_l").search
    vectors = [p for name, p in trained.items() if is_vector(name)]
    matrices = [p for name, p in trained.items() if not is_vector(name)]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, NUM_WARMUP, NUM_UPDATES)
    for epoch in range(config.epochs):
        order = epoch_order(len(rows), epoch, SEED)
        for start in range(0, len(rows), config.batch_size):
            chosen = [rows[place] for place in order[start : start + config.batch_size]]
            optimizer.zero_grad()
            loss = padded_loss(other, chosen)
            loss.backward()
            norm = clip_grad_norm_(trained.values(), config.clip_norm)
            yield loss.item(), norm.item(), schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()


def padded_loss(other: Any, rows: list[Encoded]) -> Tensor:
    """Return the mean over all scored tokens, or over all labels, of padded rows."""
    ids = pad_sequence([torch.from_numpy(row.ids).long() for row in rows], batch_first=True)
    lengths = torch.tensor([len(row.ids) for row in rows])  # (B,)
    places = torch.arange(ids.shape[1])  # (T,)
    is_text = places < lengths[:, None]  # (B, T)
    logits = other(input_ids=ids, attention_mask=is_text.long()).logits
    logits = logits[:, -ids.shape[1] :]  # (B, T, V), without those of virtual tokens
    if rows[0].label is not None:
        labels = torch.tensor([row.label for row in rows])
        return cross_entropy(logits[torch.arange(len(rows)), lengths - 1], labels)
    given = torch.tensor([row.prompt_length for row in rows])
    is_scored = (is_text & (places >= given[:, None]))[:, 1:]  # (B, T - 1)
    return cross_entropy(logits[:, :-1][is_scored], ids[:, 1:][is_scored])


def counterpart(method: Method, model: LanguageModel, folder: Path) -> tuple[Any, Views]:
    """Return their model with the same method, and its numbers by our names."""
    other = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    if not model.head_is_tied:
        out_dim, in_dim = model.get_parameter("head.weight").shape
        other.lm_head = nn.Linear(in_dim, out_dim, bias=False, dtype=torch.float64)
    adapted, views = COUNTERPARTS[method.kind](method, model, other)
    if model.num_labels is not None:
        other.lm_head.requires_grad_(True)
    return adapted.eval(), {"head.weight": other.lm_head.weight.detach()} | views


def of_transformers(is_trained: Callable[[str], object]) -> Counterpart:
    """Return a method that trains some parameters of transformers, by their names there."""

    def adapt(_: Any, model: LanguageModel, other: Any) -> tuple[Any, Views]:
        for name, parameter in other.named_parameters():
            parameter.requires_grad_(bool(is_trained(name)))
        views: Views = {}
        for stored in model.stored_tensors():
            whole = other.transformer.get_parameter(stored.theirs).detach()
            whole = whole.T if stored.transposed else whole
            views |= zip(stored.ours, whole.chunk(len(stored.ours)), strict=True)
        return other, views

    return adapt


def in_peft(other: Any, kind: Any, **settings: Any) -> Any:
    return peft.get_peft_model(other, kind(task_type="CAUSAL_LM", **settings)).double()


def hold(parameter: nn.Parameter, moves: Tensor) -> None:
    """Let a parameter change only where `moves` is 1."""
    parameter.register_hook(lambda gradient: gradient * moves)


def lora(method: Any, model: LanguageModel, other: Any) -> tuple[Any, Views]:
    """Put an update beside every layer of the blocks.

    Beside c_attn stands one of three times the rank, whose B is held at zero but for the three
    blocks on its diagonal.
    """
    layers = their_layers(model)
    adapted = in_peft(
        other,
        peft.LoraConfig,
        target_modules=list(layers),
        rank_pattern={layer: len(paths) * method.rank for layer, paths in layers.items()},
        alpha_pattern={layer: len(paths) * method.alpha for layer, paths in layers.items()},
        fan_in_fan_out=is_transposed(model),
    )
    views: Views = {}
    for layer, paths in layers.items():
        module, k = other.transformer.get_submodule(layer), len(paths)
        a, b = module.lora_A.default.weight, module.lora_B.default.weight  # (kR, in), (k out, kR)
        hold(b, torch.block_diag(*[torch.ones(len(b) // k, method.rank)] * k))
        for n, path in enumerate(paths):
            views[f"{path}.A"] = a.detach().chunk(k)[n]
            views[f"{path}.B"] = b.detach().chunk(k)[n].chunk(k, dim=1)[n]
    return adapted, views


def ia3(_: Any, model: LanguageModel, other: Any) -> tuple[Any, Views]:
    """Scale keys, values and inner activations; the part of c_attn for queries is held at ones."""
    scaled = re.compile(r".*\.(key|value|down)")
    layers = {k: paths for k, paths in their_layers(model).items() if any(map(scaled.match, paths))}
    adapted = in_peft(
        other,
        peft.IA3Config,
        target_modules=list(layers),
        feedforward_modules=[layer for layer in layers if ".mlp." in layer],
        fan_in_fan_out=is_transposed(model),
    )
    views: Views = {}
    for layer, paths in layers.items():
        scale = other.transformer.get_submodule(layer).ia3_l.default  # (out, 1), or (1, in)
        parts = scale.detach().flatten().chunk(len(paths))
        views |= {f"{path}.scale": part for path, part in zip(paths, parts, strict=True)}
        moves = torch.tensor([scaled.match(path) is not None for path in paths])
        hold(scale, moves.repeat_interleave(len(parts[0])).view_as(scale))
    return adapted, views


def soft_prompt(method: Any, _: LanguageModel, other: Any) -> tuple[Any, Views]:
    """Put virtual tokens before every row."""
    adapted = in_peft(other, peft.PromptTuningConfig, num_virtual_tokens=method.tokens)
    prompt = adapted.prompt_encoder.default.embedding.weight
    return adapted, {"token_embedding.prompt": prompt.detach()}


def prefix(method: Any, model: LanguageModel, other: Any) -> tuple[Any, Views]:
    """Put keys and values before those of every row."""
    adapted = in_peft(other, peft.PrefixTuningConfig, num_virtual_tokens=method.tokens)
    whole = adapted.prompt_encoder.default.embedding.weight.detach()  # (P, layers · 2 · D)
    names = [
        f"blocks.{index}.attention.prefix.{part}"
        for index in range(model.config.num_layers)
        for part in ("keys", "values")
    ]
    return adapted, dict(zip(names, whole.chunk(len(names), dim=1), strict=True))


def adapter(method: Any, model: LanguageModel, other: Any) -> tuple[Any, Views]:
    """Put a bottleneck after each layer that writes to the residual stream."""
    other.requires_grad_(False)
    views: Views = {}
    for layer, (path, *_) in their_layers(model).items():
        if path.endswith((".out", ".down")):
            module = other.transformer.get_submodule(layer)
            down = nn.Linear(model.config.model_dim, method.bottleneck, dtype=torch.float64)
            up = nn.Linear(method.bottleneck, model.config.model_dim, dtype=torch.float64)
            module.adapter = nn.Sequential(down, nn.GELU("tanh"), up)
            module.register_forward_hook(lambda module, _, h: h + module.adapter(h))
            for name, part in (("down", down), ("up", up)):
                views |= {f"{path}.{name}.{k}": p.detach() for k, p in part.named_parameters()}
    return other, views


COUNTERPARTS: dict[str, Counterpart] = {
    "full": of_transformers(lambda name: True),
    "last_layer": of_transformers(re.compile(r"lm_head\.").match),
    "last_blocks": of_transformers(re.compile(r"transformer\.(h\.[12]|ln_f)\.|lm_head\.").match),
    "lora": lora,
    "soft_prompt": soft_prompt,
    "prefix": prefix,
    "ia3": ia3,
    "bitfit": of_transformers(re.compile(r".*\.bias").fullmatch),
    "adapter": adapter,
}
