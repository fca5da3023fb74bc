"""The plain loop of a notebook (shared report 001): the peer's model, without its care.

Every row is padded to the longest of the whole set, and texts are written one at a time, each
token from a forward pass over everything before it.
"""

import torch

from benchmarks import peer
from benchmarks.items import PLAIN_EVERY
from benchmarks.worker import Clock, Measured, Work, main
from tunewise.device import choose_device


def longest(work: Work) -> int:
    """Return the length of the longest row."""
    return max(len(row.ids) for row in work.rows)


@torch.inference_mode()
def decode(work: Work) -> Measured:
    """Return the seconds of writing on from some of the prompts, one after the other."""
    model = peer.load(work, work.dtype).to(choose_device()).eval()
    peer.written(model, work, work.rows[:1], 2, cache=False)
    clock = Clock(choose_device())
    outputs = []
    for row in work.rows[::PLAIN_EVERY]:
        outputs += peer.written(model, work, [row], work.new_tokens, cache=False)
    clock.lap()
    return Measured(clock.laps, clock.processor, outputs=outputs)


if __name__ == "__main__":
    main(
        {
            "updates": lambda work: peer.updates(work, longest(work)),
            "run": lambda work: peer.whole_run(work, longest(work)),
            "decode": decode,
        }
    )
