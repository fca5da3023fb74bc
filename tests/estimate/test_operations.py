"""The empty results of an operation are like its real ones, except for the numbers."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny import draw_weights, tiny_config
from torch import Tensor

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.estimate.operations import EMPTY_RESULTS
from tunewise.estimate.rehearsal import Rehearsal
from tunewise.methods import METHODS
from tunewise.methods.lora import LoRA
from tunewise.methods.method import Method
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

SIZES = {"vocabulary_size": 300, "context_length": 64, "model_dim": 32, "num_layers": 2}
KINDS: dict[str, Method] = {kind: METHODS[kind]() for kind in METHODS} | {"dora": LoRA(dora=True)}
TRAINED: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd_momentum", "checkpointing": True},
    "dropout": {"dropout": 0.1},
}


class Case(NamedTuple):
    """One training run whose operations are compared."""

    method: str
    family: str = "gpt2"
    trained: str = "adamw"
    labelled: bool = False
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        head = "labels" if self.labelled else "text"
        return f"{self.method}-{self.family}-{self.trained}-{head}-{self.dtype}"


# Each method is compared with both heads and in both types. The family, the optimizer and dropout
# change code that all methods share, so LoRA alone is compared with them. These 44 cases call the
# same operations, with the same types, numbers of axes and layouts, as all 240 combinations.
CASES = [
    Case(method, labelled=labelled, dtype=dtype)
    for method in KINDS
    for labelled in (False, True)
    for dtype in (torch.float32, torch.bfloat16)
] + [
    Case("lora", trained="sgd"),
    Case("lora", trained="dropout"),
    Case("lora", family="gpt_neo"),
    Case("lora", family="gpt_neo", trained="dropout"),
]


class Comparing(Rehearsal):
    """Computes every operation, and compares its results with the empty ones."""

    def __init__(self) -> None:
        super().__init__()
        self.by_hand: set[str] = set()

    def _empty_results(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        found = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in EMPTY_RESULTS:
            self.by_hand.add(name)
            assert described(super()._empty_results(func, args, dict(kwargs))) == described(
                found
            ), func
        return found


def described(value: Any) -> list[Any]:
    """Return the shape, type and order in memory of all tensors of a result."""
    if not isinstance(value, Tensor):
        return [described(part) for part in value] if isinstance(value, (list, tuple)) else [value]
    return [value.shape, value.dtype, value.stride() if value.numel() > 1 else None]


def sequences(count: int, labelled: bool) -> list[Encoded]:
    chance = torch.Generator().manual_seed(0)
    lengths = torch.randint(9, 20, (count,), generator=chance).tolist()
    ids = [torch.randint(300, (length,), generator=chance).numpy() for length in lengths]
    return [
        Encoded(str(row), part.astype("int32"), 1, label=row % 3 if labelled else None)
        for row, part in enumerate(ids)
    ]


def adapted_model(case: Case, tokenizer: Tokenizer) -> LanguageModel:
    model = build_model(tiny_config(case.family, **SIZES), "cpu")
    draw_weights(model, 0.02)
    if case.labelled:
        model.use_label_head(3)
    KINDS[case.method].adapt(model, torch.Generator().manual_seed(0), tokenizer)
    return model


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_those_of_the_operations(case: Case, tokenizer: Tokenizer) -> None:
    config = TrainConfig(
        epochs=1, batch_size=8, learning_rate=1e-3, on_nan="skip", **TRAINED[case.trained]
    )
    rows = sequences(8, case.labelled)
    model = adapted_model(case, tokenizer)
    model.set_precision(case.dtype)
    model.set_dropout(config.dropout)
    model.checkpointing = config.checkpointing
    (batch,) = pack(rows, 8192)
    with Comparing() as compared:
        list(train(model, rows, config, seed=0))
        with torch.inference_mode():
            model.eval()
            hidden = model.hidden(batch)
            logits = model.logits(hidden).float()
            logits.log_softmax(-1).argmax(-1)
            logits.softmax(-1)
    assert {"linear", "layer_norm", "mul"} <= compared.by_hand


@pytest.mark.slow
def test_a_run_and_its_rehearsal_do_not_import_the_compiler(tmp_path: Path) -> None:
    """It takes a second and 70 MB; sympy alone 0.3 s and 34 MB."""
    command = """
import sys
from pathlib import Path
from tunewise.config import make_config
from tunewise.run import run
task = {"name": "pocket_reviews", "samples": 8}
for method in ("full", "last_layer", "lora", "soft_prompt"):
    fields = {"model": "pocket", "task": task, "method": method, "train": {"epochs": 1}}
    run(make_config(None, fields), out=Path(sys.argv[1]) / method)
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    asked = [sys.executable, "-c", command, str(tmp_path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
