"""The engine: a thread that computes the next token of all texts, then labels of rows, in turn.

A request waits at most until the present pass has ended, unless its batch is full.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tunewise.data.cache import Ids
from tunewise.errors import DataError, NotFiniteError
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Draw, new_text
from tunewise.predict import Answer, Predictor
from tunewise.serving.batch import TextBatch, TextJob, TextPiece
from tunewise.serving.counters import Counters
from tunewise.serving.mixing import Mix

logger = logging.getLogger(__name__)

MAX_PROMPT_TOKENS = 2048
"""Maximum number of prompt tokens read before the next step, unless one prompt is longer."""
MAX_ROWS = 32
"""Maximum number of rows classified before the next step."""


class BusyError(Exception):
    """The queue is full."""


@dataclass(eq=False)
class LabelJob:
    """A row that a request wants classified."""

    name: str
    """Name of the model."""
    row: Mapping[str, Any]
    answer: Future[Answer] = field(default_factory=Future)


@dataclass(eq=False)
class _Group:
    """Models that write together: their names, in the order of the mix, their batch and queue."""

    names: list[str]
    mix: Mix
    batch: TextBatch
    waiting: deque[TextJob] = field(default_factory=deque)


class Engine:
    """Loaded runs, and the texts and rows that they are working on.

    Args:
        predictors: the models by the name that a request gives; see `SharedWeights`.
        max_batch: maximum number of texts written at once by one group of models.
        max_queue: maximum number of texts, or rows, that wait.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        max_batch: int,
        max_queue: int,
        counters: Counters,
    ) -> None:
        self.predictors = predictors
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._counters = counters
        self._label_jobs: deque[LabelJob] = deque()
        self._groups = _group_models(predictors)
        self._work = threading.Condition()
        self._stopping = False
        # A daemon: a second Ctrl-C ends the process without waiting for it.
        self._thread = threading.Thread(target=self._compute, name="tunewise-engine", daemon=True)

    def start(self) -> None:
        """Start to compute."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop after the present pass; jobs that are not done by then end in an error."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._thread.join()

    def new_job(
        self,
        name: str,
        prompt: Ids,
        decoding: DecodingConfig,
        draw: Draw,
        send: Callable[[TextPiece], None],
    ) -> TextJob:
        """Return the job of writing a text with a model, for `write`.

        Args:
            send: takes the pieces of the text; it is called in the engine's thread.

        Raises:
            ModelError: if the prompt leaves no room for a token.
        """
        predictor = self.predictors[name]
        text = new_text(predictor.model, prompt, decoding, draw)
        owner = self._group_of(name).names.index(name)
        return TextJob(text, owner, decoding, predictor.tokenizer, send)

    def write(self, name: str, jobs: Sequence[TextJob]) -> None:
        """Queue texts to be written by a model.

        Raises:
            BusyError: if too many are waiting; then none of these is queued.
            DataError: if these alone are too many.
        """
        group = self._group_of(name)
        with self._work:
            free = self._max_batch - len(group.batch.jobs)
            self._check_room(len(jobs), self._max_queue + free - len(group.waiting))
            group.waiting.extend(jobs)
            self._wake()

    def classify(self, name: str, rows: Iterable[Mapping[str, Any]]) -> list[Future[Answer]]:
        """Queue rows to be classified by a model, and return their future answers.

        Args:
            rows: rows that the task of the model's run can read.

        Raises:
            BusyError: if too many are waiting; then none of these is queued.
            DataError: if these alone are too many.
        """
        jobs = [LabelJob(name, row) for row in rows]
        with self._work:
            self._check_room(len(jobs), self._max_queue - len(self._label_jobs))
            self._label_jobs.extend(jobs)
            self._wake()
        return [job.answer for job in jobs]

    def _check_room(self, num_jobs: int, room: int) -> None:
        if num_jobs > self._max_queue:
            raise DataError(f"{num_jobs} texts or rows at once; the maximum is {self._max_queue}")
        if num_jobs > room:
            raise BusyError

    def _wake(self) -> None:
        self._counters.queue_length = self._num_waiting()
        self._work.notify()

    def _num_waiting(self) -> int:
        return len(self._label_jobs) + sum(len(group.waiting) for group in self._groups)

    def _group_of(self, name: str) -> _Group:
        return next(group for group in self._groups if name in group.names)

    def _compute(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(self._has_work)
                if self._stopping:
                    break
                joining = [self._admit(group) for group in self._groups]
                label_jobs = self._next_label_jobs()
                self._counters.queue_length = self._num_waiting()
            for group, jobs in zip(self._groups, joining, strict=True):
                self._write(group, jobs)
            self._classify(label_jobs)
        for group in self._groups:
            _fail([*group.waiting, *group.batch.jobs])
        for job in self._label_jobs:
            job.answer.cancel()

    def _has_work(self) -> bool:
        is_writing = any(group.batch.jobs for group in self._groups)
        return self._stopping or is_writing or self._num_waiting() > 0

    def _admit(self, group: _Group) -> list[TextJob]:
        """Take from the queue the texts that join a batch now, and return them, oldest first."""
        group.batch.drop_cancelled()
        joining: list[TextJob] = []
        num_tokens = 0
        while group.waiting and len(group.batch.jobs) + len(joining) < self._max_batch:
            job = group.waiting[0]
            num_tokens += len(job.text.prompt)
            if joining and num_tokens > MAX_PROMPT_TOKENS:
                break
            group.waiting.popleft()
            if not job.cancelled:
                joining.append(job)
        return joining

    def _write(self, group: _Group, joining: list[TextJob]) -> None:
        """Read the prompts of texts that join, and write a token of every text of the batch."""
        batch = group.batch
        try:
            # Counted first, so that no response arrives before the counters include it.
            if joining:
                self._counters.prompt_tokens += sum(len(job.text.prompt) for job in joining)
                self._counters.tokens += len(joining)
                batch.join(joining)
            if size := len(batch.jobs):
                self._counters.tokens += size
                self._counters.batch_size.observe(size)
                batch.step()
        except Exception:  # out of memory, say: the next request may be smaller
            logger.exception("a pass has failed, and with it %d texts", len(batch.jobs))
            _fail({*joining, *batch.jobs})
            group.batch = TextBatch(group.mix)

    def _next_label_jobs(self) -> list[LabelJob]:
        """Take from the queue some rows of the model whose row has waited longest."""
        name = self._label_jobs[0].name if self._label_jobs else ""
        chosen = [job for job in self._label_jobs if job.name == name][:MAX_ROWS]
        for job in chosen:
            self._label_jobs.remove(job)
        return [job for job in chosen if job.answer.set_running_or_notify_cancel()]

    def _classify(self, jobs: Sequence[LabelJob]) -> None:
        """Answer rows that are all for one model."""
        if not jobs:
            return
        try:
            answers = self.predictors[jobs[0].name].predict(job.row for job in jobs)
            for job, answer in zip(jobs, answers, strict=True):
                job.answer.set_result(answer)
        except Exception as error:
            logger.exception("%d rows could not be classified", len(jobs))
            for job in jobs:
                job.answer.set_exception(error)


def _group_models(predictors: Mapping[str, Predictor]) -> list[_Group]:
    """Return the groups of the models that write; models that can be mixed are in one group.

    Their shapes, tokenizers and precisions must agree. A prefix stands before every row of a cache,
    so a model with one is alone. So is one whose outputs are not finite: in a pass with others it
    would spoil theirs, since nothing times nan is nan.
    """
    alike: dict[object, list[str]] = {}
    for name, predictor in predictors.items():
        model = predictor.model
        if model.num_labels is None:
            alone = name if model.first_position or not _writes(name, predictor) else None
            kind = model.config.model_dump_json(), model.compute_dtype, alone
            alike.setdefault((kind, predictor.tokenizer.fingerprint), []).append(name)
    groups = []
    for names in alike.values():
        mix = Mix([predictors[name].model for name in names])
        groups.append(_Group(names, mix, TextBatch(mix)))
    return groups


def _writes(name: str, predictor: Predictor) -> bool:
    """Return whether a model can write a token; if not, say why."""
    try:
        predictor.generate("", max_new_tokens=1, num_beams=1)
    except NotFiniteError as error:
        logger.warning("%s: %s", name, error)
        return False
    return True


def _fail(jobs: Iterable[TextJob]) -> None:
    for job in jobs:
        job.send(TextPiece("", len(job.text.output), "error"))
