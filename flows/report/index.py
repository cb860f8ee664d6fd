"""The report: one folder with an index.html that gathers scores, selection, stages and slides, and opens anywhere.

Everything that index.html links to is copied into the folder; links are relative; nothing is fetched. What it shows is
of this run, or was up to date in it: where the comparison did not end well, there are no scores.
"""

import re
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import DictLoader, Environment, StrictUndefined

from flows.plan.stages import Stage
from flows.report.cases import cases
from flows.report.findings import findings
from flows.report.folder import PAGE, REPORT, ROWS, swapped_in
from flows.report.losses import losses
from flows.report.setting import caution, example, setting
from flows.report.tables import (
    VERDICTS,
    in_words,
    open_groups,
    over_seeds,
    read_table,
    readable,
    score_groups,
    score_rows,
    verdict_groups,
    with_names,
)
from flows.report.training import training_rows
from flows.report.words import FIGURES
from flows.run.board import DONE, STATUSES, Outcome
from slidesieve.provenance import places
from slidesieve.provenance.files import RECEIPT, ROOT, read_json, write_json, written_whole

TEMPLATES = Path(__file__).parents[1] / "templates"
NAMES = ("index.html.j2", "compare.html.j2", "marks.html.j2", "style.css")
READ = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in NAMES}
TABLES = ("scores.csv", "over_seeds.csv", *VERDICTS, "selection.csv", "auc.csv", "open_scores.csv")
BACK = '<p class="small"><a href="../index.html">back to the report</a></p>'
NEVER_RAN = "never ran"  # a receipt's word for what has none
MOST_REASONS = 3  # told of a stage; its log has all
SHOWN = 88 / 130  # px of a page for a pixel of a figure: as notebooks show them
WHEN = "%d %B %Y, %H:%M %Z"


class Picture(NamedTuple):
    """A figure beside the page, and how wide it is shown, in px."""

    name: str
    width: int


def write_report(stages: list[Stage], outcomes: dict[str, Outcome], out: Path, *, title: str, tuning: str = "") -> Path:
    """Write out/report/ from what the stages left in their folders; return the path of its index.html.

    `tuning` says how recipes were chosen.

    Raises ValueError if there is a folder of that name that is not ours.
    """
    with swapped_in(out / REPORT) as folder:
        _write(stages, outcomes, folder, title=title, tuning=tuning)
    return out / REPORT / PAGE


def _write(stages: list[Stage], outcomes: dict[str, Outcome], folder: Path, *, title: str, tuning: str) -> None:
    (folder / "notebooks").mkdir(parents=True)
    became = {stage.id: outcomes.get(stage.id, Outcome("not run")) for stage in stages}
    rows = [_stage_row(stage, became[stage.id], folder) for stage in stages]
    compared = became[stages[-1].id].status in DONE and _receipt(stages[-1]) is not None
    tables = _copy_tables(stages[-1], folder) if compared else {}
    scores, rivals, floors = score_rows(tables), tables.get("best_rival.csv", []), tables.get("best_floor.csv", [])
    page = rendered(
        "index.html.j2",
        title=title,
        counts=Counter(row["status"] for row in rows),
        statuses=STATUSES,
        stages=rows,
        findings=findings(scores, *(tables.get(name, []) for name in VERDICTS)),
        caution=caution(stages),
        setting=setting(stages),
        example=example(stages) if compared else None,
        cases=cases([s for s in stages if became[s.id].status in DONE], folder) if compared else [],
        scores=score_groups(scores, losses(scores, floors)),
        no_scores=_no_scores(stages[-1], became[stages[-1].id]),
        verdicts=verdict_groups(rivals),
        selection=in_words(over_seeds(tables.get("selection.csv", []), "recall")),
        training=with_names(training_rows(stages)),
        tuning=tuning,
        auc=with_names(over_seeds(tables.get("auc.csv", []), "auc")),
        words=open_groups(tables.get("open_scores.csv", [])),
        ledgers=[row for s in stages if became[s.id].status != "not run" and (row := ledger_row(s, folder))],
        figures=_copy_figures(stages[-1], folder) if compared else [],
    )
    with written_whole(folder / PAGE) as aside:
        aside.write_text(page, encoding="utf-8")
    write_json(folder / ROWS, rows)


def rendered(template: str, **values: object) -> str:
    """A page of these values, of the templates as they were when the code was read; all text is escaped."""
    environment = Environment(
        loader=DictLoader(READ),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = readable
    when = datetime.now().astimezone().strftime(WHEN)
    return environment.get_template(template).render(**values, style=READ["style.css"], when=when)


def ledger_row(stage: Stage, folder: Path) -> dict[str, object] | None:
    """Count a stage's slides by status, list the faults, and copy its ledger; None if it has none."""
    source = ROOT / stage.out_dir / "ledger.csv"
    if not source.exists() or any("slide_id" not in row for row in read_table(source)[:1]):
        return None
    target = folder / f"ledger_{stage.id.replace('/', '-')}.csv"
    target.write_text(places.without_places(source.read_text(encoding="utf-8")), encoding="utf-8")
    rows = {row["slide_id"]: row for row in read_table(target)}.values()
    faults = [row for row in rows if row["status"] != "ok"]
    return {"stage": stage.id, "counts": Counter(r["status"] for r in rows), "faults": faults, "file": target.name}


def _stage_row(stage: Stage, outcome: Outcome, folder: Path) -> dict[str, object]:
    """Gather what the index says about a stage, and copy its page."""
    html = outcome.html or (_page_of(stage) if outcome.status in DONE else None)
    link = ""
    if html and html.exists():
        link = f"notebooks/{stage.id.replace('/', '-')}.html"
        page = html.read_text(encoding="utf-8")
        (folder / link).write_text(_with_way_back(page), encoding="utf-8")
    receipt = (_receipt(stage) if outcome.status in DONE else None) or {}
    return {
        "id": stage.id,
        "status": outcome.status,
        "why": _why(outcome),
        "error": places.without_places(outcome.error),
        "seconds": receipt.get("seconds", round(outcome.seconds, 1)),
        "memory_mib": receipt.get("peak_memory_mib", ""),
        "finished": receipt.get("finished", ""),
        "digest": receipt.get("digest", ""),
        "link": link,
    }


def _with_way_back(page: str) -> str:
    head, main, rest = re.split(r"(<main[^>]*>)", page, maxsplit=1) if "<main" in page else ("", "", page)
    return f"{head}{main}{BACK}{rest}"


def _why(outcome: Outcome) -> str:
    """Say in a line why a stage ran, was skipped, or failed."""
    if outcome.error:
        return " ".join(places.without_places(outcome.error).partition("\nlast log lines")[0].split())
    reasons = ["first run" if reason == NEVER_RAN else reason for reason in outcome.reasons]
    more = f"; and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    return "; ".join(reason.partition(" (code of")[0] for reason in reasons[:MOST_REASONS]) + more or (
        "up to date" if outcome.status == "skipped" else ""
    )


def _receipt(stage: Stage) -> dict | None:
    """What a stage's receipt says; None if it has none that can be read."""
    try:
        told = read_json(ROOT / stage.out_dir / RECEIPT)
    except (FileNotFoundError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _no_scores(last: Stage, outcome: Outcome) -> str:
    """Say why there are no scores of this run, and where those of an earlier one lie, and of when."""
    if outcome.status in DONE:
        return f"No scores: {last.id} has written none."
    became = {"not run": "did not run", "interrupted": "was interrupted"}.get(outcome.status, "failed")
    said = f"No scores of this run: {last.id} {became}."
    tables = [path for name in TABLES if (path := ROOT / last.out_dir / name).exists()]
    if not tables:
        return said
    finished = (_receipt(last) or {}).get("finished")
    when = datetime.fromisoformat(finished) if finished else datetime.fromtimestamp(tables[0].stat().st_mtime, UTC)
    return f"{said} Those of an earlier run, of {when.astimezone().strftime(WHEN)}, lie in {last.out_dir}."


def _page_of(stage: Stage) -> Path | None:
    path = ROOT / stage.out_dir / f"{stage.notebook.stem}.html"
    return path if path.exists() else None


def _copy_tables(last: Stage, folder: Path) -> dict[str, list[dict[str, str]]]:
    """Copy the last stage's tables beside the index and read them."""
    tables = {}
    for name in TABLES:
        if (path := ROOT / last.out_dir / name).exists():
            shutil.copy(path, folder / name)
            tables[name] = read_table(path)
    return tables


def _copy_figures(last: Stage, folder: Path) -> list[tuple[Picture, str]]:
    """Copy the last stage's figures; return them and what they show, those that have words first."""
    figures = sorted((ROOT / last.out_dir).rglob("*.png"))
    for figure in figures:
        shutil.copy(figure, folder / figure.name)
    names = sorted((f.name for f in figures), key=lambda name: [*FIGURES, name].index(name))
    return [(_picture(folder / name), FIGURES.get(name, Path(name).stem.replace("_", " "))) for name in names]


def _picture(path: Path) -> Picture:
    """A PNG as its page shows it: all in one scale, so that words in them are of one size."""
    pixels = int.from_bytes(path.read_bytes()[16:20], "big")  # of the width, in the header of every PNG
    return Picture(path.name, round(pixels * SHOWN))
