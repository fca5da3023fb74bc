"""The folder of an adapter, and what to write where another folder is given instead."""

from pathlib import Path

from tunewise.errors import ModelError
from tunewise.models.other_kinds import RUN_CONFIG
from tunewise.peft.names import ADAPTER_CONFIG_FILE, WEIGHTS_FILE


def require_adapter(folder: Path) -> Path:
    """Return the path of the configuration in an adapter's folder.

    Raises:
        ModelError: if it is no adapter's; the error says what it seems to be, and what to write.
    """
    path = folder / ADAPTER_CONFIG_FILE
    if not path.is_file():
        raise ModelError(f"{folder}: no {ADAPTER_CONFIG_FILE}; {_what_to_write(folder)}")
    return path


def _what_to_write(folder: Path) -> str:
    if folder.is_file():
        return f"`from` is the folder of an adapter, not a file in it; write {folder.parent}"
    if not folder.exists():
        return (
            "there is no such folder; an adapter on the hub is fetched first "
            "(hf download NAME --local-dir FOLDER)"
        )
    if inside := sorted(path.parent for path in folder.glob(f"*/{ADAPTER_CONFIG_FILE}")):
        names = ", ".join(path.name for path in inside)
        return f"there are adapters in folders of it ({names}); write one of them"
    for run in (folder, folder.parent):
        if (run / RUN_CONFIG).is_file():
            return (
                f"{run} is a run; `tunewise export {run} --format peft --out FOLDER` writes an "
                "adapter, if PEFT has the method"
            )
    if (folder / "config.json").is_file():
        return "it is a whole model: write it as `model`, without `from`"
    if (folder / WEIGHTS_FILE).is_file():
        return f"it lies beside {WEIGHTS_FILE}, and says what that is"
    return "`from` is a folder that PEFT's save_pretrained wrote"
