"""The thread that computes: the next token of all texts, some labels, and again.

A request waits at most until the pass that is being computed has ended, unless its batch is full.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tunewise.data.cache import Ids
from tunewise.errors import DataError
from tunewise.generation.generate import DecodingConfig, begun
from tunewise.predict import Answer, Predictor
from tunewise.serving.batch import Batch, Piece, Tell, Writing
from tunewise.serving.metrics import Metrics
from tunewise.serving.mixing import Mix

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 2048
"""The most tokens of prompts, unless one is longer, that are read before the next step."""
ROWS = 32
"""The most rows that are classified before the next step."""


class BusyError(Exception):
    """More is waiting than may wait."""


@dataclass(eq=False)
class Question:
    """A row to be classified, and where the answer goes."""

    name: str
    row: Mapping[str, Any]
    answer: Future[Answer] = field(default_factory=Future)


@dataclass(eq=False)
class _Group:
    """The models of a mix, by name in order, their batch, and what waits for it."""

    names: list[str]
    mix: Mix
    batch: Batch
    waiting: deque[Writing] = field(default_factory=deque)


class Engine:
    """Runs that answer, and the requests that they are answering.

    Args:
        predictors: by the name that a request gives; their equal `Weights` are shared.
        max_batch: the most texts that are written at once on one base.
        max_queue: the most texts, or rows, that wait.
    """

    def __init__(
        self, predictors: Mapping[str, Predictor], max_batch: int, max_queue: int, metrics: Metrics
    ) -> None:
        self.predictors = predictors
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._metrics = metrics
        self._questions: deque[Question] = deque()
        self._groups = _grouped(predictors)
        self._work = threading.Condition()
        self._stopping = False
        # A second Ctrl-C does not wait for it.
        self._thread = threading.Thread(target=self._compute, name="tunewise-engine", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether anything will be computed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End after the pass that is being computed; what is not done by then ends in an error."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._thread.join()

    def writing(
        self, name: str, prompt: Ids, decoding: DecodingConfig, seed: tuple[int, int], tell: Tell
    ) -> Writing:
        """Return a text to be written by a model, which `write` begins.

        Raises:
            ModelError: if the prompt leaves no room for a token.
        """
        predictor = self.predictors[name]
        text = begun(predictor.model, prompt, decoding, seed)
        owner = self._group_of(name).names.index(name)
        return Writing(text, owner, decoding, predictor.tokenizer, tell)

    def write(self, name: str, writings: Sequence[Writing]) -> None:
        """Have texts written.

        Raises:
            BusyError: if too many are waiting; then none of these is.
            DataError: if these alone are too many.
        """
        group = self._group_of(name)
        with self._work:
            free = self._max_batch - len(group.batch.writings)
            self._let_in(len(writings), self._max_queue + free - len(group.waiting))
            group.waiting.extend(writings)
            self._woken()

    def classify(self, name: str, rows: Iterable[Mapping[str, Any]]) -> list[Future[Answer]]:
        """Return where the answers to rows will be, which a run's task can read.

        Raises:
            BusyError: if too many are waiting; then none of these is.
            DataError: if these alone are too many.
        """
        questions = [Question(name, row) for row in rows]
        with self._work:
            self._let_in(len(questions), self._max_queue - len(self._questions))
            self._questions.extend(questions)
            self._woken()
        return [question.answer for question in questions]

    def _let_in(self, count: int, room: int) -> None:
        if count > self._max_queue:
            raise DataError(f"{count} texts or rows at once; {self._max_queue} is the most")
        if count > room:
            raise BusyError

    def _woken(self) -> None:
        self._metrics.queue = self._num_waiting()
        self._work.notify()

    def _num_waiting(self) -> int:
        return len(self._questions) + sum(len(group.waiting) for group in self._groups)

    def _group_of(self, name: str) -> _Group:
        return next(group for group in self._groups if name in group.names)

    def _compute(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(self._has_work)
                if self._stopping:
                    break
                joining = [self._admitted(group) for group in self._groups]
                questions = self._next_questions()
                self._metrics.queue = self._num_waiting()
            for group, writings in zip(self._groups, joining, strict=True):
                self._write(group, writings)
            self._answer(questions)
        for group in self._groups:
            _fail([*group.waiting, *group.batch.writings])
        for question in self._questions:
            question.answer.cancel()

    def _has_work(self) -> bool:
        writing = any(group.batch.writings for group in self._groups)
        return self._stopping or writing or self._num_waiting() > 0

    def _admitted(self, group: _Group) -> list[Writing]:
        """Return the texts that join a batch now, the ones that have waited longest."""
        group.batch.drop_cancelled()
        joining: list[Writing] = []
        num_tokens = 0
        while group.waiting and len(group.batch.writings) + len(joining) < self._max_batch:
            writing = group.waiting[0]
            num_tokens += len(writing.text.prompt)
            if joining and num_tokens > PROMPT_TOKENS:
                break
            group.waiting.popleft()
            if not writing.cancelled:
                joining.append(writing)
        return joining

    def _write(self, group: _Group, joining: list[Writing]) -> None:
        batch = group.batch
        try:
            # Counted first: who reads a count has seen no response that it does not hold.
            if joining:
                self._metrics.prompt_tokens += sum(len(w.text.prompt) for w in joining)
                self._metrics.tokens += len(joining)
                batch.join(joining)
            if size := len(batch.writings):
                self._metrics.tokens += size
                self._metrics.batch_size.observe(size)
                batch.step()
        except Exception:  # out of memory, say: the next request may be smaller
            logger.exception("a pass has failed, and with it %d texts", len(batch.writings))
            _fail({*joining, *batch.writings})
            group.batch = Batch(group.mix)

    def _next_questions(self) -> list[Question]:
        """Return rows for the run that has waited longest."""
        name = self._questions[0].name if self._questions else ""
        chosen = [question for question in self._questions if question.name == name][:ROWS]
        for question in chosen:
            self._questions.remove(question)
        return [question for question in chosen if question.answer.set_running_or_notify_cancel()]

    def _answer(self, questions: Sequence[Question]) -> None:
        if not questions:
            return
        try:
            answers = self.predictors[questions[0].name].predict(q.row for q in questions)
            for question, answer in zip(questions, answers, strict=True):
                question.answer.set_result(answer)
        except Exception as error:
            logger.exception("%d rows could not be classified", len(questions))
            for question in questions:
                question.answer.set_exception(error)


def _grouped(predictors: Mapping[str, Predictor]) -> list[_Group]:
    """Return the models that write, those together that can be mixed.

    Their shapes, tokenizers and precisions must agree. A prefix stands before every row of a cache,
    so a model with one is alone.
    """
    alike: dict[object, list[str]] = {}
    for name, predictor in predictors.items():
        model = predictor.model
        if model.num_labels is None:
            alone = name if model.first_position else None
            kind = model.config.model_dump_json(), model.compute_dtype, alone
            alike.setdefault((kind, predictor.tokenizer.fingerprint), []).append(name)
    groups = []
    for names in alike.values():
        mix = Mix([predictors[name].model for name in names])
        groups.append(_Group(names, mix, Batch(mix)))
    return groups


def _fail(writings: Iterable[Writing]) -> None:
    for writing in writings:
        writing.tell(Piece("", len(writing.text.output), "error"))
