"""What an operation returns is what the operation itself returns, but for its numbers."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunewise.data.encode import Encoded
from tunewise.data.packing import pack
from tunewise.data.tokenizer import Tokenizer
from tunewise.estimate.operations import RESULTS
from tunewise.estimate.rehearsal import Rehearsal
from tunewise.methods import METHODS
from tunewise.methods.lora import LoRA
from tunewise.methods.method import Method
from tunewise.models import LanguageModel
from tunewise.models.config import ModelConfig
from tunewise.models.folder import build_model
from tunewise.models.gpt2 import GPT2Config
from tunewise.models.gpt_neo import GPTNeoConfig
from tunewise.training.config import TrainConfig
from tunewise.training.loop import train

SHAPE: dict[str, Any] = {
    "vocabulary_size": 300,
    "context_length": 64,
    "model_dim": 32,
    "num_heads": 2,
    "num_layers": 2,
    "mlp_dim": 64,
}
FAMILIES: dict[str, ModelConfig] = {
    "gpt2": GPT2Config(**SHAPE),
    "gpt_neo": GPTNeoConfig(**SHAPE, window=8, attention=("global", "local")),
}
KINDS: dict[str, Method] = {kind: METHODS[kind]() for kind in METHODS} | {"dora": LoRA(dora=True)}
TRAINED: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd_momentum", "checkpointing": True},
    "dropout": {"dropout": 0.1},
}


class Beside(Rehearsal):
    """Computes every operation, and compares what comes with what was known before."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()
        self.asked: set[str] = set()

    def _made(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        found = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in RESULTS:
            self.known.add(name)
            assert described(super()._made(func, args, dict(kwargs))) == described(found), func
        else:
            self.asked.add(name)
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


def adapted(family: str, method: str, labelled: bool, tokenizer: Tokenizer) -> LanguageModel:
    model = build_model(FAMILIES[family], "cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    if labelled:
        model.use_label_head(3)
    KINDS[method].adapt(model, torch.Generator().manual_seed(0), tokenizer)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("labelled", [False, True], ids=["text", "labels"])
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", KINDS)
def test_results_are_those_of_the_operations(
    method: str, family: str, trained: str, labelled: bool, dtype: torch.dtype, tokenizer: Tokenizer
) -> None:
    config = TrainConfig(
        epochs=1, batch_size=8, learning_rate=1e-3, on_nan="skip", **TRAINED[trained]
    )
    rows = sequences(8, labelled)
    model = adapted(family, method, labelled, tokenizer)
    model.set_precision(dtype)
    model.set_dropout(config.dropout)
    model.checkpointing = config.checkpointing
    (batch,) = pack(rows, 8192)
    with Beside() as beside:
        list(train(model, rows, config, seed=0))
        with torch.inference_mode():
            model.eval()
            hidden = model.hidden(batch)
            model.logits(hidden).float().log_softmax(-1).argmax(-1)
    assert {"linear", "layer_norm", "mul"} <= beside.known
    assert not beside.asked - {"_unsafe_view", "new_zeros", "_foreach_norm"}


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
