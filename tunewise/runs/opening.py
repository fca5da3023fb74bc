"""The opening lines of a run: what is trained, on what."""

from pathlib import Path

from tunewise.errors import first_of
from tunewise.models import LanguageModel
from tunewise.runs.origin import origin_of, read_origin
from tunewise.runs.prepare import Prepared

USES = {"train": "to train on", "validation": "to validate with", "test": "to test with"}


def opening_lines(
    prepared: Prepared, model: LanguageModel, data: Path | None, former: Path | None
) -> list[str]:
    """Return two lines: the rows, splits and labels of a run; its model, method and length.

    Args:
        model: the adapted model.
        data: the data folder.
        former: the folder of a run before this one; another line says if the rows are as then.
    """
    config, task = prepared.config, prepared.config.task
    sizes = [f"{len(rows):,} {USES[split]}" for split, rows in prepared.examples.items()]
    own = set(task.source(data).splits)
    if task.train_size is not None:
        own.discard("validation")
    made = [split for split in prepared.examples if split not in own]
    split_off = f" ({' and '.join(made)} split off here)" if made else ""
    labels = f"; labels: {first_of(task.label_names)}" if task.label_names else ""
    where = "" if (place := _place_of_rows(prepared, data)) is None else f" {place}"
    total, trainable = model.count_parameters()
    epochs = "1 epoch" if config.train.epochs == 1 else f"{config.train.epochs} epochs"
    lines = [
        f"task {task.name}, {task.kind}{where}: {', '.join(sizes)}{split_off}{labels}",
        f"model {config.model}, {total:,} parameters: {config.method.kind} trains {trainable:,} "
        f"({100 * trainable / total:.3g} %), {epochs} at learning rate "
        f"{config.train.learning_rate:g}",
    ]
    kept = None if former is None else read_origin(former)
    if kept is not None:
        changed = kept.changed_splits(origin_of(data, prepared.examples).rows)
        lines.append(
            f"rows differ from those of {former}: {', '.join(changed)}"
            if changed
            else f"rows as in {former}"
        )
    return lines


def _place_of_rows(prepared: Prepared, data: Path | None) -> Path | None:
    """Return the file or folder of the rows; None for the embedded task and the hub."""
    task = prepared.config.task
    if task.path is not None or data is None or not task.is_in_data_folder:
        return task.path
    return data / task.name if (data / task.name).is_dir() else None
