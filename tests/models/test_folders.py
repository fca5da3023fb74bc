"""Model folders: transformers reads what we write, we read what it writes, and damage is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import batch_of, bpe_tokenizer, reference
from torch import Tensor

from tunewise.data.tokenizer import END_OF_TEXT, Tokenizer
from tunewise.errors import ModelError, TunewiseError
from tunewise.models import FAMILIES, LanguageModel, ModelConfig
from tunewise.models.folder import build_model, find_folder, load_model, read_config, save_model
from tunewise.models.language_model import initialise

LABELS = ["bad", "fair", "good"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  two  spaces, a\ttab,\r\n and lines\n\n",
    "Ünïcödé, 日本語, 🎉👩‍👩‍👧, and 12345 can't be amiss; we've said so!",
    "",
    "\x00 \ufeff\u200b",
]


@pytest.fixture
def folder(config: ModelConfig, tmp_path: Path) -> Path:
    """A sound folder of every family."""
    save_model(_fresh(config), tmp_path / "model", end_of_text=0)
    return tmp_path / "model"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A byte-level tokenizer with a few merges."""
    return bpe_tokenizer(320, TEXTS * 3)


# What we write, others read.


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_transformers_reads_our_language_model(
    config: ModelConfig, tied: bool, tmp_path: Path
) -> None:
    model = _fresh(config)
    if not tied:
        _untie(model)
    save_model(model, tmp_path, end_of_text=0)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) == (not tied)
    theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    _assert_nothing_amiss(loading)
    assert type(theirs).__name__ == model.language_architecture
    ids = torch.arange(1, 30)
    expected = theirs.eval()(ids[None]).logits[0]
    torch.testing.assert_close(_logits(model, ids), expected, atol=1e-4, rtol=0)


def test_transformers_reads_our_classifier(config: ModelConfig, tmp_path: Path) -> None:
    model = _fresh(config)
    model.use_label_head(len(LABELS), torch.Generator().manual_seed(1))
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    theirs, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    _assert_nothing_amiss(loading)
    assert type(theirs).__name__ == model.label_architecture
    assert theirs.config.id2label == dict(enumerate(LABELS))
    assert theirs.config.label2id == {label: index for index, label in enumerate(LABELS)}
    ids = torch.arange(1, 30)
    # A row padded on the right, as transformers batches them: it answers from the same token.
    padded = torch.cat([ids, torch.zeros(5, dtype=torch.int64)])
    found = theirs.eval()(padded[None]).logits[0]
    torch.testing.assert_close(_logits(model, ids)[-1], found, atol=1e-4, rtol=0)


def test_the_files_say_what_other_programs_look_for(folder: Path, config: ModelConfig) -> None:
    values = json.loads((folder / "config.json").read_text("utf-8"))
    assert values["model_type"] == config.family
    assert values["architectures"] == [FAMILIES[config.family].language_architecture]
    assert values["bos_token_id"] == values["eos_token_id"] == 0
    assert values["dtype"] == "float32"
    if config.family == "gpt2":
        assert values["n_ctx"] == values["n_positions"] == config.context_length


def test_transformers_reads_our_tokenizer(
    tokenizer: Tokenizer, folder: Path, config: ModelConfig
) -> None:
    tokenizer.save(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.eos_token_id == tokenizer.end_of_text
    for text, ids in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        assert theirs(text)["input_ids"] == ids


# What is written is what is read.


def test_a_folder_saved_again_is_the_same_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    save_model(model, tmp_path / "again", end_of_text=0)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    _assert_same_weights(load_model(tmp_path / "again"), model)


def test_weights_changed_in_place_leave_their_file_alone(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert (folder / "model.safetensors").read_bytes() == before
    assert not torch.equal(
        load_model(folder).get_parameter("token_embedding.weight"),
        model.get_parameter("token_embedding.weight"),
    )


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_with_lies_in_memory_in_order_and_holds_nothing_else(
    folder: Path, dtype: torch.dtype, trained: bool
) -> None:
    stored = {n: p.detach().clone() for n, p in load_model(folder).named_parameters()}
    model = load_model(folder).requires_grad_(trained)
    model.set_precision(dtype)
    for name, parameter in model.named_parameters():
        expected = stored[name].to(torch.float32 if trained else dtype)
        assert parameter.is_contiguous(), name
        assert torch.equal(parameter, expected), name
        if dtype != torch.float32 and not trained:
            assert parameter.untyped_storage().nbytes() == expected.nbytes, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stay_in_the_type_they_are_stored_in(
    config: ModelConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = _fresh(config).to(dtype)
    save_model(model, tmp_path, end_of_text=0)
    _assert_same_weights(load_model(tmp_path), model)


def test_an_untied_model_comes_back_untied(config: ModelConfig, tmp_path: Path) -> None:
    model = _fresh(config)
    _untie(model)
    save_model(model, tmp_path, end_of_text=0)
    again = load_model(tmp_path)
    assert not again.head_is_tied
    _assert_same_weights(again, model)


def test_a_classifier_comes_back_with_its_label_layer_or_as_its_language_model(
    config: ModelConfig, tmp_path: Path
) -> None:
    model = _fresh(config)
    table = model.get_parameter("head.weight")
    model.use_label_head(len(LABELS))
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    _assert_same_weights(load_model(tmp_path, len(LABELS)), model)
    language = load_model(tmp_path)
    assert language.head_is_tied
    assert torch.equal(language.get_parameter("head.weight"), table)


def test_the_shape_comes_back_from_config_json(config: ModelConfig, tmp_path: Path) -> None:
    unusual = config.model_copy(update={"norm_epsilon": 1e-4, "mlp_dim": 40, "tied": False})
    (tmp_path / "config.json").write_text(json.dumps(unusual.to_hugging_face()), "utf-8")
    assert read_config(tmp_path) == unusual


# What others write, we read.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_shards_are_read_as_one_file(family: str, tied: bool, tmp_path: Path) -> None:
    theirs = reference(family, tied=tied)
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    _assert_same_weights(load_model(tmp_path / "shards"), load_model(tmp_path / "whole"))


def test_names_without_the_prefix_are_read_too(folder: Path) -> None:
    expected = load_model(folder)

    def shorten(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert all(name.startswith(expected.name_prefix) for name in tensors)
        return {name.removeprefix(expected.name_prefix): t for name, t in tensors.items()}

    _change_weights(folder, shorten)
    _assert_same_weights(load_model(folder), expected)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("buffer", ["bias", "masked_bias"])
def test_masks_in_old_files_are_passed_over(folder: Path, prefix: str, buffer: str) -> None:
    expected = load_model(folder)
    inner = "attn.attention" if expected.config.family == "gpt_neo" else "attn"
    mask = torch.ones(1, 1, 8, 8).tril().bool()
    _change_weights(folder, lambda tensors: {f"{prefix}h.0.{inner}.{buffer}": mask, **tensors})
    _assert_same_weights(load_model(folder), expected)


def test_a_second_copy_of_a_tied_output_layer_is_passed_over(folder: Path) -> None:
    expected = load_model(folder)
    table = expected.get_parameter("token_embedding.weight").detach().clone()
    _change_weights(folder, lambda tensors: {"lm_head.weight": table, **tensors})
    again = load_model(folder)
    assert again.head_is_tied
    _assert_same_weights(again, expected)


# Damage is told in one sentence that names the culprit.


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
    _change_weights(folder, lambda tensors: _without(tensors, "transformer.h.1.ln_2.bias"))
    _refused(folder, "h.1.ln_2.bias", "missing")


def test_a_missing_output_layer_of_an_untied_model_is_named(folder: Path) -> None:
    _change_config(folder, tie_word_embeddings=False)
    _refused(folder, "lm_head.weight", "missing")


def test_a_missing_label_layer_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_model(folder, num_labels=3)


def test_a_label_layer_of_another_size_is_named(config: ModelConfig, tmp_path: Path) -> None:
    model = _fresh(config)
    model.use_label_head(3)
    save_model(model, tmp_path, end_of_text=0, labels=LABELS)
    with pytest.raises(ModelError, match=r"score\.weight.* has shape \[3, 32\].*\[2, 32\]"):
        load_model(tmp_path, num_labels=2)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    _change_weights(folder, lambda tensors: {"transformer.h.9.oddity": torch.ones(2), **tensors})
    _refused(folder, "h.9.oddity", "unexpected", "3 layers")


@pytest.mark.parametrize(
    "name", ["transformer.wte.weight", "transformer.h.2.mlp.c_fc.weight", "transformer.ln_f.bias"]
)
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(folder: Path, name: str) -> None:
    found = load_file(folder / "model.safetensors")[name]
    _change_weights(folder, lambda tensors: {**tensors, name: torch.ones(7, 3)})
    _refused(folder, name, "[7, 3]", str(list(found.shape)))


def test_a_turned_matrix_is_refused(folder: Path) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    _change_weights(folder, lambda t: {**t, name: t[name].T.contiguous()})
    _refused(folder, name)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.float64])
def test_a_tensor_of_the_wrong_type_is_named(folder: Path, dtype: torch.dtype) -> None:
    name = "transformer.ln_f.weight"
    _change_weights(folder, lambda tensors: {**tensors, name: tensors[name].to(dtype)})
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


# Tokenizers.


def test_vocabulary_and_merges_give_the_ids_of_the_whole_file(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    whole = Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    parts = Tokenizer.load(tmp_path)
    assert parts.tokenize(TEXTS) == whole.tokenize(TEXTS) == tokenizer.tokenize(TEXTS)
    assert parts.end_of_text == whole.end_of_text == tokenizer.end_of_text
    assert parts.size == whole.size == tokenizer.size


def test_a_text_comes_back_from_its_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.decode(ids) for ids in tokenizer.tokenize(TEXTS)] == TEXTS


def test_a_text_cannot_end_a_text(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.tokenize([f"one{END_OF_TEXT}two"])
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == f"one{END_OF_TEXT}two"


def test_gpt2_ids_are_those_of_transformers(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "gpt2_bpe"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    shutil.copy(source / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(source / "vocab.bpe", tmp_path / "merges.txt")
    ours = Tokenizer.load(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    assert (ours.size, ours.end_of_text) == (50257, 50256)
    for text, ids in zip(TEXTS, ours.tokenize(TEXTS), strict=True):
        assert theirs(text)["input_ids"] == ids
        assert ours.decode(ids) == text
    assert ours.tokenize(["Hello world"]) == [[15496, 995]]  # as OpenAI's own encoder has it


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=tmp_path.name):
        Tokenizer.load(tmp_path)


def test_a_folder_without_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}", "utf-8")
    with pytest.raises(ModelError, match=r"no tokenizer\.json, and no vocab\.json with merges"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"eos_token": "<absent>"}', '{"eos_token": {"id": 3}}']
)
def test_a_tokenizer_without_an_end_of_text_is_refused(
    tokenizer: Tokenizer, text: str, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(text, "utf-8")
    with pytest.raises(ModelError):
        Tokenizer.load(tmp_path)


def _fresh(config: ModelConfig) -> LanguageModel:
    """Return a model whose every tensor has values of its own."""
    model = build_model(config, "cpu")
    generator = torch.Generator().manual_seed(0)
    initialise(model, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False).eval()


def _untie(model: LanguageModel) -> None:
    model.untie_head()
    with torch.no_grad():
        model.get_parameter("head.weight").mul_(2)
    model.requires_grad_(False)


def _logits(model: LanguageModel, ids: Tensor) -> Tensor:
    hidden = model.hidden(batch_of(ids))
    return model.logits(hidden)


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in values
    return {key: value for key, value in values.items() if key != name}


def _change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


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


def _assert_nothing_amiss(loading: dict[str, Any]) -> None:
    assert not any(loading.values()), loading


def _assert_same_weights(found: LanguageModel, expected: LanguageModel) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == theirs[name].dtype, name
        assert torch.equal(weight, theirs[name]), name
