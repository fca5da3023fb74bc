"""A finished run as a folder for PEFT, or as a whole model for transformers."""

from pathlib import Path

import torch

from tunewise.errors import ConfigError, nearest
from tunewise.files import naming_the_file
from tunewise.interop.card import write_card
from tunewise.interop.write_peft import ADAPTERS, write_adapter
from tunewise.methods.method import merge
from tunewise.models.folder import save_model
from tunewise.runs.folder import RESULT_FILE, new_folder, read_result
from tunewise.runs.model import read_trained

FORMATS = ("peft", "hf")
NOT_MERGED = {
    "soft_prompt": "virtual tokens are no weights of a model",
    "prefix": "trained keys and values are no weights of a model",
    "adapter": "a bottleneck between two layers is neither of them",
}
"""The methods that cannot be written as a whole model, and why."""


def export(run: Path, form: str, out: Path) -> None:
    """Write a run's model to a new folder, in fp32, with a model card.

    Args:
        form: `peft`, an adapter, if PEFT has the method; or `hf`, a whole model with what was
            trained merged into it, and its tokenizer.

    Raises:
        ConfigError: if the run has not finished, the format cannot hold it, or `out` holds
            something.
        ModelError: if the run's weights cannot be read.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: {nearest(form, FORMATS)}")
    result = read_result(run)
    if result is None:
        raise ConfigError(f"{run}: no {RESULT_FILE}; only a finished run can be exported")
    kind = result.config.method.kind
    if form == "peft" and kind not in ADAPTERS:
        instead = "" if kind in NOT_MERGED else "; use --format hf"
        raise ConfigError(f"--format peft: for {', '.join(ADAPTERS)}, not {kind}{instead}")
    if form == "hf" and kind in NOT_MERGED:
        instead = "; use --format peft" if kind in ADAPTERS else ""
        raise ConfigError(f"--format hf: not for {kind}: {NOT_MERGED[kind]}{instead}")
    config, model, tokenizer = read_trained(run)
    model.set_precision(torch.float32)
    new_folder(out)
    with naming_the_file(out):
        if form == "peft":
            write_adapter(model, config, out)
        else:
            merge(model)
            save_model(model, out, tokenizer.end_of_text, config.task.label_names or ())
            tokenizer.save(out)
        write_card(result, form, out)
