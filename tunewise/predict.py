"""Prediction: a finished run, or a base model, answers rows and continues prompts."""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewise.config import RunConfig, make_config
from tunewise.data.cache import Ids
from tunewise.data.encode import encode_prompts, join_ids
from tunewise.data.example import Example, MarkedText
from tunewise.data.layout import Layout
from tunewise.data.rows import OnBadRow, Row, refuse_row
from tunewise.data.say_once import say_once
from tunewise.data.tokenizer import Tokenizer
from tunewise.data.unusable import UnusableRows
from tunewise.device import choose_device, choose_dtype
from tunewise.errors import MAX_NAMES, ConfigError, DataError, first_of
from tunewise.evaluation.answers import Answer, Inference, NewAnswers
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import stream
from tunewise.models import LanguageModel
from tunewise.models.folder import find_folder
from tunewise.models.hub import fetch_weights
from tunewise.models.label_layer import stored_labels
from tunewise.runs.folder import CONFIG_FILE, refuse_missing_run
from tunewise.runs.model import adapted_model, load_trained
from tunewise.runs.prepare import layout_of
from tunewise.settings import validate
from tunewise.tasks import Task, TextTask
from tunewise.tasks.conversation import read_conversation
from tunewise.tasks.usable import Identity

logger = logging.getLogger(__name__)

MAX_ROWS, MAX_CHARACTERS = 256, 500_000
"""Most rows, and most characters of prompts, that are read before they are answered."""

__all__ = ["Answer", "Predictor", "load"]


@dataclass(frozen=True)
class Predictor:
    """A model that answers as its run did."""

    config: RunConfig
    model: LanguageModel
    tokenizer: Tokenizer
    layout: Layout

    def predict(self, rows: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """Return the answer to each row.

        An answer is a dict with `id`, `row` (the number of the row, from 0), `predicted` (the label
        or the text) and, of labels, `probabilities`.

        Args:
            rows: mappings with the columns that the task reads.

        Raises:
            DataError: if rows cannot be used: a column is missing, say, or does not hold text.
                Nothing is computed then.
            ConfigError: if the task answers nothing.
        """
        unusable = UnusableRows()
        numbered = (Row(dict(row), f"rows:{number + 1}", number) for number, row in enumerate(rows))
        prompts = list(usable_prompts(self.config.task, numbered, unusable))
        if unusable.count:
            raise DataError(unusable.told(len(prompts)))
        return list(self._answers_to(prompts, 0))

    def answers(
        self,
        rows: Iterable[Row],
        on_bad_row: OnBadRow = refuse_row,
        num_known: int = 0,
        key: str | None = None,
    ) -> Iterator[Answer]:
        """Yield the answer to each row, in their order; few rows are in memory at once.

        Args:
            on_bad_row: takes the error of each row that cannot be used.
            num_known: number of answers at the beginning that are known, and not yielded.
            key: the column with the user's own keys, which become the ids.

        Raises:
            NotFiniteError: if the model's outputs are not finite.
        """
        prompts = usable_prompts(self.config.task, rows, on_bad_row, key)
        return self._answers_to(prompts, num_known)

    def _answers_to(self, prompts: Iterable[Example], num_known: int) -> Iterator[Answer]:
        num_cut = num_answered = num_empty = first = 0
        empty: list[str] = []
        for examples in _chunks(prompts):
            ids = [example.id for example in examples if not example.prompt.strip()]
            num_empty, empty = num_empty + len(ids), [*empty, *ids][:MAX_NAMES]
            # A chunk is computed as a whole, so that sampling does not depend on what is known.
            if (num_skipped := max(0, num_known - first)) < len(examples):
                new = self._answer(examples, self.config.seed + first)
                num_cut += new.num_cut
                num_answered += len(examples)
                yield from new.answers[num_skipped:]
            first += len(examples)
        if num_cut:
            logger.warning("%d of %d prompts are too long and were cut", num_cut, num_answered)
        if num_empty:
            places = first_of(empty, num_empty)
            logger.warning("%d of %d rows have an empty text: %s", num_empty, first, places)

    def generate(self, prompt: str, **decoding: Any) -> str:
        """Return what the model writes after a prompt; see `stream`."""
        return "".join(self.stream(prompt, **decoding))

    def stream(self, prompt: str, *, seed: int | None = None, **decoding: Any) -> Iterator[str]:
        """Yield what the model writes after a prompt, piece by piece.

        Args:
            seed: the seed of what is sampled; without it, that of the run.
            decoding: fields of `DecodingConfig`; the others are those of the task.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
            ModelError: if the prompt leaves no room for new tokens.
        """
        ids, settings = self.prompt_ids(prompt), self.decoding(decoding)
        seed = self.config.seed if seed is None else seed
        return stream(self.model, ids, self.tokenizer, settings, seed)

    def reply(
        self, messages: Sequence[Mapping[str, Any]], *, seed: int | None = None, **decoding: Any
    ) -> Iterator[str]:
        """Yield the answer to a conversation, piece by piece, in the words of the run's task.

        An instruction run reads it as its rows of messages, and a single message as its training
        rows. Of a conversation that is too long the oldest exchanges are left out, which is logged.

        Args:
            messages: dicts with `role` (`system`, `user` or `assistant`) and `content`.
            seed: the seed of what is sampled; without it, that of the run.
            decoding: fields of `DecodingConfig`; the others are those of the task.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
            DataError: if the task cannot read the messages.
        """
        settings = self.decoding(decoding)
        example = read_conversation(self.config.task, [dict(m) for m in messages], "the chat")
        longest = self.model.config.context_length - self.model.first_position
        layout = replace(self.layout, max_length=longest)
        reserved = min(settings.max_new_tokens, longest // 2)
        prompts = encode_prompts([example], self.tokenizer, layout, reserved)
        if any(prompts.cut):
            say_once(
                logger,
                logging.WARNING,
                "the conversation is longer than the model's context: its oldest part is left out",
            )
        seed = self.config.seed if seed is None else seed
        return stream(self.model, prompts.ids[0], self.tokenizer, settings, seed)

    def prompt_ids(self, prompt: str | Example | Sequence[int]) -> Ids:
        """Return the ids of a whole prompt, behind the virtual ids.

        Args:
            prompt: a text, in which special tokens may be named; an example's prompt and cue; or
                ids already.
        """
        if isinstance(prompt, str):
            prompt = Example.asking("prompt", MarkedText.literal(prompt))
        if isinstance(prompt, Example):
            uncut = replace(self.layout, max_length=sys.maxsize)
            (ids,) = encode_prompts([prompt], self.tokenizer, uncut).ids
            return ids
        # An empty prompt still needs a token to continue from.
        return join_ids(self.layout.virtual_ids, prompt if len(prompt) else self.tokenizer.opening)

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
        refuse_missing_run(Path(name))
        source = find_folder(str(name))
        fetch_weights(str(name), source)  # they say whether there is a label layer
        labels = stored_labels(source)
        tokenizer = Tokenizer.load(source)
        task = _task_of(labels, tokenizer)
        config = make_config(fields={"model": str(name), "task": task, "method": "full"})
        model = adapted_model(config, source, tokenizer).requires_grad_(False).eval()
        model.set_precision(choose_dtype(config.train.precision, device))
    layout = layout_of(config, model.config)
    return Predictor(config, model.to(device), tokenizer, layout)


def usable_prompts(
    task: Task, rows: Iterable[Row], on_bad_row: OnBadRow, key: str | None = None
) -> Iterator[Example]:
    """Yield the prompt of each row that the task can use; `on_bad_row` takes the others' errors.

    Args:
        key: the column with the user's own keys, which become the ids.
    """
    identity = Identity(key)
    for row in rows:
        try:
            prompt = identity.give(task.prompt_of(row), row)
        except DataError as error:
            on_bad_row(error)
            continue
        yield prompt


def _task_of(labels: Sequence[str] | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the task of a model: a classifier answers with its own labels."""
    if labels is None:
        return {"kind": "language_modeling"}
    names = {label: label for label in labels}
    return {"kind": "classification", "labels": names, "max_length": tokenizer.max_length}


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
