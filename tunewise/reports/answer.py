"""The answer to a study's question in three sentences, and what should make a reader careful."""

from pathlib import Path

from tunewise.reports import words
from tunewise.studies.compare import COSTS, CellResult, Comparison
from tunewise.studies.study import Cost


def answer(comparison: Comparison) -> list[str]:
    """Return three sentences: what was measured, what came out, what to use."""
    if comparison.best is None or comparison.recommended is None:
        return [_asked(comparison), "Nothing has finished yet.", "So nothing can be recommended."]
    return [_asked(comparison), _came_out(comparison), _use(comparison)]


def warnings(comparison: Comparison) -> list[str]:
    """Return what limits the answer, a sentence each."""
    study, rows = comparison.study, comparison.rows
    found = []
    for path in dict.fromkeys(path for row in rows for path in row.edges):
        at_edge = words.listed([row.name for row in rows if path in row.edges])
        found.append(
            f"{at_edge}: the chosen {path.rpartition('.')[2]} lies at the edge of what was tried; "
            "a better one may lie outside."
        )
    found += [f"{row.name}: {failure}" for row in rows for failure in row.failures]
    if short := [row.name for row in rows if len(row.runs) < study.seeds]:
        found.append(f"Not all seeds have finished: {words.listed(short)}.")
    for row in rows:
        if left_out := sum(run.result.updates_left_out for run in row.runs):
            found.append(
                f"{row.name}: {left_out:,} updates were left out, since their loss or gradient "
                "was not finite."
            )
    if study.seeds == 1:
        found.append(
            "One seed: the intervals cover the choice of test examples, not the chance in training."
        )
    elif study.seeds == 2:
        found.append(
            "Two seeds: the intervals over seeds are wide, as two values say little about chance."
        )
    return found


def _asked(comparison: Comparison) -> str:
    study, rows = comparison.study, comparison.rows
    configs = [row.cell.config for row in rows]
    models = words.listed(list(dict.fromkeys(Path(config.model).name for config in configs)))
    run = next((run for row in rows for run in row.runs), None)
    examples = "" if run is None else f" ({len(run.predictions):,} test examples)"
    cells = "One set-up was" if len(rows) == 1 else f"{len(rows)} set-ups were"
    seeds = "one seed" if study.seeds == 1 else f"{study.seeds} seeds"
    tried = _budget(comparison)
    return (
        f"{cells} run with {seeds} each on {configs[0].task.name}{examples} from {models}{tried}."
    )


def _budget(comparison: Comparison) -> str:
    study = comparison.study
    if study.search:
        return f", each with the best of {study.search.trials} candidates found on validation data"
    count = len(comparison.rows[0].candidates)
    return (
        f", each with the best of the same {count} candidates on validation data" if count else ""
    )


def _came_out(comparison: Comparison) -> str:
    best = comparison.best
    assert best is not None
    done = [row for row in comparison.rows if row.runs]
    equals = [row.name for row in comparison.not_worse if row is not best]
    worse = [row.name for row in done if row not in comparison.not_worse]
    value = _measured(comparison, best)
    if len(done) == 1:
        return f"{best.name} has {value}."
    first = f"{best.name} has the best {'mean' if len(best.runs) > 1 else 'value'}, {value}"
    if not worse:
        return f"No difference is shown: {first}, and no other is shown to be worse."
    text = f"{first}; {words.listed(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse"
    if equals:
        text += f", and no difference is shown from {words.listed(equals)}"
    return f"{text}."


def _use(comparison: Comparison) -> str:
    best, chosen, cost = comparison.best, comparison.recommended, comparison.study.cost
    assert best is not None and chosen is not None
    if len(comparison.not_worse) == 1:
        return (
            f"Use {chosen.name}: all others that have finished are shown to be worse."
            if len([row for row in comparison.rows if row.runs]) > 1
            else f"Use {chosen.name}: there is nothing to compare it with."
        )
    # Not shown to be worse is not as good: the reader sees what may be given up.
    text = f"Use {chosen.name}{'' if chosen is best else f', {_measured(comparison, chosen)}'}: "
    text += "of those not shown to be worse than the best "
    dearest = max(comparison.not_worse, key=lambda row: row.cost(cost))
    ratio = dearest.cost(cost) / chosen.cost(cost)
    if ratio == 1:
        return f"{text}none is cheaper in {COSTS[cost]}: each has {_cost(cost, chosen)}."
    times = f"{ratio:,.0f}" if ratio > 10 else f"{ratio:.2g}"
    return (
        f"{text}it is the cheapest in {COSTS[cost]}, {_cost(cost, chosen)}; "
        f"{dearest.name} has {_cost(cost, dearest)}, {times} times that."
    )


def _measured(comparison: Comparison, row: CellResult) -> str:
    name = comparison.metric.name
    value = f"{name} {words.value_of(name, row.metrics[name].mean)}"
    interval = words.interval_of(name, row.metrics[name])
    return f"{value} (95 % interval {interval})" if interval else value


def _cost(cost: Cost, row: CellResult) -> str:
    value = row.cost(cost)
    if cost == "trainable":
        return f"{value:,.0f} ({row.mean(lambda result: result.parameters.percent):.3g} %)"
    return words.bytes_of(value) if cost == "memory" else words.seconds_of(value)
