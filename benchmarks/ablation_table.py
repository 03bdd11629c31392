"""The ablation's rows, their paired intervals, the noise of the training seed, and the table as Markdown and JSON.

Everything is measured on the validation split. A row is a mean over queries, as on the scoreboard; `mean` rows are
the mean of six label rows, whose intervals hold the number of counted queries of each label fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from benchmarks.ablation_variants import FULL, SEEDS, Variant
from lib.base.params import Bootstrap, Scoreboard
from lib.evaluation.bootstrap import clustered_intervals
from lib.evaluation.evaluation import LABELS, UNSEEN, product_columns
from lib.evaluation.scoreboard import MODE, ROW_ORDER

SPLIT = "validation"
MEANS = {"mean": MODE, "unseen mean": UNSEEN, "text mean": "text_to_image", "fused mean": "fused"}
"""Row -> mode whose six label rows it is the mean of."""
PRODUCT = "product_id"
VIEWS = "product_hit_rate@1"

Column = npt.NDArray[np.float64]


def query_table(per_query: pd.DataFrame, params: Scoreboard, *, k: int) -> pd.DataFrame:
    """What a variant's queries scored: a row per query, a column per row of the table and per part of a mean.

    Args:
        per_query: of the protocol model's evaluation.
        params: for the class rows.
        k: results per query.

    Returns:
        Index `query_id`; `product_id`, then fractions, NaN where a query does not count. A column of a mean is called
        `<row>/<label>`.
    """
    chosen = per_query[per_query["split"] == SPLIT]
    by_mode = {mode: table.set_index("query_id") for mode, table in chosen.groupby("mode", sort=False)}
    main = by_mode[MODE]

    def fractions(table: pd.DataFrame, label: str) -> pd.Series:
        return table[f"{label}_hits"].astype("Float64").astype(np.float64) / k

    columns = {f"{label}@{k}": fractions(main, label) for label in ROW_ORDER}
    labels = {column: label for label, column in LABELS.items()}
    for name, row in params.classes.items():
        columns[f"{name}@{k}"] = fractions(main, labels[row.column]).where(main[row.column] == row.value)
    columns[VIEWS] = main[product_columns(VIEWS)[0]].astype(np.float64)
    for name, mode in MEANS.items():
        if mode in by_mode:
            columns |= {f"{name}/{label}": fractions(by_mode[mode], label) for label in ROW_ORDER}
    table = pd.DataFrame(columns, index=main.index)
    table.insert(0, PRODUCT, main[PRODUCT])
    return table.dropna(axis="columns", how="all")


def row_names(table: pd.DataFrame) -> list[str]:
    """Rows in the order to show."""
    return list(dict.fromkeys(name.partition("/")[0] for name in table.columns if name != PRODUCT))


def values(table: pd.DataFrame) -> dict[str, float]:
    """Row -> mean over its queries; a mean row is the mean of its labels."""
    means = table.drop(columns=PRODUCT).mean()
    return {name: float(means[_parts(table, name)].mean()) for name in row_names(table)}


def compare(variant: pd.DataFrame, full: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, dict[str, float]]:
    """Row -> delta of a variant against the full recipe with its paired 95 % interval, over queries that both count.

    Returns:
        `{"value", "delta", "low", "high"}` in fractions; a row that one of them lacks is left out.
    """
    before, after = full, variant.reindex(full.index)
    names = [name for name in row_names(full) if set(_parts(full, name)) <= set(variant.columns)]
    contributions: list[Column] = []
    for name in names:
        parts = _parts(full, name)
        difference = (after[parts] - before[parts]).to_numpy()
        if len(parts) == 1:
            contributions.append(difference[:, 0])
            continue
        counted = ~np.isnan(difference)
        weights = len(difference) / np.maximum(counted.sum(axis=0), 1) / len(parts)
        contributions.append((np.where(counted, difference, 0.0) * weights).sum(axis=1))
    intervals = clustered_intervals(
        np.column_stack(contributions),
        pd.factorize(full[PRODUCT])[0].astype(np.int64),
        resamples=bootstrap.resamples,
        rng=np.random.default_rng(bootstrap.seed),
    )
    level = values(variant)
    return {
        name: {
            "value": round(level[name], 6),
            "delta": round(float(np.nanmean(contributions[place])), 6),
            "low": round(float(intervals.low[place]), 6),
            "high": round(float(intervals.high[place]), 6),
        }
        for place, name in enumerate(names)
    }


def seed_noise(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Row -> how far two runs of one recipe lie apart in 95 % of the cases, from runs that differ by seed only.

    The half width of Student's prediction interval for a difference of two runs: t * sqrt(2) * standard deviation.
    Empty for fewer than three runs, which say too little.
    """
    if len(runs) < 3:
        return {}
    factor = float(stats.t.ppf(0.975, len(runs) - 1)) * math.sqrt(2.0)
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: round(factor * float(np.std([run[name] for run in runs], ddof=1)), 6) for name in names}


def summarise(
    variants: Sequence[Variant],
    tables: Mapping[str, pd.DataFrame],
    baseline: pd.DataFrame,
    bootstrap: Bootstrap,
    *,
    not_there: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the table shows, for JSON.

    Args:
        variants: in the order to show; the full recipe is among them.
        tables: name -> `query_table` of the finished ones.
        baseline: the same of the untouched backbone.
        bootstrap: of the intervals.
        not_there: name -> why a variant has no figures.

    Returns:
        `split`, `rows`, `n_queries`, `baseline` and `full` (row -> value), `noise` (row -> see `seed_noise`), `seeds`
        (names), `variants` (a list with `rows`: see `compare`, and `beyond_noise`) and `not_there`.
    """
    full = tables[FULL]
    seeds = [variant.name for variant in variants if variant.part == SEEDS and variant.name in tables]
    noise = seed_noise([values(tables[name]) for name in (FULL, *seeds)])
    shown = []
    for variant in variants:
        if variant.name == FULL or variant.name not in tables:
            continue
        rows = compare(tables[variant.name], full, bootstrap)
        for name, row in rows.items():
            clear = row["low"] > 0 or row["high"] < 0
            row["beyond_noise"] = int(clear and abs(row["delta"]) > noise.get(name, math.inf))
        shown.append(
            {
                "name": variant.name,
                "part": variant.part,
                "what": variant.what,
                "command": command(variant),
                "rows": rows,
            }
        )
    return {
        "split": SPLIT,
        "rows": row_names(full),
        "n_queries": {name: int(full[_parts(full, name)].notna().any(axis=1).sum()) for name in row_names(full)},
        "baseline": {name: round(value, 6) for name, value in values(baseline).items()},
        "full": {name: round(value, 6) for name, value in values(full).items()},
        "seeds": seeds,
        "noise": noise,
        "variants": shown,
        "not_there": dict(not_there),
    }


def command(variant: Variant) -> str:
    """What a user types to get this variant."""
    words = [f"'{word}'" if set(word) & set("[]{}'\" |*") else word for word in variant.options]
    return " ".join(["dvc", "exp", "run", "-n", variant.name, *words])


def markdown(found: Mapping[str, Any], *, made_by: str, recipe: str) -> str:
    """The table as Markdown, in points (hundredths)."""
    rows = found["rows"]
    lines = [
        "# What each part of the recipe brings",
        "",
        f"`{made_by}`, recipe `{recipe}`, on the **validation** split; nothing here was measured on test. Points "
        "(hundredths). The first lines are levels; every other line is the recipe with one part changed, as its "
        "difference from the full recipe: **minus means that the part helps**.",
        "",
        _noise_note(found) + " `mean`: of all labels; `unseen mean`: the same against a gallery that no model was "
        "trained on; `text mean`, `fused mean`: of text queries, and of image and text together at one fixed weight; "
        "`product_hit_rate`: how often the first of the split's other items is of the query's own product.",
        "",
        f"| variant | {' | '.join(_head(name) for name in rows)} |",
        "|---|" + "---:|" * len(rows),
        f"| *queries* | {' | '.join(str(found['n_queries'][name]) for name in rows)} |",
        f"| *baseline, untrained* | {_levels(found['baseline'], rows)} |",
        f"| *full recipe* | {_levels(found['full'], rows)} |",
        f"| *noise* | {_levels(found['noise'], rows, form='± {:.1f}')} |",
    ]
    part = None
    for variant in found["variants"]:
        if variant["part"] != part:
            part = variant["part"]
            lines.append(f"| **{part}** |{' |' * len(rows)}")
        cells = []
        for name in rows:
            row = variant["rows"].get(name)
            text = "–" if row is None else f"{100 * row['delta']:+.1f}"
            cells.append(f"**{text}**" if row is not None and row["beyond_noise"] else text)
        lines.append(f"| `{variant['name']}` | {' | '.join(cells)} |")
    lines += ["", "## The variants", "", "| variant | off, or other | command |", "|---|---|---|"]
    lines += [f"| `{v['name']}` | {_escaped(v['what'])} | `{_escaped(v['command'])}` |" for v in found["variants"]]
    if found["not_there"]:
        lines += ["", "Without figures:", ""]
        lines += [f"- `{name}`: {_escaped(reason)}" for name, reason in found["not_there"].items()]
    return "\n".join([*lines, ""])


def _noise_note(found: Mapping[str, Any]) -> str:
    runs = len(found["seeds"]) + 1
    if not found["noise"]:
        return (
            f"Nothing stands in **bold**: what is noise takes three runs that differ by their seed, here are {runs}."
        )
    return (
        f"`noise` is how far two runs of the same recipe lie apart in 95 % of the cases, from {runs} runs that "
        "differ by their seed only. A difference stands in **bold** when it is larger than that *and* its paired "
        "interval over the queries' products excludes zero; one run does not tell the others from noise."
    )


def _parts(table: pd.DataFrame, name: str) -> list[str]:
    return [column for column in table.columns if column == name or column.startswith(f"{name}/")]


def _head(name: str) -> str:
    return name.partition("@")[0]


def _levels(numbers: Mapping[str, float], rows: Sequence[str], *, form: str = "{:.1f}") -> str:
    return " | ".join(form.format(100 * numbers[name]) if name in numbers else "–" for name in rows)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
