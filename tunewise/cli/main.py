"""The program `tunewise`: its commands, its errors, its exit codes and its logging.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

import logging
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import tunewise
from tunewise.cli import cache, info, train, use, write
from tunewise.errors import TunewiseError
from tunewise.runs.interrupts import end_on_sigterm, exit_code
from tunewise.terminal import visible

INTERRUPTED = 130
"""The exit code that typer returns after Ctrl-C."""

OUT_OF_MEMORY = (
    "out of memory; `tunewise estimate` says what a run needs: a smaller model, lower "
    "train.max_length or train.tokens_per_pass, train.checkpointing=true, or a method that trains "
    "less"
)

app = typer.Typer(
    name="tunewise",
    help="Which way to fine-tune a small language model, answered with evidence.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tunewise {tunewise.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="print the version and exit"
        ),
    ] = False,
) -> None:
    """Which way to fine-tune a small language model, answered with evidence."""
    # --debug may stand anywhere and is taken out by `main`; it is here for --help to show.


app.command()(train.run)
app.command()(train.study)
app.command()(train.report)
app.command()(info.params)
app.command()(info.estimate)
app.command("list")(info.list_known)
app.command()(cache.cache)
app.command()(use.judge)
app.command()(use.export)
app.command()(use.predict)
app.command()(write.generate)
app.command()(write.chat)
app.command()(use.serve)


def main() -> None:
    """Run a command and exit: 0 done, 1 a bug, 2 the user's mistake.

    After Ctrl-C it is 130, after SIGTERM 143, wherever the command was.

    Memory that is used up is no bug: it ends with 2 and advice.
    """
    logging.basicConfig(format="%(message)s", handlers=[_Stderr()])
    logging.getLogger("tunewise").setLevel(logging.INFO)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    end_on_sigterm()
    try:
        # click's own errors fill a screen; ours are one line.
        code = app(arguments or ["--help"], standalone_mode=False)
    except TunewiseError as error:
        _fail(str(error), debug)
    except typer.TyperException as error:
        from tunewise.cli.mistakes import explain_option

        _fail(explain_option(error), debug)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (RuntimeError, MemoryError, OSError) as error:
        from tunewise.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        _fail(f"{OUT_OF_MEMORY} ({str(error) or type(error).__name__})", debug)
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
        code = exit_code()
    sys.exit(code)


class _Stderr(logging.Handler):
    """Prints messages where standard error is at the moment: above a bar, if there is one.

    They quote rows and names, so that control characters in them are written out.
    """

    def emit(self, record: logging.LogRecord) -> None:
        print(visible(self.format(record)), file=sys.stderr)


def _fail(message: str, debug: bool) -> NoReturn:
    """Print a user's mistake in one line and exit with code 2."""
    if debug:
        traceback.print_exc()
    print("error: " + visible(" ".join(message.split())), file=sys.stderr)
    sys.exit(2)
