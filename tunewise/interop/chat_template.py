"""The chat template of an exported instruction run, which transformers renders as the run does."""

import string

from tunewise.json_text import to_json
from tunewise.tasks import Instruction
from tunewise.tasks.template import columns_of, fill

COLUMN = "\0"
"""A placeholder for the column of a template while the template is split."""


def chat_template(task: Instruction) -> str | None:
    """Return the words of a task as a Jinja template; None if it has no such form.

    Texts are written by expressions, `{{ "..." }}`, so that no line end of theirs is trimmed.
    """
    content = "message['content']"
    if task.lowercase:
        content += " | lower"
    if not task.punctuation:
        content += "".join(f" | replace({to_json(mark)}, '')" for mark in string.punctuation)
    turns = ""
    for number, (role, template) in enumerate(task.turns.items()):
        before, _, after = template.partition("{content}")
        word = "if" if number == 0 else "elif"
        turns += f"{{% {word} message['role'] == '{role}' %}}"
        turns += f"{_literal(before)}{{{{ {content} }}}}{_literal(after)}"
    opening, _, _ = task.turns["assistant"].partition("{content}")
    whole = (
        f"{{% for message in messages %}}{turns}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{_literal(opening)}{{% endif %}}"
    )
    if task.single_message != "instructions":
        return whole
    if columns_of(task.without_input) != ["instruction"]:
        return None
    before, _, after = fill(task.without_input, lambda _: COLUMN).whole.value.partition(COLUMN)
    message = content.replace("message", "messages[0]")
    return (
        "{% if messages | length == 1 and messages[0]['role'] == 'user' %}"
        f"{_literal(before)}{{{{ {message} }}}}{_literal(after)}"
        f"{{% else %}}{whole}{{% endif %}}"
    )


def _literal(text: str) -> str:
    """Return a text as an expression of Jinja, whose strings are read like JSON's."""
    return f"{{{{ {to_json(text, ascii_only=False)} }}}}" if text else ""
