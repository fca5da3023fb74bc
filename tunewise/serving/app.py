"""The routes: OpenAI's completions and chat, labels, health, counters."""

import asyncio
import json
import time
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp

from tunewise.data.cache import Ids
from tunewise.errors import DataError, nearest
from tunewise.json_text import to_json
from tunewise.predict import Answer, Predictor
from tunewise.serving import prompts, responses
from tunewise.serving.counters import Counters
from tunewise.serving.engine import Engine
from tunewise.serving.gate import Gate
from tunewise.serving.refusals import Refusal, add_error_handlers
from tunewise.serving.requests import ChatRequest, ClassifyRequest, CompletionRequest
from tunewise.serving.texts import RequestedTexts, respond, while_connected
from tunewise.settings import AnySettings, validate
from tunewise.tasks.conversation import read_conversation


def make_app(
    engine: Engine, counters: Counters, token: str | None, max_length: int | None, max_body: int
) -> ASGIApp:
    """Return the application that passes requests to an engine.

    Args:
        token: bearer token of every request but /healthz; None lets all pass.
        max_length: maximum number of tokens of a prompt and its text; None is the model's context.
        max_body: maximum number of bytes in a request's body.
    """
    app = FastAPI(title="tunewise", openapi_url=None)
    started = int(time.time())

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        if not engine.is_alive:
            raise Refusal(503, "the engine has stopped")
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(counters.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> responses.JSON:
        return responses.model_list(list(engine.predictors), started)

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> responses.JSON:
        _predictor(engine, name)
        return responses.model(name, started)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        asked = await _body(request, CompletionRequest)
        predictor = _predictor(engine, asked.model)
        ids = await asyncio.to_thread(_prompt_ids, asked, predictor)
        echoes = [_echo(asked, predictor, prompt) for prompt in asked.prompts]
        texts = RequestedTexts(engine, asked, ids, max_length)
        return await respond(request, asked, texts, responses.Completion(asked.model), echoes)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked = await _body(request, ChatRequest)
        predictor = _predictor(engine, asked.model)
        task = predictor.config.task
        example = read_conversation(task, asked.messages, request.url.path)
        ids = await asyncio.to_thread(predictor.prompt_ids, example)
        texts = RequestedTexts(engine, asked, [ids], max_length)
        return await respond(request, asked, texts, responses.Chat(asked.model), [""])

    @app.post("/classify")
    async def classify(request: Request) -> responses.JSON:
        asked = await _body(request, ClassifyRequest)
        task = _predictor(engine, asked.model).config.task
        rows = [prompts.read_row(task, row, number) for number, row in enumerate(asked.rows)]
        futures = [asyncio.wrap_future(future) for future in engine.classify(asked.model, rows)]
        answers = await while_connected(request, _all(futures))
        data = [
            {"index": index, "label": answer["predicted"], "probabilities": answer["probabilities"]}
            for index, answer in enumerate(answers)
        ]
        return {"object": "list", "model": asked.model, "data": data}

    add_error_handlers(app)
    routes = {route.path for route in app.routes if hasattr(route, "path")}
    return Gate(app, counters, routes, token, max_body)


async def _all(futures: Sequence[asyncio.Future[Answer]]) -> list[Answer]:
    return list(await asyncio.gather(*futures))


async def _body(request: Request, kind: type[AnySettings]) -> AnySettings:
    """Return the body of a request.

    Raises:
        ConfigError: if its fields are not those of the route.
        Refusal: if it is not JSON.
    """
    try:
        values = json.loads(await request.body())
        to_json(values, ascii_only=False).encode()  # fails at half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    return validate(kind, values, request.url.path)


def _predictor(engine: Engine, name: str) -> Predictor:
    if name not in engine.predictors:
        hint = nearest(name, engine.predictors)
        raise Refusal(404, f"no model {name!r} is served; {hint}", "model_not_found")
    return engine.predictors[name]


def _prompt_ids(asked: CompletionRequest, predictor: Predictor) -> list[Ids]:
    """Return the ids of each prompt.

    Raises:
        DataError: if a prompt's ids are not the tokenizer's.
    """
    size = predictor.tokenizer.size
    for prompt in asked.prompts:
        if not isinstance(prompt, str) and not all(0 <= token < size for token in prompt):
            raise DataError(f"prompt: a token is not between 0 and {size - 1}")
    return [predictor.prompt_ids(prompt) for prompt in asked.prompts]


def _echo(asked: CompletionRequest, predictor: Predictor, prompt: str | list[int]) -> str:
    """Return the beginning of a text: its prompt if the request asks for it, else ""."""
    if not asked.echo:
        return ""
    return prompt if isinstance(prompt, str) else predictor.tokenizer.decode(prompt)
