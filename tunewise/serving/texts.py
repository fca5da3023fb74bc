"""The texts that a request asks for, from the engine's thread to the client."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from functools import partial
from secrets import randbits
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tunewise.data.cache import Ids
from tunewise.generation.generate import DecodingConfig
from tunewise.serving import responses
from tunewise.serving.batch import Piece
from tunewise.serving.engine import Engine
from tunewise.serving.refusals import BROKEN, Refusal
from tunewise.serving.requests import MAX_TEXTS, TextRequest

Answer = TypeVar("Answer")


class Texts:
    """The texts that a request asks for: `n` after each prompt."""

    def __init__(
        self, engine: Engine, asked: TextRequest, given: Sequence[Ids], max_length: int | None
    ) -> None:
        self.per_prompt = asked.n or 1
        self.count = self.per_prompt * len(given)
        if not 0 < self.count <= MAX_TEXTS:
            raise Refusal(422, f"{self.count} texts are asked for; 1 to {MAX_TEXTS} can be")
        self.usage = responses.Usage(sum(map(len, given)))
        self._engine, self._name = engine, asked.model
        self._loop, self._pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece]]()
        model = engine.predictors[asked.model].model
        context = model.config.context_length - model.first_position
        decodings = [
            _fitted(asked, engine, len(p), min(context, max_length or context)) for p in given
        ]
        seed = randbits(63) if asked.seed is None else asked.seed
        self._writings = [
            engine.writing(
                asked.model, prompt, decoding, (seed, number), partial(self._tell, number)
            )
            for number, (prompt, decoding) in enumerate(
                pair for pair in zip(given, decodings, strict=True) for _ in range(self.per_prompt)
            )
        ]

    def _tell(self, number: int, piece: Piece) -> None:
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, (number, piece))

    def begin(self) -> None:
        """Have them written. Raises BusyError if too much is waiting."""
        self._engine.write(self._name, self._writings)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yield the pieces of all texts, each with its text's number, until all have ended."""
        going_on = self.count
        try:
            while going_on:
                number, piece = await self._pieces.get()
                if piece.finish is not None:
                    going_on -= 1
                    self.usage.completion_tokens += piece.num_tokens
                yield number, piece
        finally:
            for writing in self._writings:
                writing.cancelled = True


def _fitted(asked: TextRequest, engine: Engine, length: int, most: int) -> DecodingConfig:
    """Return how a text is written after a prompt.

    Args:
        length: how many tokens the prompt has.
        most: how many it and the text may have in all.
    """
    # A text has one row of a batch, so it is not followed by beams.
    fields = {**asked.decoding, "num_beams": 1}
    decoding = engine.predictors[asked.model].decoding(fields)
    wanted = asked.num_new_tokens or 1
    if length + wanted > most:
        problem = f"a prompt of {length} tokens and {wanted} new ones; {most} in all is the most"
        raise Refusal(422, problem, "context_length_exceeded")
    num_new = min(most - length, decoding.max_new_tokens)
    return decoding.model_copy(update={"max_new_tokens": num_new})


async def respond(
    request: Request,
    asked: TextRequest,
    texts: Texts,
    response: responses.TextResponse,
    echoes: Sequence[str],
) -> Response:
    """Return texts as one response, or as a stream of their pieces.

    Args:
        echoes: what the texts after each prompt begin with.
    """
    texts.begin()
    begun = [echo for echo in echoes for _ in range(texts.per_prompt)]
    if asked.stream:
        options = asked.stream_options
        with_usage = options is not None and options.include_usage
        events = _events(texts, response, begun, with_usage)
        return StreamingResponse(events, media_type="text/event-stream")
    finishes: list[str | None] = [None] * texts.count

    async def collect() -> None:
        async for number, piece in texts.pieces():
            begun[number] += piece.text
            finishes[number] = piece.finish

    await while_connected(request, collect())
    if "error" in finishes:
        raise Refusal(500, BROKEN)
    return JSONResponse(response.whole(begun, finishes, texts.usage))


async def _events(
    texts: Texts, response: responses.TextResponse, begun: list[str], with_usage: bool
) -> AsyncIterator[str]:
    """Yield server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    first = [True] * texts.count
    async for number, piece in texts.pieces():
        if piece.finish == "error":
            yield _event(responses.error(BROKEN, 500))
            return
        text = begun[number] + piece.text if first[number] else piece.text
        yield _event(response.chunk(number, text, first[number], piece.finish))
        first[number] = False
    if with_usage:
        yield _event(response.last_chunk(texts.usage))
    yield "data: [DONE]\n\n"


def _event(data: responses.JSON) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what comes of some work, which is cancelled if the client leaves before."""

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, left = asyncio.ensure_future(work), asyncio.ensure_future(leaving())
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refusal(499, "the client has left")
        return task.result()
    finally:
        left.cancel()
        task.cancel()
