"""Models of the Hugging Face hub: small files are fetched first, weights once they are needed.

Both come from one commit: the folder that the small files lie in is named by it.
"""

import errno
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tunewise.data.say_once import say_once
from tunewise.errors import ModelError, nearest
from tunewise.models.catalog import KNOWN_MODELS, POCKET
from tunewise.models.other_kinds import describe_file
from tunewise.models.weights import has_weights

logger = logging.getLogger(__name__)

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""Configuration and tokenizer: a few MB, which say whether a run can work."""
WEIGHT_FILES = ("model*.safetensors", "model.safetensors.index.json")

CACHE_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)
"""Numbers of the system's errors that a folder has which cannot be written, or is full."""


def hub_id_of(name: str) -> str | None:
    """Return the hub id that a model's name stands for; None for a folder and the embedded model.

    Raises:
        ModelError: if it is none of these.
    """
    if name in KNOWN_MODELS:
        if os.path.isdir(name):
            text = f"model {name!r} is the known one, not the folder of that name: that is ./{name}"
            say_once(logger, logging.WARNING, text)
        return None if name == POCKET else KNOWN_MODELS[name].home
    if os.path.isdir(name):  # pathlib's fails on too long a name
        return None
    if os.path.isfile(name):
        raise ModelError(f"{name}: {describe_file(Path(name))}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        hint = nearest(name, KNOWN_MODELS)
        raise ModelError(f"no model {name!r}: not a folder, a hub id or a known name; {hint}")
    return name


def fetch_small_files(hub_id: str) -> Path:
    """Return a local folder with the configuration and the tokenizer of a model on the hub.

    Raises:
        ModelError: if they are not on this machine and cannot be fetched.
    """
    return _fetch(hub_id, SMALL_FILES, "configuration and tokenizer")


def fetch_weights(name: str, folder: Path) -> None:
    """Fetch the weights of a model into its folder, unless they are there.

    Args:
        name: its known name, hub id or folder.
        folder: where its small files are; a model that is not of the hub has its weights there.

    Raises:
        ModelError: if they are not on this machine and cannot be fetched.
    """
    hub_id = hub_id_of(name)
    if hub_id is None or has_weights(folder):
        return
    _fetch(hub_id, WEIGHT_FILES, "weights", commit=folder.name)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model {hub_id!r}: no weights in the safetensors format on the hub; others can run "
            "any code when they are opened: convert them (in transformers: save_pretrained)"
        )


def _fetch(hub_id: str, files: Sequence[str], what: str, commit: str | None = None) -> Path:
    """Return the local folder of a model, with some of its files in it."""
    # huggingface_hub takes a second to import, which the embedded model need not pay.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=commit, allow_patterns=list(files)))
    except Exception as error:  # its own errors, the network's, the disk's
        raise ModelError(f"model {hub_id!r}: {_explain(error, hub_id, what)}") from error


def _explain(error: Exception, hub_id: str, what: str) -> str:
    """Return why files could not be fetched, and what to do."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # it was looked for here because the hub gave this error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    page = f"{constants.ENDPOINT}/{hub_id}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"it is given to those who accept its licence: do so at {page}, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no such model at {page}; if it is a private one, `hf auth login`"
    if status in (401, 403):
        return f"the hub refuses the token of this machine ({reason}): `hf auth login`"
    if isinstance(error, OSError) and error.errno in CACHE_ERRORS:
        return f"the hub's cache ({constants.HF_HUB_CACHE}) cannot be used: {reason}; set HF_HOME"
    return (
        f"its {what} are not on this machine and could not be fetched from the hub ({reason}); "
        "try again with a network, or give --model a folder in Hugging Face layout"
    )
