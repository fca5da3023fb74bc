"""The tensors of a model folder: their names, and how they are read into a model and written.

Foreign conventions end here: GPT-2's fused and transposed matrices are split and transposed when
they are read, and fused and transposed again when they are written. Programs that train put names
of their own around a model's: `torch.compile` writes `_orig_mod.`, data parallelism `module.`.
They say nothing about the weights and are passed over.
"""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tunewise.errors import ModelError, first_of
from tunewise.models.language_model import LanguageModel
from tunewise.models.names import TensorName
from tunewise.models.weights import (
    FLOATS,
    INDEX,
    LABEL_HEAD,
    LANGUAGE_HEAD,
    WEIGHTS,
    opened,
    weight_files,
)

logger = logging.getLogger(__name__)

HEAD = "head.weight"
EMBEDDING = "token_embedding.weight"
WRAPPER = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""A part of a name that stands for a wrapper, which may be around the model or around a block."""
OTHER_HEADS = re.compile(r"(classifier|qa_outputs|multiple_choice_head|v_head)\..*")
"""Tensors of output layers that are over no words, and over no labels of a whole text."""
ADAPTER = "adapter_config.json"
PIECE, PIECES = 4096, 64
"""Of a large tensor, about so many pieces of so many bytes are in a hash of weights."""


class Stored(NamedTuple):
    """A tensor in a file: its full name, and the file."""

    key: str
    path: Path


def find_tensors(folder: Path, model: LanguageModel) -> dict[str, Stored]:
    """Return the tensors of a model folder, by their names without what stands before them.

    That is the family's name prefix, and whatever a program put in front of it.

    Raises:
        ModelError: if a file is missing or damaged, or two tensors come to the same name.
    """
    stored: list[Stored] = []
    for path in weight_files(folder):
        with opened(path) as file:
            stored += [Stored(key, path) for key in file.keys()]  # noqa: SIM118  # it is no mapping
    names = [WRAPPER.sub("", tensor.key) for tensor in stored]
    prefix = _most_common_prefix(names, {tensor.theirs for tensor in model.stored_tensors()})
    outer = prefix.removesuffix(model.name_prefix)  # of the output layer, which has no name prefix
    found: dict[str, Stored] = {}
    for name, tensor in zip(names, stored, strict=True):
        short = name.removeprefix(prefix if name.startswith(prefix) else outer)
        if short in found:
            raise ModelError(
                f"{folder}: the tensors {found[short].key!r} and {tensor.key!r} would both be "
                f"{short!r}; keep those of one model"
            )
        found[short] = tensor
    return found


def _most_common_prefix(names: Iterable[str], known: Collection[str]) -> str:
    """Return what stands before a known name, in most of the names that end with one."""
    prefixes: Counter[str] = Counter()
    for name in names:
        starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        prefixes.update([name[:start] for start in starts if name[start:] in known][:1])
    return prefixes.most_common(1)[0][0] if prefixes else ""


def read_weights(model: LanguageModel, folder: Path, head: bool = True) -> None:
    """Put the tensors of a model folder into a model, which may be on the meta device.

    Nothing is copied: each parameter is a view, which may be transposed, into a mapping of the file
    of its own. Its pages are read when `set_precision` converts it to the compute precision, and
    are freed with it, so that a file and its converted copy are never in memory together.

    An output layer that is the token embedding by config.json, and another by the file, is not tied
    to it; a file may also hold the two under the name of either. transformers does the same.

    Args:
        head: whether the output layer is read too, which is over labels if the model is a
            classifier.

    Raises:
        ModelError: if a file is missing or damaged, or a tensor missing, unexpected or misshapen.
    """
    found = find_tensors(folder, model)
    _tell_of_names(folder, model, found)
    needed = list(model.stored_tensors())
    (embedding,) = (tensor.theirs for tensor in needed if tensor.ours == (EMBEDDING,))
    over_words = head and model.num_labels is None
    if model.config.tied and embedding not in found and LANGUAGE_HEAD in found:
        logger.info("%s: %r is the token embedding too", folder, LANGUAGE_HEAD)
        found[embedding] = found.pop(LANGUAGE_HEAD)
    if over_words and model.config.tied and _differ(found, embedding, LANGUAGE_HEAD):
        logger.warning(
            "%s: config.json says that the output layer is the token embedding, but the file has "
            "another, which is used; tie_word_embeddings: false would say so",
            folder,
        )
        model.config = model.config.model_copy(update={"tied": False})
    if head and model.num_labels is not None:
        needed.append(TensorName(LABEL_HEAD, (HEAD,)))
    elif over_words and not model.config.tied:
        needed.append(TensorName(LANGUAGE_HEAD, (HEAD,)))
    _check_names(model, folder, found, [tensor.theirs for tensor in needed])
    if over_words and LABEL_HEAD in found:
        logger.warning("%s: a classifier; its label layer is left out", folder)
    if others := [name for name in found if OTHER_HEADS.fullmatch(name)]:
        logger.warning("%s: %s left out: they answer another kind of task", folder, _listed(others))
    for tensor in needed:
        _read(model, tensor, found[tensor.theirs], folder)
    if over_words and model.config.tied:
        model.tie_head()


def head_differs(model: LanguageModel, folder: Path) -> bool:
    """Return whether the files of a folder hold an output layer other than the token embedding.

    Raises:
        ModelError: if a file is missing or damaged.
    """
    (embedding,) = (t.theirs for t in model.stored_tensors() if t.ours == (EMBEDDING,))
    return _differ(find_tensors(folder, model), embedding, LANGUAGE_HEAD)


def fingerprint(model: LanguageModel, folder: Path) -> str:
    """Return a hash of the weights in a folder, however they are named and divided into files.

    Of a large tensor some pieces are hashed: training changes all of it.

    Raises:
        ModelError: if a file is missing or damaged.
    """
    digest = hashlib.sha256()
    for name, (key, path) in sorted(find_tensors(folder, model).items()):
        # Read and not mapped: pages of a mapped file would count as memory of the process.
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[key]
            digest.update(f"{name} {entry['dtype']} {entry['shape']}\n".encode())
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            for place in range(first, last, max(PIECE, (last - first) // PIECES)):
                file.seek(place)
                digest.update(file.read(min(PIECE, last - place)))
    return digest.hexdigest()


def read_label_layer(model: LanguageModel, folder: Path) -> None:
    """Put the label layer of a folder into a classifier with as many labels.

    Raises:
        ModelError: if it is misshapen.
    """
    stored = find_tensors(folder, model)[LABEL_HEAD]
    _read(model, TensorName(LABEL_HEAD, (HEAD,)), stored, folder)


def _tell_of_names(folder: Path, model: LanguageModel, found: Mapping[str, Stored]) -> None:
    """Log what another reader might take differently: names, and which of several files."""
    if (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():  # as in transformers
        logger.warning("%s: %s is read, and the shards of %s are not", folder, WEIGHTS, INDEX)
    if (folder / ADAPTER).is_file():  # transformers takes the adapter, and its base
        logger.warning(
            "%s: holds an adapter of PEFT too (%s), which is left out: its base model is the model "
            "to give, and the folder of the adapter the method's `from`",
            folder,
            ADAPTER,
        )
    usual = (f"{model.name_prefix}{{}}", "{}")
    for name, (key, _) in found.items():
        if key not in [form.format(name) for form in usual]:
            logger.info("%s: names such as %r are read as %r", folder, key, name)
            return


def _differ(found: dict[str, Stored], *names: str) -> bool:
    """Return whether two tensors are both there and are not equal."""
    if not all(name in found for name in names):
        return False
    tensors = []
    for name in names:
        with safe_open(found[name].path, framework="pt") as file:
            tensors.append(file.get_tensor(found[name].key))
    one, other = tensors
    return not torch.equal(one, other.to(one.dtype))


def _check_names(
    model: LanguageModel, folder: Path, found: Mapping[str, Stored], needed: Sequence[str]
) -> None:
    """Raise ModelError if a tensor is missing, or there is one that the model has no place for."""
    missing = [name for name in needed if name not in found]
    if missing == [LANGUAGE_HEAD] and LABEL_HEAD in found:
        raise ModelError(
            f"{folder}: is a classifier: tensor {LANGUAGE_HEAD!r} is missing, so it has no words "
            "to write with; give it a task of kind classification, or give its language model"
        )
    if missing == [LANGUAGE_HEAD]:
        raise ModelError(
            f"{folder}: {_listed(missing)} missing: config.json says (tie_word_embeddings: false) "
            "that it is not the token embedding, and the folder was saved without it; save the "
            f"whole model (in transformers: {model.language_architecture})"
        )
    unmerged = any(".lora_" in stored.key for stored in found.values())
    hint = "; in PEFT, merge_and_unload() comes before save_pretrained" if unmerged else ""
    if missing:
        raise ModelError(f"{folder}: {_listed(missing)} missing{hint}")
    unexpected = [
        stored.key
        for name, stored in found.items()
        if name not in needed and not _is_ignored(model, name)
    ]
    if unexpected:
        raise ModelError(
            f"{folder}: {_listed(unexpected)} unexpected; config.json says this is "
            f"{model.config.family} with {model.config.num_layers} layers{hint}"
        )


def _is_ignored(model: LanguageModel, name: str) -> bool:
    """Return whether a tensor is an output layer that is not needed, or such as a causal mask."""
    is_head = name in (LANGUAGE_HEAD, LABEL_HEAD) or OTHER_HEADS.fullmatch(name) is not None
    return is_head or re.fullmatch(model.buffers_of_old_files, name) is not None


def _listed(names: Collection[str]) -> str:
    """Return the names of tensors, of many the first few, and the verb that follows them."""
    first = first_of(map(repr, sorted(names)))
    return f"tensor {first} is" if len(names) == 1 else f"{len(names)} tensors ({first}) are"


def write_weights(model: LanguageModel, file: Path) -> None:
    """Write a model's weights as Hugging Face names them; a tied output layer is left out."""
    tensors: dict[str, Tensor] = {}
    for stored in model.stored_tensors():
        whole = torch.cat([model.dense(name).detach() for name in stored.ours])
        tensors[model.name_prefix + stored.theirs] = whole.T if stored.transposed else whole
    if model.num_labels is not None:
        tensors[LABEL_HEAD] = model.dense(HEAD).detach()
    elif not model.head_is_tied:
        tensors[LANGUAGE_HEAD] = model.dense(HEAD).detach()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, file, metadata={"format": "pt"})


def check_layers(folder: Path, num_layers: int) -> None:
    """Raise ModelError if config.json says that there are more layers than the files have tensors.

    So a made-up number is found before a model of it is built, which takes long.
    """
    keys = [key for path in weight_files(folder) for key in _keys(path)]
    if num_layers > len(keys):
        raise ModelError(
            f"{folder}: config.json says that there are {num_layers:,} layers, and the files have "
            f"{len(keys):,} tensors in all"
        )


def check_shapes(folder: Path, model: LanguageModel) -> None:
    """Raise ModelError if a tensor has another shape or type than a model on the meta device.

    Only headers are read, so that sizes that config.json makes up are found before anything is
    computed, or allocated, with them.
    """
    found = find_tensors(folder, model)
    for tensor in model.stored_tensors():
        if (place := found.get(tensor.theirs)) is not None:
            with safe_open(place.path, framework="pt") as file:
                _checked_part(file, model, tensor, place, folder)


def _keys(path: Path) -> list[str]:
    with opened(path) as file:
        return list(file.keys())


def _checked_part(
    file: Any, model: LanguageModel, stored: TensorName, place: Stored, folder: Path
) -> Any:
    """Return a tensor that is still in its file, whose type and shape are those of a model."""
    expected = [model.get_parameter(name) for name in stored.ours]
    shape = [sum(p.shape[0] for p in expected), *expected[0].shape[1:]]
    shape = shape[::-1] if stored.transposed else shape
    where, part = f"{folder}: tensor {place.key!r}", file.get_slice(place.key)
    if part.get_shape() != shape:
        raise ModelError(f"{where} has shape {part.get_shape()}; config.json requires {shape}")
    if part.get_dtype() not in FLOATS:
        raise ModelError(f"{where} holds {part.get_dtype()}; F32, F16 or BF16 is needed")
    return part


def _read(model: LanguageModel, stored: TensorName, place: Stored, folder: Path) -> None:
    """Set the parameters that a tensor holds, if its type and shape are right."""
    expected = [model.get_parameter(name) for name in stored.ours]
    with safe_open(place.path, framework="pt") as file:
        tensor = _checked_part(file, model, stored, place, folder)[:]
    tensor = tensor.T if stored.transposed else tensor
    own = tensor.split([p.shape[0] for p in expected])
    for name, weight in zip(stored.ours, own, strict=True):
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, nn.Parameter(weight))
