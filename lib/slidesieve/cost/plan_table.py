"""A plan before it is paid for: what each stage that is due costs, as a table to read and one to keep.

    stage,why,optimiser_steps,training_tokens,validation_tokens,checkpoint_bytes,peak_bytes,operations

Cells of stages that neither train nor answer are empty.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from slidesieve.cost.plan_cost import Cost, stage_cost
from slidesieve.cost.plan_pretraining import pretraining_cost
from slidesieve.cost.plan_sizes import inherited, language_model, saved_values
from slidesieve.cost.plan_work import fed_alike, local_or_id, read_data
from slidesieve.models.options import defaults_of
from slidesieve.provenance.files import resolve, written_whole

COUNTED = (
    "optimiser_steps", "training_tokens", "validation_tokens", "checkpoint_bytes", "peak_bytes", "operations"
)  # fmt: skip
KINDS = ("30", "40", "50", "60")


class Planned(NamedTuple):
    """A stage as planned: each parameter's value, those that differ from the notebook's defaults, its folder."""

    id: str
    values: Mapping[str, object]
    changed: Mapping[str, object]
    folder: Path


def costs(stages: Sequence[Planned], due: Mapping[str, Sequence[str]]) -> dict[str, Cost]:
    """Each due stage's cost; of all stages are needed what models start from. `due` gives ids and reasons."""
    found, made, fed = {}, {}, {}
    complete = not any(id.startswith("20_") for id in due)
    for stage in stages:
        kind = stage.id[:2]
        values = _with_options(stage.values)
        if kind in ("40", "50", "60"):
            values = _with_model(values, made)
        made[stage.folder] = values
        if stage.id not in due or kind not in KINDS:
            continue
        if (alike := fed_alike(kind, values)) not in fed:
            fed[alike] = read_data(kind, values, complete=complete)
        data = fed[alike]
        if kind == "30":
            found[stage.id] = pretraining_cost(values, data)
        else:
            found[stage.id] = stage_cost(kind, values, data, language_model(local_or_id(str(values["lm"]))))
    return found


def _with_options(values: Mapping[str, object]) -> dict[str, object]:
    """A stage's values, its compressor's options among them, given or their defaults."""
    known = defaults_of(str(values["compressor"])) if "options" in values else {}
    own = {name: value for name, value in (known | dict(values.get("options", {}))).items() if value is not None}
    return {**own, **values}


def _with_model(values: dict[str, object], made: Mapping[Path, Mapping[str, object]]) -> dict[str, object]:
    start = values.get("checkpoint") or values.get("start")
    if not start:
        return values
    folder = resolve(str(start))
    return inherited(values, made[folder] if folder in made else saved_values(folder))


def rows(due: Mapping[str, Sequence[str]], found: Mapping[str, Cost]) -> list[dict[str, object]]:
    """One row a due stage; a number that is not known is None."""
    return [
        {"stage": id, "why": "; ".join(why)} | {name: getattr(found.get(id, Cost()), name) for name in COUNTED}
        for id, why in due.items()
    ]


def write_plan(path: Path, table: Sequence[Mapping[str, object]]) -> None:
    """Write the table of what is to be paid. Raises ValueError if another file than a former plan lies there."""
    head = ["stage", "why", *COUNTED]
    if path.exists() and path.read_bytes().partition(b"\r\n")[0] != ",".join(head).encode():
        raise ValueError(
            f"{path}: is no plan of slidesieve's; a plan would take its place; move it, or choose another out"
        )
    with written_whole(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        writer.writerows(table)


def report(stages: Sequence[Planned], due: Mapping[str, Sequence[str]], found: Mapping[str, Cost]) -> list[str]:
    """The lines to read: why, numbers and totals; then what differs from the defaults; then assumptions, warnings."""
    table = rows(due, found)
    lines = _aligned([HEAD, *(_cells(row, found) for row in table), ["total", *_totals(table)]])
    lines += ["", "why"] + [f"  {row['stage']}: {row['why']}" for row in table]
    lines += ["", "what differs from the notebooks' defaults"]
    for stage in stages:
        if stage.id in due:
            lines.append(f"  {stage.id}: " + (", ".join(f"{n}={v}" for n, v in stage.changed.items()) or "nothing"))
    assumed = dict.fromkeys(word for cost in found.values() for word in cost.assumed)
    lines += ["", *(f"assumed: {word}" for word in assumed), *warnings(stages, found)]
    return [line.rstrip() for line in lines]


def warnings(stages: Sequence[Planned], found: Mapping[str, Cost]) -> list[str]:
    """One line a device that is too small for some stage."""
    lines = []
    for device in ("cuda", "cpu"):
        there, name = memory(device)
        peaks = {s.id: found[s.id].peak_bytes or 0 for s in stages if s.id in found and s.values["device"] == device}
        worst = max(peaks, key=peaks.get, default=None)
        if worst and peaks[worst] > there:
            n = sum(peak > there for peak in peaks.values())
            lines.append(
                f"warning: {name}: too little for {n} stage{'s' * (n > 1)}; {worst} needs {scaled(peaks[worst], 'B')}; "
                "lower max_tiles or batch_tokens, or use a larger machine"
            )
    return lines


def memory(device: str) -> tuple[int, str]:
    """Bytes of the device at hand, and what to call it."""
    if device == "cuda" and not torch.cuda.is_available():
        return 0, "no GPU is at hand"
    there = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else psutil.virtual_memory().total
    name = torch.cuda.get_device_name() if device == "cuda" else "main memory"
    return there, f"{name} has {scaled(there, 'B')}"


HEAD = ["stage", "steps", "training tokens", "validation tokens", "checkpoint", "peak", "operations"]


def _cells(row: Mapping[str, object], found: Mapping[str, Cost]) -> list[str]:
    unknown = "unknown" if row["stage"] in found and found[row["stage"]].peak_bytes is None else ""
    return [str(row["stage"]), *(scaled(row[name], UNITS[name], unknown) for name in COUNTED)]


def _totals(table: Sequence[Mapping[str, object]]) -> list[str]:
    """Sums; of peaks the highest."""
    known = {name: [row[name] for row in table if row[name] is not None] for name in COUNTED}
    return [scaled(max(v, default=0) if n == "peak_bytes" else sum(v), UNITS[n]) for n, v in known.items()]


UNITS = dict.fromkeys(COUNTED, "") | {"checkpoint_bytes": "B", "peak_bytes": "B", "operations": "FLOP"}


def scaled(number: object, unit: str = "", empty: str = "") -> str:
    """A number to read: 1,234 as it is, then with k, M, G, T, P, E before its unit."""
    if number is None:
        return empty
    value, prefix = float(number), ""
    for larger in ("k", "M", "G", "T", "P", "E"):
        if value < 10_000:
            break
        value, prefix = value / 1000, larger
    return f"{value:,.0f} {prefix}{unit}".strip()


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    first, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]) for row in table]
