"""Python that answers with an exported folder, for its model card: to be run as it is."""

from pathlib import Path

from tunewise.config import RunConfig
from tunewise.models.catalog import POCKET
from tunewise.peft.names import public_name
from tunewise.tasks import Cloze, Instruction, Task
from tunewise.tasks.template import columns_of, expression_of

ASKED = "..."
"""The placeholder in the code for the user's own text."""


def usage_code(config: RunConfig, form: str) -> str:
    """Return the code that loads a folder and prints an answer, as the run answers.

    Args:
        config: the configuration of the run.
        form: `peft` or `hf`.
    """
    kind = "SequenceClassification" if config.task.answer_kind.uses_label_layer else "CausalLM"
    lines = [
        "import torch",
        *(["from peft import PeftModel"] if form == "peft" else []),
        f"from transformers import AutoModelFor{kind}, AutoTokenizer",
        "",
        'folder = "."  # where this file is',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        *(_load_adapter(config, kind) if form == "peft" else _load_whole(kind)),
        *_prompt(config.task),
        *_answer(config.task),
    ]
    return "\n".join(lines) + "\n"


def _load_whole(kind: str) -> list[str]:
    return [f"model = AutoModelFor{kind}.from_pretrained(folder, dtype=torch.float32).eval()"]


def _load_adapter(config: RunConfig, kind: str) -> list[str]:
    """Return the lines that load the base model, with labels if it has some, and the adapter."""
    if config.model == POCKET:
        base = [
            "from tunewise.models.folder import find_folder  # the base model is in the package",
            f"base = find_folder({POCKET!r})",
        ]
    elif (name := public_name(config.model)) is not None:
        base = [f"base = {name!r}"]
    else:
        base = [f"base = {Path(config.model).name!r}  # put the folder of the base model here"]
    labels = dict(enumerate(config.task.label_names or ()))
    if kind == "CausalLM":
        load = ["model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)"]
    else:
        load = [
            f"labels = {labels!r}",
            "model = AutoModelForSequenceClassification.from_pretrained(",
            "    base, id2label=labels, num_labels=len(labels), dtype=torch.float32",
            ")",
            "model.config.pad_token_id = tokenizer.pad_token_id",
        ]
    return [*base, *load, "model = PeftModel.from_pretrained(model, folder).eval()"]


def _prompt(task: Task) -> list[str]:
    """Return the lines that make the prompt of a row, or of a conversation."""
    if isinstance(task, Instruction) and task.single_message != "instructions":
        if task.single_message == "prompt and completion":
            return [f"prompt = {ASKED!r}"]
        return [
            f'messages = [{{"role": "user", "content": {ASKED!r}}}]',
            "prompt = tokenizer.apply_chat_template(",
            "    messages, tokenize=False, add_generation_prompt=True",
            ")",
        ]
    columns = list(dict.fromkeys(task.prompt_columns))
    if isinstance(task, Instruction):
        columns = list(dict.fromkeys(columns_of(task.without_input)))
    row = f"row = {dict.fromkeys(columns, ASKED)!r}"
    if not columns:
        return [f"prompt = {ASKED!r}"]
    changes = ""
    if task.lowercase:
        changes += ".lower()"
    if not task.punctuation:
        changes += '.translate(str.maketrans("", "", string.punctuation))'
    lines = ["import string"] if not task.punctuation else []
    lines += [row]
    if changes:
        lines += [f"row = {{name: text{changes} for name, text in row.items()}}"]
    return [*lines, f"prompt = {_prompt_expression(task)}"]


def _prompt_expression(task: Task) -> str:
    """Return the Python expression of a row's prompt."""
    template = (
        task.without_input if isinstance(task, Instruction) else getattr(task, "template", "")
    )
    if template:
        return expression_of(template)
    return " + ".join(f"row[{column!r}]" for column in task.prompt_columns)


def _answer(task: Task) -> list[str]:
    """Return the lines that print the answer to a prompt."""
    if task.answer_kind.uses_label_layer:
        return [
            'inputs = tokenizer(prompt, truncation=True, return_tensors="pt")',
            "with torch.no_grad():",
            "    probabilities = model(**inputs).logits[0].softmax(-1).tolist()",
            "print({model.config.id2label[n]: p for n, p in enumerate(probabilities)})",
        ]
    if isinstance(task, Cloze):
        texts = list(task.verbalizers.values())
        return [
            f"answers = {texts!r}",
            "scores = []",
            "for answer in answers:  # how likely is each after the prompt?",
            '    ids = tokenizer(prompt)["input_ids"]',
            '    new = tokenizer(answer)["input_ids"]',
            "    with torch.no_grad():",
            "        logits = model(input_ids=torch.tensor([ids + new])).logits[0]",
            "    log_p = logits[-len(new) - 1 : -1].log_softmax(-1)",
            "    scores.append(sum(log_p[place, token] for place, token in enumerate(new)))",
            "probabilities = torch.stack(scores).softmax(-1).tolist()",
            "print({answer.strip(): p for answer, p in zip(answers, probabilities)})",
        ]
    return [
        'inputs = tokenizer(prompt, return_tensors="pt")',
        "with torch.no_grad():",
        f"    output = model.generate(**inputs, {_generation(task)})",
        'new = output[0, inputs["input_ids"].shape[1] :]',
        "print(tokenizer.decode(new, skip_special_tokens=True).strip())",
    ]


def _generation(task: Task) -> str:
    """Return the arguments with which transformers writes as the task's decoding does."""
    decoding = getattr(task, "decoding", None)
    options: dict[str, object] = {"max_new_tokens": 128, "do_sample": False}
    if decoding is not None:
        options |= {
            "max_new_tokens": decoding.max_new_tokens,
            "do_sample": decoding.temperature > 0,
        }
        if decoding.temperature > 0:
            options |= {"temperature": decoding.temperature, "top_k": decoding.top_k or 0}
            options |= {} if decoding.top_p is None else {"top_p": decoding.top_p}
        if decoding.repetition_penalty != 1:
            options["repetition_penalty"] = decoding.repetition_penalty
        if decoding.num_beams > 1:
            options |= {"num_beams": decoding.num_beams, "length_penalty": decoding.length_penalty}
        if decoding.stop:
            options["stop_strings"] = list(decoding.stop)
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"{given}, tokenizer=tokenizer" if "stop_strings" in options else given
