"""Damage to a model folder is an error of one sentence that names the file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import reference

from tunewise.errors import ModelError, TunewiseError
from tunewise.models import FAMILIES, ModelConfig
from tunewise.models.folder import find_folder, load_model, read_shape, save_model

from .folders import change_weights, fresh_model

LABELS = ["bad", "fair", "good"]


def test_a_pickle_is_refused_and_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle"):
        load_model(folder)


def test_a_folder_without_weights_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        load_model(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: _without(tensors, "transformer.h.1.ln_2.bias"))
    _refused(folder, "h.1.ln_2.bias", "missing")


def test_a_missing_output_layer_of_an_untied_model_is_named(folder: Path) -> None:
    _change_config(folder, tie_word_embeddings=False)
    _refused(folder, "lm_head.weight", "missing: config.json says (tie_word_embeddings: false)")


def test_a_missing_label_layer_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_model(folder, num_labels=3)


def test_a_label_layer_of_another_size_is_named(config: ModelConfig, tmp_path: Path) -> None:
    model = fresh_model(config)
    model.use_label_head(3)
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    with pytest.raises(ModelError, match=r"score\.weight.* has shape \[3, 32\].*\[2, 32\]"):
        load_model(tmp_path, num_labels=2)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: {"transformer.h.9.oddity": torch.ones(2), **tensors})
    _refused(folder, "h.9.oddity", "unexpected", "3 layers")


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.h.2.mlp.c_fc.weight", "transformer.ln_f.bias"]
)
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(folder: Path, name: str) -> None:
    found = load_file(folder / "model.safetensors")[name]
    change_weights(folder, lambda tensors: {**tensors, name: torch.ones(7, 3)})
    _refused(folder, name, "[7, 3]", str(list(found.shape)))


def test_a_turned_matrix_is_refused(folder: Path) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    change_weights(folder, lambda t: {**t, name: t[name].T.contiguous()})
    _refused(folder, name)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.float64])
def test_a_tensor_of_the_wrong_type_is_named(folder: Path, dtype: torch.dtype) -> None:
    name = "transformer.ln_f.weight"
    change_weights(folder, lambda tensors: {**tensors, name: tensors[name].to(dtype)})
    _refused(folder, name, "F32")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    _refused(folder, "model.safetensors", "not a sound safetensors file")


@pytest.mark.parametrize(
    "shard",
    ["model-00009-of-00009.safetensors", "../outside.safetensors", "/etc/outside.safetensors", ""],
)
def test_an_index_that_names_a_file_not_in_the_folder_is_refused(folder: Path, shard: str) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    _write_index(folder, {"weight_map": {"transformer.wte.weight": shard}})
    _refused(folder, "model.safetensors.index.json", Path(shard).name, "not there")


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": []}, {"weight_map": {"wte.weight": 3}}, "{", "\udcff"]
)
def test_an_index_that_is_none_is_refused(folder: Path, index: Any) -> None:
    _write_index(folder, index)
    _refused(folder, "model.safetensors.index.json")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"gpt2"', "{", "", "\udcff"])
def test_a_config_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    _refused(folder, "config.json")


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    _refused(tmp_path, "config.json", "no such file")


@pytest.mark.parametrize("kind", ["gtp2", "llama", None, 2, ["gpt2"], {}])
def test_an_unknown_family_is_named_with_the_known_ones(folder: Path, kind: Any) -> None:
    _change_config(folder, model_type=kind)
    _refused(folder, "config.json", "model_type", repr(kind), *FAMILIES)


@pytest.mark.parametrize("activation", ["relu", "gelu", None])
def test_an_activation_that_would_compute_something_else_is_named(
    folder: Path, activation: str | None
) -> None:
    _change_config(folder, activation_function=activation)
    _refused(folder, "config.json", "activation_function", repr(activation), "gelu_new")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_that_must_have_one_value_is_checked(family: str, tmp_path: Path) -> None:
    for field in FAMILIES[family].fixed:
        values = {"model_type": family, field: "something else"}
        (tmp_path / "config.json").write_text(json.dumps(values), "utf-8")
        _refused(tmp_path, "config.json", field, "something else")


def test_heads_that_do_not_part_the_width_are_named(folder: Path, config: ModelConfig) -> None:
    _change_size(folder, config, "num_heads", 5)
    _refused(folder, "config.json", "5 heads", "32")


@pytest.mark.parametrize("value", [-4, 0, 1.5, "many", None, [4]])
@pytest.mark.parametrize(
    "field",
    ["vocabulary_size", "context_length", "model_dim", "num_heads", "num_layers"],
)
def test_an_impossible_size_is_named(
    folder: Path, config: ModelConfig, field: str, value: Any
) -> None:
    _change_size(folder, config, field, value)
    # A value of no use at all may fail before it is known which of the fields it was meant for.
    _refused(folder, "config.json", *([field, repr(value)] if isinstance(value, int) else []))


@pytest.mark.parametrize("value", [-1e-5, float("nan"), float("inf"), "small"])
def test_an_impossible_epsilon_is_refused(folder: Path, value: Any) -> None:
    _change_config(folder, layer_norm_epsilon=value)
    _refused(folder, "config.json", "epsilon")


def test_a_missing_size_is_named(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(_without(json.loads(path.read_text()), "vocab_size")), "utf-8")
    _refused(folder, "config.json", "vocab_size")


@pytest.mark.parametrize(
    "kinds", [[], "global", [["global", 3]], [[["nowhere"], 3]], [[["global"], 2]], [[["global"]]]]
)
def test_attention_that_does_not_fit_the_layers_is_refused(kinds: Any, tmp_path: Path) -> None:
    reference("gpt_neo").save_pretrained(tmp_path)
    _change_config(tmp_path, attention_types=kinds)
    _refused(tmp_path, "config.json")


def test_a_misspelt_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ModelError, match=r"no model 'gpt2-medum'.*did you mean 'gpt2-medium'"):
        find_folder("gpt2-medum")


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in values
    return {key: value for key, value in values.items() if key != name}


def _change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(values | fields), "utf-8")


def _change_size(folder: Path, config: ModelConfig, field: str, value: Any) -> None:
    """Set one of our fields under the name, or names, that config.json has for it."""
    told = config.model_copy(update={field: getattr(config, field) + 1})
    before, after = config.to_hugging_face(), told.to_hugging_face()
    names = [name for name in before if before[name] != after[name]]
    assert names, field
    _change_config(folder, **dict.fromkeys(names, value))


def _write_index(folder: Path, index: Any) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    text = index if isinstance(index, str) else json.dumps(index)
    path = folder / "model.safetensors.index.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


def _refused(folder: Path, *words: str) -> None:
    """Check that a folder is refused with one line that has every one of these words."""
    with pytest.raises(TunewiseError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("layers", 1000, "says that there are 1,000 layers, and the files have"),
        ("n_embd", 2**24, "config.json requires"),
        ("n_inner", 2**24, "config.json requires"),
        ("vocab_size", 2**24, "config.json requires"),
    ],
)
def test_a_size_that_config_json_makes_up_is_found_from_headers_alone(
    field: str, value: int, message: str, folder: Path
) -> None:
    values = json.loads((folder / "config.json").read_text())
    names = {"layers": ("n_layer", "num_layers"), "n_embd": ("n_embd", "hidden_size")}
    names |= {"n_inner": ("n_inner", "intermediate_size")}
    (name,) = [name for name in names.get(field, (field,)) if name in values]
    changes: dict[str, Any] = {name: value}
    if field == "layers" and "attention_types" in values:
        changes["attention_types"] = [[["global", "local"], value // 2]]
        changes["attention_layers"] = ["global", "local"] * (value // 2)
    _change_config(folder, **changes)
    with pytest.raises(ModelError) as caught:
        read_shape(folder)
    assert message in str(caught.value)
