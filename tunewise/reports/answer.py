"""The answer to a study's question in three sentences, and what should make a reader careful."""

from pathlib import Path

from tunewise.reports import words
from tunewise.studies.compare import COSTS, Comparison, Row
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
    for row in rows:
        for path in row.edges:
            name = path.rpartition(".")[2]
            found.append(
                f"{row.name}: the chosen {name} lies at the edge of what was tried; "
                "a better one may lie outside."
            )
    found += [f"{row.name}: {failure}" for row in rows for failure in row.failures]
    if missing := [row.name for row in rows if len(row.runs) + len(row.failures) < study.seeds]:
        found.append(f"Not all seeds have been run: {words.listed(missing)}.")
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
    best, name = comparison.best, comparison.metric.name
    assert best is not None
    done = [row for row in comparison.rows if row.runs]
    equals = [row.name for row in comparison.not_worse if row is not best]
    worse = [row.name for row in done if row not in comparison.not_worse]
    value = f"{name} {words.value_of(name, best.metrics[name].mean)}"
    if interval := words.interval_of(name, best.metrics[name]):
        value += f" (95 % interval {interval})"
    if len(done) == 1:
        return f"{best.name} has {value}."
    first = f"{best.name} has the best {'mean' if len(best.runs) > 1 else 'value'}, {value}"
    if not worse:
        return f"No difference is shown: {first}, and no other is shown to be worse."
    text = first
    text += f"; {words.listed(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse"
    if equals:
        text += f", and no difference is shown from {words.listed(equals)}"
    return f"{text}."


def _use(comparison: Comparison) -> str:
    best, chosen, cost = comparison.best, comparison.recommended, comparison.study.cost
    assert best is not None and chosen is not None
    if len(comparison.not_worse) == 1:
        return (
            f"Use {chosen.name}: all others that have finished are shown to be worse."
            if (len([row for row in comparison.rows if row.runs]) > 1)
            else f"Use {chosen.name}: there is nothing to compare it with."
        )
    text = f"Use {chosen.name}: of those not shown to be worse than the best it is the cheapest in "
    text += f"{COSTS[cost]}, {_cost(cost, chosen)}"
    dearest = max(comparison.not_worse, key=lambda row: row.cost(cost))
    share = chosen.cost(cost) / dearest.cost(cost)
    return f"{text}; {dearest.name} has {_cost(cost, dearest)}, {_times(share)}."


def _times(share: float) -> str:
    return f"{1 / share:,.0f} times that" if share < 0.1 else f"{1 / share:.2g} times that"


def _cost(cost: Cost, row: Row) -> str:
    value = row.cost(cost)
    if cost == "trainable":
        return f"{value:,.0f} ({row.mean(lambda result: result.parameters.percent):.3g} %)"
    return words.bytes_of(value) if cost == "memory" else words.seconds_of(value)
