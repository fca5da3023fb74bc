"""The texts that a request asks for, on their way from the engine's thread to the client."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from secrets import randbits
from typing import Any, NamedTuple, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tunewise.data.cache import Ids
from tunewise.generation.config import DecodingConfig
from tunewise.generation.continuation import Draw
from tunewise.json_text import to_json
from tunewise.serving import responses
from tunewise.serving.batch import TextJob, TextPiece
from tunewise.serving.engine import Engine
from tunewise.serving.refusals import BROKEN, Refusal
from tunewise.serving.requests import MAX_TEXTS, TextRequest

Outcome = TypeVar("Outcome")


class NumberedPiece(NamedTuple):
    """A piece, and the number of its text in the request."""

    number: int
    piece: TextPiece


class RequestedTexts:
    """The texts that a request asks for: `n` after each prompt."""

    def __init__(
        self, engine: Engine, asked: TextRequest, prompts: Sequence[Ids], max_length: int | None
    ) -> None:
        self.per_prompt = asked.n or 1
        self.count = self.per_prompt * len(prompts)
        if not 0 < self.count <= MAX_TEXTS:
            raise Refusal(422, f"{self.count} texts are asked for; 1 to {MAX_TEXTS} are possible")
        self.usage = responses.Usage(sum(map(len, prompts)))
        self._engine, self._name = engine, asked.model
        self._loop = asyncio.get_running_loop()
        self._pieces = asyncio.Queue[NumberedPiece]()
        model = engine.predictors[asked.model].model
        context = model.config.context_length - model.first_position
        max_length = min(context, max_length or context)
        decodings = [_decoding_after(asked, engine, len(ids), max_length) for ids in prompts]
        seed = randbits(63) if asked.seed is None else asked.seed
        self._jobs: list[TextJob] = []
        for prompt, decoding in zip(prompts, decodings, strict=True):
            for _ in range(self.per_prompt):
                number = len(self._jobs)
                send = partial(self._send, number)
                draw = Draw(seed, number)
                self._jobs.append(engine.new_job(asked.model, prompt, decoding, draw, send))

    def _send(self, number: int, piece: TextPiece) -> None:
        numbered = NumberedPiece(number, piece)
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, numbered)

    def start(self) -> None:
        """Queue the texts.

        Raises:
            BusyError: if too many are waiting.
        """
        self._engine.write(self._name, self._jobs)

    async def pieces(self) -> AsyncIterator[NumberedPiece]:
        """Yield the pieces of all texts until all have ended."""
        num_unfinished = self.count
        try:
            while num_unfinished:
                number, piece = await self._pieces.get()
                if piece.finish is not None:
                    num_unfinished -= 1
                    self.usage.completion_tokens += piece.num_tokens
                yield NumberedPiece(number, piece)
        finally:
            for job in self._jobs:
                job.cancelled = True


def _decoding_after(
    asked: TextRequest, engine: Engine, prompt_length: int, max_length: int
) -> DecodingConfig:
    """Return the decoding settings for a text after a prompt.

    Args:
        max_length: maximum number of tokens of the prompt and the text together.
    """
    # A text has one row of a batch, so there is no beam search.
    fields = {**asked.decoding, "num_beams": 1}
    decoding = engine.predictors[asked.model].decoding(fields)
    wanted = asked.num_new_tokens or 1
    if prompt_length + wanted > max_length:
        problem = (
            f"a prompt of {prompt_length} tokens and {wanted} new ones; "
            f"the maximum is {max_length} in all"
        )
        raise Refusal(422, problem, "context_length_exceeded")
    num_new = min(max_length - prompt_length, decoding.max_new_tokens)
    return decoding.model_copy(update={"max_new_tokens": num_new})


async def respond(
    request: Request,
    asked: TextRequest,
    texts: RequestedTexts,
    response: responses.TextResponse,
    echoes: Sequence[str],
) -> Response:
    """Return texts in one response, or as a stream of their pieces.

    Args:
        echoes: the beginning of the texts after each prompt.
    """
    texts.start()
    so_far = [echo for echo in echoes for _ in range(texts.per_prompt)]
    if asked.stream:
        options = asked.stream_options
        with_usage = options is not None and options.include_usage
        events = _events(texts, response, so_far, with_usage)
        return StreamingResponse(events, media_type="text/event-stream")
    finishes: list[str | None] = [None] * texts.count

    async def collect() -> None:
        async for number, piece in texts.pieces():
            so_far[number] += piece.text
            finishes[number] = piece.finish

    await while_connected(request, collect())
    if "error" in finishes:
        raise Refusal(500, BROKEN)
    return JSONResponse(response.whole(so_far, finishes, texts.usage))


async def _events(
    texts: RequestedTexts,
    response: responses.TextResponse,
    echoes: Sequence[str],
    with_usage: bool,
) -> AsyncIterator[str]:
    """Yield server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Args:
        echoes: the beginning of each text.
    """
    first = [True] * texts.count
    async for number, piece in texts.pieces():
        if piece.finish == "error":
            yield _event(responses.error(BROKEN, 500))
            return
        text = echoes[number] + piece.text if first[number] else piece.text
        yield _event(response.chunk(number, text, first[number], piece.finish))
        first[number] = False
    if with_usage:
        yield _event(response.usage_chunk(texts.usage))
    yield "data: [DONE]\n\n"


def _event(data: responses.JSON) -> str:
    return f"data: {to_json(data, ascii_only=False)}\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Return the result of some work, which is cancelled if the client disconnects before."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, disconnected = asyncio.ensure_future(work), asyncio.ensure_future(disconnect())
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "the client has disconnected")
        return task.result()
    finally:
        disconnected.cancel()
        task.cancel()
