"""Prediction: a finished run, or a base model, answers rows and continues prompts."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tunewise.config import RunConfig, make_config
from tunewise.data.cache import Ids
from tunewise.data.encode import begin_text, join_ids
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.rows import Row, stream_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device, choose_dtype
from tunewise.errors import ConfigError
from tunewise.evaluation.answers import Answer, Inference, NewAnswers
from tunewise.files import writing_whole
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import stream
from tunewise.models import LanguageModel
from tunewise.models.folder import find_folder
from tunewise.models.label_layer import stored_labels
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import adapted_model, load_trained
from tunewise.runs.prepare import layout_of
from tunewise.settings import validate
from tunewise.tasks import TextTask

logger = logging.getLogger(__name__)

MAX_ROWS, MAX_CHARACTERS = 256, 500_000
"""Most rows, and most characters of prompts, that are read before they are answered."""

__all__ = ["Answer", "Predictor", "load", "predict_file"]


@dataclass(frozen=True)
class Predictor:
    """A model that answers as its run did."""

    config: RunConfig
    model: LanguageModel
    tokenizer: Tokenizer
    layout: Layout

    def predict(self, rows: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """Return the answer to each row.

        An answer is a dict with `id`, and `label` and `probabilities`, or `text`.

        Args:
            rows: mappings with the columns that the task reads.

        Raises:
            DataError: if a column is missing, or does not hold text.
            ConfigError: if the task answers nothing.
        """
        numbered = enumerate(rows, start=1)
        return list(self.answers(Row(dict(row), f"rows:{number}") for number, row in numbered))

    def answers(self, rows: Iterable[Row]) -> Iterator[Answer]:
        """Yield the answer to each row, in their order; few rows are in memory at once."""
        num_cut = count = 0
        for examples in _chunks(map(self.config.task.prompt_of, rows)):
            new = self._answer(examples, self.config.seed + count)
            num_cut += new.num_cut
            count += len(examples)
            yield from new.answers
        if num_cut:
            logger.warning("%d of %d prompts are too long and were cut", num_cut, count)

    def generate(self, prompt: str, **decoding: Any) -> str:
        """Return what the model writes after a prompt; see `stream`."""
        return "".join(self.stream(prompt, **decoding))

    def stream(self, prompt: str, **decoding: Any) -> Iterator[str]:
        """Yield what the model writes after a prompt, piece by piece.

        Args:
            decoding: fields of `DecodingConfig`; the others are those of the task.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
            ModelError: if the prompt leaves no room for new tokens.
        """
        ids, settings = self.prompt_ids(prompt), self.decoding(decoding)
        return stream(self.model, ids, self.tokenizer, settings, self.config.seed)

    def prompt_ids(self, prompt: str | Example | Sequence[int]) -> Ids:
        """Return the ids of a whole prompt, behind the virtual ids.

        Args:
            prompt: a text, an example's prompt and cue, or ids already.
        """
        if isinstance(prompt, str):
            prompt = Example("prompt", prompt, "")
        if isinstance(prompt, Example):
            texts = self.tokenizer.tokenize([prompt.marked_prompt, prompt.marked_cue])
            ids = begin_text(self.tokenizer, join_ids(*texts))
        else:
            ids = join_ids(prompt)
        # An empty prompt still needs a token to continue from.
        return join_ids(self.layout.virtual_ids, ids if len(ids) else self.tokenizer.opening)

    def decoding(self, fields: Mapping[str, Any]) -> DecodingConfig:
        """Return the decoding settings of the task, with some fields replaced.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
        """
        if self.model.num_labels is not None:
            raise ConfigError("the model has a label layer and writes nothing; use predict")
        task = self.config.task
        known = task.decoding.model_dump() if isinstance(task, TextTask) else {}
        return validate(DecodingConfig, {**known, **fields}, "generate")

    def _answer(self, examples: list[Example], seed: int) -> NewAnswers:
        """Return the answers to some examples, and how many had to be cut."""
        passes = self.config.train.tokens_per_pass
        inference = Inference(self.model, self.tokenizer, self.layout, passes, seed)
        return self.config.task.answer_kind.answer_examples(inference, examples)


def load(name: str | Path) -> Predictor:
    """Return a finished run by its folder, or a model by its name or folder, ready to answer.

    Raises:
        ConfigError: if a run's configuration cannot be read.
        ModelError: if there is no such model, or it cannot be read.
    """
    device = choose_device()
    if (Path(name) / CONFIG_FILE).is_file():
        config, model, tokenizer = load_trained(Path(name))
    else:
        source = find_folder(str(name))
        labels = stored_labels(source)
        tokenizer = Tokenizer.load(source)
        task = _task_of(labels, tokenizer)
        config = make_config(fields={"model": str(name), "task": task, "method": "full"})
        model = adapted_model(config, source, tokenizer).requires_grad_(False).eval()
        model.set_precision(choose_dtype(config.train.precision, device))
    layout = layout_of(config, model.config)
    return Predictor(config, model.to(device), tokenizer, layout)


def _task_of(labels: Sequence[str] | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the task of a model: a classifier answers with its own labels."""
    if labels is None:
        return {"kind": "language_modeling"}
    names = {label: label for label in labels}
    return {"kind": "classification", "labels": names, "max_length": tokenizer.max_length}


def predict_file(run: Path, source: Path, output: Path | None) -> int:
    """Answer every row of a file, in order, one JSON line each; return how many there are.

    Args:
        output: a new file, which appears when every row is answered; None prints.

    Raises:
        ConfigError: if `output` exists already, or the run answers nothing.
        DataError: if a row cannot be used; the message names it.
    """
    if output is not None and output.exists():
        raise ConfigError(f"--output {output}: exists already; nothing is overwritten")
    answers = load(run).answers(stream_rows(source))
    if output is None:
        return _write_lines(sys.stdout, answers)
    try:
        with writing_whole(output) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            return _write_lines(file, answers)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error


def _write_lines(file: TextIO, answers: Iterable[Answer]) -> int:
    """Write a JSON line for each answer, as it comes; return how many there were."""
    count = 0
    for answer in answers:
        file.write(json.dumps(answer, ensure_ascii=False) + "\n")
        count += 1
    return count


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Yield the examples, as many at once as may be in memory."""
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += len(example.prompt)
        if len(chunk) == MAX_ROWS or characters >= MAX_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
