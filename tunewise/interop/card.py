"""The model card of an exported folder: its task and data, its metrics, and code that loads it."""

from pathlib import Path
from typing import Any

from tunewise.config import RunConfig
from tunewise.peft.names import base_model_name
from tunewise.runs.result import Result
from tunewise.yaml import dump_yaml

LOAD = {
    ("peft", False): """\
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(base, "this folder")
""",
    ("peft", True): """\
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

names = {names!r}
base = AutoModelForSequenceClassification.from_pretrained({base!r}, id2label=names)
base.config.pad_token_id = base.config.eos_token_id
model = PeftModel.from_pretrained(base, "this folder")
""",
    ("hf", False): """\
from transformers import pipeline

generate = pipeline("text-generation", "this folder")
""",
    ("hf", True): """\
from transformers import pipeline

classify = pipeline("text-classification", "this folder", truncation=True)
""",
}
"""Code that loads a folder, by its format and by whether its model has a label layer."""


def write_card(result: Result, form: str, folder: Path) -> None:
    """Write README.md with the front matter that the Hugging Face hub reads."""
    config = result.config
    names = dict(enumerate(config.task.label_names or ()))
    base = base_model_name(config.model)
    load = LOAD[form, bool(names)].format(base=base, names=names)
    text = f"""\
---
{dump_yaml(_front_matter(config, base, form))}---

# {result.name}

{config.model} fine-tuned on the task `{config.task.name}` by `{config.method.kind}` with
tunewise {result.environment.tunewise}.

{_metrics(result)}
{result.parameters.trainable:,} of {result.parameters.total:,} parameters were trained
({result.parameters.percent:.3g} %). The best state is that of epoch {result.best.epoch}, by
{result.best.metric} on the validation split ({result.best.value:.4g}).

## Settings

```yaml
{dump_yaml(config.model_dump(mode="json"))}```

## Loading

```python
{load}```
"""
    (folder / "README.md").write_text(text, "utf-8")


def _front_matter(config: RunConfig, base: str, form: str) -> dict[str, Any]:
    task = "text-generation" if config.task.label_names is None else "text-classification"
    return {
        "base_model": base,
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
