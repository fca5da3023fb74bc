"""The answer to a study's question in three sentences, and the warnings that limit it."""

from pathlib import Path

from tunewise.reports import words
from tunewise.studies.compare import COSTS, CellResult, Comparison
from tunewise.studies.study import Cost

FEW_ROWS = 10
"""Number of test rows of a label below which its scores say little."""


def summarize(comparison: Comparison) -> list[str]:
    """Return three sentences: the set-up, the finding and the recommendation."""
    if comparison.best is None:
        return [_setup(comparison), "Nothing has finished yet.", "Nothing can be recommended yet."]
    return [_setup(comparison), _finding(comparison), _recommendation(comparison)]


def find_warnings(comparison: Comparison) -> list[str]:
    """Return the warnings that limit the answer, one sentence each."""
    study, rows = comparison.study, comparison.rows
    warnings = []
    for path in dict.fromkeys(path for row in rows for path in row.edges):
        at_edge = words.join_names([row.name for row in rows if path in row.edges])
        warnings.append(
            f"{at_edge}: the chosen {path.rpartition('.')[2]} is at the edge of the range tried; "
            "a better value may lie beyond it."
        )
    warnings += [f"{row.name}: {failure}" for row in rows for failure in row.failures]
    if unfinished := [row.name for row in rows if len(row.runs) < study.seeds]:
        warnings.append(f"Not all seeds have finished: {words.join_names(unfinished)}.")
    warnings += [
        f"{words.join_names(names)} gave the same answer to every test row."
        for names in _answering_alike(comparison)
    ]
    if few := _few_rows(comparison):
        warnings.append(
            f"Labels with fewer than {FEW_ROWS} test rows, whose scores say little: "
            f"{words.join_names(few)}."
        )
    for row in rows:
        if skipped := sum(run.result.updates_left_out for run in row.runs):
            warnings.append(
                f"{row.name}: {skipped:,} updates were skipped because their loss or gradient "
                "was not finite."
            )
    if study.seeds == 1:
        warnings.append(
            "One seed: the intervals reflect the choice of test examples, not the randomness of "
            "training."
        )
    elif study.seeds == 2:
        warnings.append(
            "Two seeds: the intervals over seeds are wide, since two values say little about how "
            "much seeds differ."
        )
    return warnings


def _answering_alike(comparison: Comparison) -> list[list[str]]:
    """Return the cells whose first seeds gave the same answers, in groups of two or more."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in comparison.rows:
        answers = tuple(p.predicted for run in row.runs[:1] for p in run.predictions)
        if any(answers):
            groups.setdefault(answers, []).append(row.name)
    return [names for names in groups.values() if len(names) > 1]


def _few_rows(comparison: Comparison) -> list[str]:
    """Return the labels with few test rows, each with their number."""
    tables = next((run.result.tables for row in comparison.rows for run in row.runs), None)
    return [] if tables is None else tables.rare(FEW_ROWS)


def _setup(comparison: Comparison) -> str:
    study, rows = comparison.study, comparison.rows
    configs = [row.cell.config for row in rows]
    models = words.join_names(list(dict.fromkeys(Path(config.model).name for config in configs)))
    run = next((run for row in rows for run in row.runs), None)
    examples = "" if run is None else f" ({len(run.predictions):,} test examples)"
    cells = "One configuration was" if len(rows) == 1 else f"{len(rows)} configurations were"
    seeds = "one seed" if study.seeds == 1 else f"{study.seeds} seeds"
    return (
        f"{cells} trained on {configs[0].task.name}{examples} from {models}, "
        f"with {seeds} each{_budget(comparison)}."
    )


def _budget(comparison: Comparison) -> str:
    study = comparison.study
    if study.search:
        return f" and the best of {study.search.trials} candidates found on validation data"
    count = len(comparison.rows[0].candidates)
    return f" and the best of the same {count} candidates on validation data" if count else ""


def _finding(comparison: Comparison) -> str:
    best = comparison.best
    assert best is not None
    finished = [row for row in comparison.rows if row.runs]
    similar = [row.name for row in comparison.not_worse if row is not best]
    worse = [row.name for row in finished if row not in comparison.not_worse]
    measured = _measured(comparison, best)
    if len(finished) == 1:
        return f"{best.name} has {measured}."
    first = f"{best.name} has the best {'mean' if len(best.runs) > 1 else 'value'}, {measured}"
    if not worse:
        return f"No significant difference: {first}, and no other is significantly worse."
    text = f"{first}; {words.join_names(worse)} {'is' if len(worse) == 1 else 'are'}"
    text += " significantly worse"
    if similar:
        text += f"; no significant difference from {words.join_names(similar, 'or')}"
    return f"{text}."


def _recommendation(comparison: Comparison) -> str:
    best, chosen, cost = comparison.best, comparison.recommended, comparison.study.cost
    if chosen is None:
        unfinished = [row.name for row in comparison.rows if row.num_open]
        return f"Nothing can be recommended yet: {words.join_names(unfinished)} still to be run."
    assert best is not None
    if len(comparison.not_worse) == 1:
        has_others = sum(bool(row.runs) for row in comparison.rows) > 1
        reason = (
            "all others that have finished are significantly worse"
            if has_others
            else "there is nothing to compare it with"
        )
        return f"Use {chosen.name}: {reason}."
    # Not significantly worse is not as good: the reader sees what may be given up.
    text = f"Use {chosen.name}{'' if chosen is best else f', {_measured(comparison, chosen)}'}: "
    text += "of those not significantly worse than the best, "
    costliest = max(comparison.not_worse, key=lambda row: row.cost(cost))
    ratio = costliest.cost(cost) / chosen.cost(cost)
    if ratio == 1:
        return f"{text}none is cheaper in {COSTS[cost]}: each has {_cost(cost, chosen)}."
    times = f"{ratio:,.0f}" if ratio > 10 else f"{ratio:.2g}"
    return (
        f"{text}it is the cheapest in {COSTS[cost]}, {_cost(cost, chosen)}; "
        f"{costliest.name} has {_cost(cost, costliest)}, {times} times that."
    )


def _measured(comparison: Comparison, row: CellResult) -> str:
    name = comparison.metric.name
    value = f"{name} {words.format_value(name, row.metrics[name].mean)}"
    interval = words.format_interval(name, row.metrics[name])
    return f"{value} (95 % interval {interval})" if interval else value


def _cost(cost: Cost, row: CellResult) -> str:
    value = row.cost(cost)
    if cost == "trainable":
        return f"{value:,.0f} ({row.mean(lambda result: result.parameters.percent):.3g} %)"
    return words.format_bytes(value) if cost == "memory" else words.format_seconds(value)
