"""Every number that a method trains is in each export of the model, or the export is refused."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tiny import METHOD_SETTINGS, add_noise, every_family
from torch import Tensor

from tunewise.errors import ConfigError
from tunewise.methods import METHODS, Method
from tunewise.methods.method import merge
from tunewise.models import LanguageModel
from tunewise.models.folder import load_model
from tunewise.models.tensors import write_weights
from tunewise.models.weights import read_tensors
from tunewise.peft.write import write_adapter

SETTINGS: dict[str, dict[str, object]] = {
    **{kind: {"kind": kind, **METHOD_SETTINGS.get(kind, {})} for kind in METHODS},
    "lora": {"kind": "lora", "rank": 2, "blocks": [1]},
    "dora": {"kind": "lora", "rank": 2, "blocks": [1], "dora": True},
    "pissa": {"kind": "lora", "rank": 2, "blocks": [1], "init": "pissa"},
    "head": {"kind": "lora", "rank": 2, "blocks": [1], "targets": ["key", "head"]},
}
every_method = pytest.mark.parametrize("name", SETTINGS)
both_kinds_of_head = pytest.mark.parametrize("num_labels", [None, 3], ids=["language", "labels"])


def trained(name: str, folder: Path, num_labels: int | None) -> tuple[Method, LanguageModel]:
    """Return a method and a model whose trained weights have all moved."""
    if name == "head" and num_labels:
        pytest.skip("LoRA of the output layer is for language models")
    settings = SETTINGS[name]
    method = METHODS[str(settings["kind"])].model_validate(settings)
    model = load_model(folder)
    generator = torch.Generator().manual_seed(0)
    if num_labels is not None:
        model.use_label_head(num_labels, generator)
    method.adapt(model, generator)
    add_noise((parameter for _, parameter in model.trainable()), 0.1)
    return method, model


def in_peft(method: Method, model: LanguageModel, folder: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a PEFT adapter; None if PEFT does not have the method."""
    adapter = method.to_peft(model)
    if adapter is None:
        return None
    write_adapter(adapter, model, "base", folder)
    return read_tensors(folder / "adapter_model.safetensors")


def in_transformers(method: Method, model: LanguageModel, folder: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a whole model; None if the method cannot be merged."""
    if method.why_not_merged:
        return None
    merged = deepcopy(model)
    merge(merged)
    write_weights(merged, folder / "model.safetensors")
    return read_tensors(folder / "model.safetensors")


@every_method
@every_family
@both_kinds_of_head
@pytest.mark.parametrize("exported", [in_peft, in_transformers])
@torch.no_grad()
def test_every_trained_weight_is_in_every_export(
    exported: object,
    num_labels: int | None,
    family: str,
    name: str,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    assert callable(exported)
    method, model = trained(name, folders[family], num_labels)
    before = exported(method, model, tmp_path)
    for parameter_name, parameter in list(model.trainable()) if before else []:
        kept = parameter.clone()
        parameter += 0.1
        after = exported(method, model, tmp_path)
        assert after.keys() == before.keys()
        moved = [key for key in before if not torch.equal(before[key], after[key])]
        assert moved, parameter_name
        parameter.copy_(kept)


@every_method
@both_kinds_of_head
def test_what_an_export_cannot_hold_is_refused_by_name(
    num_labels: int | None, name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    method, model = trained(name, folders["gpt2"], num_labels)
    model.stray = torch.nn.Linear(2, 2)
    for exported in (in_peft, in_transformers):
        if (exported is in_peft and method.to_peft(model) is None) or (
            exported is in_transformers and method.why_not_merged
        ):
            continue
        with pytest.raises(ConfigError, match=r"'stray\.weight' was trained"):
            exported(method, model, tmp_path)
    model.stray.requires_grad_(False)
    model.final_norm.requires_grad_(True)
    if method.to_peft(model) is not None:
        with pytest.raises(ConfigError, match=r"'final_norm\.weight' was trained"):
            in_peft(method, model, tmp_path)
