"""Export of a finished run as a folder for PEFT, or as a whole model for transformers."""

from pathlib import Path

import torch

from tunewise.errors import ConfigError, nearest
from tunewise.files import naming_the_file, share_files
from tunewise.interop.card import write_card
from tunewise.interop.chat_template import chat_template
from tunewise.methods.method import merge
from tunewise.peft.names import public_name
from tunewise.peft.write import write_adapter
from tunewise.runs.folder import new_folder, read_result, unfinished
from tunewise.runs.model import longest_text, read_trained, save_whole
from tunewise.tasks import Instruction

FORMATS = ("peft", "hf")


def export(run: Path, form: str, out: Path) -> None:
    """Write a run's model to a new folder, in fp32, with a model card.

    Args:
        form: `peft`, an adapter, if PEFT has the method; or `hf`, a whole model into which the
            trained weights are merged, and its tokenizer.

    Raises:
        ConfigError: if the run has not finished, the format cannot hold it, or `out` holds
            something.
        ModelError: if the run's weights cannot be read.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: {nearest(form, FORMATS)}")
    result = read_result(run)
    if result is None:
        raise unfinished(run)
    config, model, tokenizer = read_trained(run)
    model.set_precision(torch.float32)
    method = config.method
    adapter = method.to_peft(model)
    if form == "peft" and adapter is None:
        instead = "" if method.why_not_merged else "; use --format hf"
        raise ConfigError(f"--format peft: not for {method.kind}: PEFT does not have it{instead}")
    if form == "hf" and method.why_not_merged:
        instead = "" if adapter is None else "; use --format peft"
        raise ConfigError(f"--format hf: not for {method.kind}: {method.why_not_merged}{instead}")
    if form == "hf":
        merge(model)
    new_folder(out)
    with naming_the_file(out):
        if form == "peft" and adapter is not None:
            base = public_name(config.model) or Path(config.model).name
            write_adapter(adapter, model, base, out)
            tokenizer.save(out, longest_text(model, config, tokenizer))
        else:
            save_whole(model, config, out, tokenizer)
        if isinstance(config.task, Instruction) and (template := chat_template(config.task)):
            (out / "chat_template.jinja").write_text(template, "utf-8")
        write_card(result, form, out)
        share_files(out)
