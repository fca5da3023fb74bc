"""The commands in which a model writes to the person at the terminal: `generate` and `chat`."""

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.options import (
    MaxNewTokens,
    RunOrModel,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    only_given,
)
from tunewise.errors import ConfigError
from tunewise.terminal import for_stdout

if TYPE_CHECKING:  # a command imports only what it uses
    from tunewise.predict import Predictor

RESET, QUIT = ("/reset", "/new"), ("/quit", "/exit", "/bye")


def generate(
    name: RunOrModel,
    prompt: Annotated[
        str | None, typer.Option(help="text to continue; default: each line that you type")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="leave out the words of an instruction run's task")
    ] = False,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    stop: Stop = None,
    seed: Seed = None,
) -> None:
    """Continue a prompt, token by token; a run of instructions answers it."""
    from rich.console import Console

    from tunewise.predict import load
    from tunewise.runs.progress import counting
    from tunewise.tasks import Instruction

    decoding = _given(max_new_tokens, temperature, top_p, top_k, stop, seed)
    predictor = load(name)
    has_words = isinstance(predictor.config.task, Instruction) and not raw
    prompts = _read_prompts() if prompt is None else [prompt]
    total = len(prompts) if isinstance(prompts, list) else None
    # Where the texts themselves come on a terminal, they show how far it is.
    console = Console(stderr=True, quiet=prompt is not None or sys.stdout.isatty())
    with counting(console) as show:
        for number, text in enumerate(prompts, start=1):
            pieces = (
                predictor.reply([{"role": "user", "content": text}], **decoding)
                if has_words
                else predictor.stream(text, **decoding)
            )
            if not "".join(_shown(pieces)).strip():
                hint = "" if has_words else "; a model of instructions expects its own words"
                print(f"the model ended its text at once{hint}", file=sys.stderr)
            show("prompts", number, total)


def chat(
    name: RunOrModel,
    system: Annotated[
        str | None, typer.Option(help="system message, which comes before the conversation")
    ] = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    stop: Stop = None,
    seed: Seed = None,
) -> None:
    """Talk to a run: each line that you type is answered, with what was said before.

    /reset begins a new conversation, /quit or Ctrl-D ends. Ctrl-C ends an answer early.
    """
    from tunewise.predict import load

    decoding = _given(max_new_tokens, temperature, top_p, top_k, stop, seed)
    predictor = load(name)
    predictor.decoding({n: value for n, value in decoding.items() if n != "seed"})  # may refuse
    keeps_history = _say_form(predictor)
    if system is not None and not keeps_history:
        raise ConfigError("--system: the task reads one column of a row, which has no place for it")
    start = [] if system is None else [{"role": "system", "content": system}]
    messages = list(start)
    for line in iter(_typed_line, None):
        if line.strip() in QUIT:
            return
        if line.strip() in RESET:
            messages = list(start)
            print("a new conversation begins", file=sys.stderr)
            continue
        if not line.strip():
            continue
        messages = [*(messages if keeps_history else start), {"role": "user", "content": line}]
        answer = ""
        try:
            for piece in _shown(predictor.reply(messages, **decoding)):
                answer += piece
        except KeyboardInterrupt:  # what was said so far belongs to the conversation
            print("(ended early)", file=sys.stderr)
        if not answer.strip():
            print("(an empty answer)", file=sys.stderr)
        messages.append({"role": "assistant", "content": answer.strip()})


def _say_form(predictor: "Predictor") -> bool:
    """Say how messages are read, and return whether what was said before is read with them."""
    from tunewise.tasks import Instruction

    task = predictor.config.task
    if isinstance(task, Instruction):
        return True
    if task.answer_kind.writes_text and len(task.prompt_columns) == 1:
        (column,) = task.prompt_columns
        how = f"each message is the {column!r} of a row; what was said before is not read with it"
        keeps_history = False
    else:
        how = "it was trained on no conversations: messages are joined by empty lines"
        keeps_history = True
    print(f"task {task.name}, {task.kind}: {how}", file=sys.stderr)
    return keeps_history


def _given(
    max_new_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    stop: list[str] | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return the settings of decoding that were given, and the seed."""
    return only_given(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=[_unescape(text) for text in stop] if stop else None,
        seed=seed,
    )


def _shown(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the pieces of a text, each printed as it comes, and end the line."""
    try:
        for piece in pieces:
            print(for_stdout(piece), end="", flush=True)
            yield piece
    finally:
        print(flush=True)


def _unescape(text: str) -> str:
    r"""Return a text with `\n`, `\t` and `\\` as a line end, a tab and a backslash."""
    meant = {"n": "\n", "t": "\t", "\\": "\\"}
    return re.sub(r"\\([nt\\])", lambda found: meant[found[1]], text)


def _read_prompts() -> Iterable[str]:
    """Return the lines of standard input: of a file all at once, else as they come."""
    try:
        is_file = stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
    except OSError:  # a stand-in for standard input
        is_file = False
    return sys.stdin.read().splitlines() if is_file else iter(_typed_line, None)


def _typed_line() -> str | None:
    """Return a line from the terminal, or None at its end."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None
