"""The model card of an exported folder: its task and data, its metrics, and code that loads it."""

from pathlib import Path
from typing import Any

from tunewise.config import RunConfig
from tunewise.interop.usage import usage_code
from tunewise.models.catalog import POCKET
from tunewise.peft.names import public_name
from tunewise.runs.result import Result
from tunewise.yaml import dump_yaml


def write_card(result: Result, form: str, folder: Path) -> None:
    """Write README.md with the front matter that the Hugging Face hub reads."""
    config = result.config
    base = public_name(config.model)
    told = base or f"{Path(config.model).name}, a model {_place(config.model)}"
    longest = result.config.train.max_length or result.config.task.max_length
    cut = f" Texts of over {longest} tokens were cut." if longest else ""
    text = f"""\
---
{dump_yaml(_front_matter(config, base, form))}---

# {result.name}

{told}, fine-tuned on the task `{config.task.name}` by `{config.method.kind}` with
tunewise {result.environment.tunewise}.

{_metrics(result)}
{result.parameters.trainable:,} of {result.parameters.total:,} parameters were trained
({result.parameters.percent:.3g} %). The best state is that of epoch {result.best.epoch}, by
{result.best.metric} on the validation split ({result.best.value:.4g}).

## Settings

```yaml
{dump_yaml(_without_places(config.model_dump(mode="json")))}```

## Use

The weights are in fp32; the metrics were measured in {config.train.precision}. In another precision
the answers differ a little.{cut}

```python
{usage_code(config, form)}```
"""
    (folder / "README.md").write_text(text, "utf-8")


def _front_matter(config: RunConfig, base: str | None, form: str) -> dict[str, Any]:
    task = "text-generation" if config.task.label_names is None else "text-classification"
    return {
        **({} if base is None else {"base_model": base}),
        "library_name": "peft" if form == "peft" else "transformers",
        "pipeline_tag": task,
        "tags": ["tunewise", config.method.kind, config.task.name],
        **({} if config.task.hub is None else {"datasets": [config.task.hub.path]}),
    }


def _metrics(result: Result) -> str:
    """Return a table of the metrics, those of the test split with their intervals."""
    lines = ["| split | metric | value | 95 % interval |", "|---|---|---:|---|"]
    for split, values in result.metrics.items():
        for name, value in values.items():
            low_high = result.intervals.get(split, {}).get(name)
            shown = "" if low_high is None else f"{low_high[0]:.4g} to {low_high[1]:.4g}"
            lines.append(f"| {split} | {name} | {value:.4g} | {shown} |")
    return "\n".join(lines) + "\n"


def _place(model: str) -> str:
    """Return where a base model without a public name is."""
    return "inside tunewise" if model == POCKET else "of the one who trained it"


def _without_places(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which the path of a file or folder is its name alone."""
    found = {name: dict(v) if isinstance(v, dict) else v for name, v in values.items()}
    for part, name in (
        (found, "model"),
        (found, "from"),
        (found["task"], "path"),
        (found["method"], "from"),
    ):
        if isinstance(path := part.get(name), str) and Path(path).is_absolute():
            part[name] = Path(path).name
    return found
