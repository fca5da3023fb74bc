"""Tokens per second of a server with some requests at once: `python -m benchmarks.serving RUN ...`.

The same 32 requests, in turn to each run, are sent with 1, 4 and 16 on their way at a time, several
rounds of each; the median round counts.
"""

import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from openai import OpenAI

REQUESTS, NEW_TOKENS, ROUNDS = 32, 128, 3


def measure(names: list[str]) -> dict[int, tuple[float, float]]:
    """Return the tokens per second, and the seconds of a request, for each number at once."""
    command = [sys.executable, "-m", "tunewise", "serve", *names, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        match = re.search(r"http://\S+:\d+", line := server.stderr.readline())
        assert match, line
        client = OpenAI(base_url=f"{match[0]}/v1", api_key="none")
        rounds: dict[int, list[tuple[float, float]]] = {1: [], 4: [], 16: []}
        for _ in range(1 + ROUNDS):  # the first one warms up
            for at_once, found in rounds.items():
                found.append(_round(client, names, at_once))
        server.terminate()
    medians = {}
    for at_once, found in rounds.items():
        speed, seconds = zip(*found[1:], strict=True)
        medians[at_once] = statistics.median(speed), statistics.median(seconds)
    return medians


def _round(client: OpenAI, names: list[str], at_once: int) -> tuple[float, float]:
    def ask(number: int) -> tuple[int, float]:
        start = perf_counter()
        name, prompt = names[number % len(names)], f"Chapter {number}. It was"
        answer = client.completions.create(model=name, prompt=prompt, max_tokens=NEW_TOKENS)
        assert answer.usage is not None
        return answer.usage.completion_tokens, perf_counter() - start

    start = perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(ask, range(REQUESTS)))
    tokens, seconds = zip(*answers, strict=True)
    return sum(tokens) / (perf_counter() - start), statistics.mean(seconds)


if __name__ == "__main__":
    print("| at once | tokens/s | seconds per request |\n|---|---|---|")
    for at_once, (speed, seconds) in measure(sys.argv[1:] or ["pocket"]).items():
        print(f"| {at_once} | {speed:,.0f} | {seconds:.2f} |")
