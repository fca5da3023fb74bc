"""The fields that an unknown name may mean: under another program's name, or in another part."""

from collections.abc import Collection, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

OTHER_NAMES = {
    "learning_rate": "lr base_lr max_lr",
    "min_learning_rate": "min_lr",
    "batch_size": "bs batch batchsize per_device_train_batch_size train_batch_size mini_batch_size",
    "epochs": "epoch num_epochs n_epochs num_train_epochs max_epochs",
    "max_length": "max_len max_seq_len max_seq_length model_max_length sequence_len block_size "
    "cutoff_len context_length",
    "weight_decay": "wd",
    "clip_norm": "max_grad_norm grad_clip gradient_clipping clip",
    "warmup": "warmup_ratio warmup_steps",
    "schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "checkpointing": "gradient_checkpointing grad_checkpointing",
    "checkpoint_every": "save_steps save_every",
    "evaluate_every": "eval_steps eval_every eval_interval",
    "early_stopping": "patience early_stopping_patience",
    "optimizer": "optim",
    "objective": "loss criterion",
    "metric": "metric_for_best_model",
    "precision": "dtype torch_dtype fp16 bf16 amp mixed_precision",
    "compile": "torch_compile",
    "trackers": "report_to",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "epsilon": "eps adam_epsilon",
    "rank": "r lora_r lora_rank",
    "alpha": "lora_alpha",
    "targets": "target_modules target",
    "tokens": "num_virtual_tokens",
    "seed": "random_seed random_state",
    "model": "base_model model_name model_name_or_path model_id pretrained",
    "path": "file data_path dataset_path data dataset data_files train_file",
    "label": "label_column target_column",
    "text": "text_column text_field dataset_text_field input_column",
    "labels": "classes class_names label_names",
    "max_new_tokens": "max_tokens",
    "stop": "stop_strings",
    "samples": "max_samples max_train_samples limit",
}
"""Names that other programs give to a field, by its name here."""

_OURS = {other: name for name, others in OTHER_NAMES.items() for other in others.split()}


def our_name(name: str, known: Collection[str]) -> str:
    """Return the known name of what other programs call by this name; else the name itself."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    ours = plain if plain in known else _OURS.get(plain, "")
    return ours if ours in known else name


def places_of(kind: type[BaseModel], name: str) -> list[str]:
    """Return the dotted paths at which settings have a field of this name, or of this meaning."""
    paths = list(dict.fromkeys(_paths(kind)))
    ours = our_name(name, {path.rpartition(".")[2] for path in paths})
    return [path for path in paths if path.rpartition(".")[2] == ours]


def _paths(kind: type[BaseModel]) -> Iterator[str]:
    """Yield the dotted path of every field of settings, and of the settings in them."""
    for name, field in kind.model_fields.items():
        yield field.alias or name
        for inner in _settings_in(field.annotation):
            yield from (f"{field.alias or name}.{path}" for path in _paths(inner))


def _settings_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the kinds of settings that a field may be; those inside a list have no dotted path."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) not in (list, tuple, dict):
        for argument in get_args(annotation):
            yield from _settings_in(argument)
