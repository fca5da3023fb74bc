"""Adapters in PEFT: written by us and by PEFT, and compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import their_layers
from torch import Tensor

from tunewise.config import RunConfig, make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model
from tunewise.peft.write import write_adapter
from tunewise.runs.model import adapted_model

Trained = Callable[..., Path]
Logits = Callable[..., Tensor]
Fields = dict[str, Any]
Tensors = dict[str, Tensor]
Adapters = Callable[[str], Path]

TEXTS = ["the film is not good at all", "a good film", "bad, bad, bad", "x"]
TASK = {"kind": "language_modeling"}


def written_by_us(base: Path, out: Path, tokenizer: Tokenizer, **method: Any) -> LanguageModel:
    """Write an adapter whose values have moved at random, and return its model."""
    fields = {"model": str(base), "task": TASK, "method": {"kind": "lora", **method}}
    config = make_config(fields=fields)
    model = adapted_model(config, base, tokenizer).eval()
    generator = torch.Generator().manual_seed(0)
    for _, parameter in model.trainable():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    write(model, config, base, out)
    return model


def write(model: LanguageModel, config: RunConfig, base: Path, out: Path) -> None:
    adapter = config.method.to_peft(model)
    assert adapter is not None
    write_adapter(adapter, model, str(base), out)


def in_peft(folder: Path, base: Path, num_labels: int | None = None) -> Any:
    kind = transformers.AutoModelForCausalLM
    labels = {}
    if num_labels is not None:
        kind = transformers.AutoModelForSequenceClassification
        labels = {"num_labels": num_labels}
    model = kind.from_pretrained(base, dtype=torch.float32, pad_token_id=0, **labels)
    return peft.PeftModel.from_pretrained(model, folder).eval()


def assert_same_answers(
    ours: LanguageModel, theirs: Any, tokenizer: Tokenizer, our_logits: Logits, prefix: int = 0
) -> None:
    """Compare all logits of all texts, at 1e-4."""
    for ids in tokenizer.tokenize(TEXTS):
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([ids])).logits  # (1, T, V) or (1, labels)
        if ours.num_labels is None:
            expected = expected[0, prefix:]
        torch.testing.assert_close(our_logits(ours, ids, prefix), expected, rtol=1e-4, atol=1e-4)


def shaken(folder: Path) -> Path:
    """Return a run whose trained tensors are large at random, so that every one matters."""
    path = folder / "adapter" / "adapter.safetensors"
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: tensor + 0.2 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    return folder


def written_by_peft(
    base: Path,
    out: Path,
    config: peft.PeftConfig,
    num_labels: int | None = None,
    **how: Any,
) -> Any:
    """Write an adapter with values that are large at random, and return its model.

    Args:
        how: further arguments of save_pretrained.
    """
    kind = transformers.AutoModelForCausalLM
    labels = {}
    if num_labels is not None:
        kind = transformers.AutoModelForSequenceClassification
        labels = {"num_labels": num_labels}
    model = kind.from_pretrained(base, dtype=torch.float32, pad_token_id=0, **labels)
    model = peft.get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(out, **how)
    return model


def in_their_names(fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return fields of PEFT with `<query>` and the like replaced by transformers' names."""
    model, text = load_model(base), json.dumps(fields)
    for theirs, ours in their_layers(model).items():
        for name, path in model.layers.items():
            if f"blocks.0.{path}" in ours:
                text = text.replace(
                    f"<{name}>", theirs.removeprefix(f"{model.block_name}.".format(0))
                )
    named: dict[str, Any] = json.loads(text)
    return named


def read(base: Path, task: dict[str, Any], tokenizer: Tokenizer, **method: Any) -> LanguageModel:
    config = make_config(fields={"model": str(base), "task": task, "method": method})
    model = adapted_model(config, base, tokenizer).eval()
    model.set_precision(torch.float32)
    return model


def as_it_is(tensors: Tensors) -> Tensors:
    """Return the tensors of an adapter unchanged."""
    return tensors
