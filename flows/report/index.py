"""The report: one folder with an index.html that gathers scores, selection, stages and slides, and opens anywhere.

Everything that index.html links to is copied into the folder; links are relative; nothing is fetched.
"""

import csv
import json
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.plan.stages import Stage
from flows.run.board import Outcome
from slidesieve.compressors.registry import FLOORS
from slidesieve.provenance.files import ROOT, write_json
from slidesieve.provenance.receipts import RECEIPT

TEMPLATES = Path(__file__).parents[1] / "templates"
TABLES = ("scores.csv", "selection.csv", "auc.csv")
GREY_ROWS = (*FLOORS, "majority", "longest", "chance")


def write_report(stages: list[Stage], outcomes: dict[str, Outcome], out: Path, *, title: str) -> Path:
    """Write out/report/ from what the stages left in their folders; return the path of its index.html."""
    folder = out / "report"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    rows = [_stage_row(stage, outcomes.get(stage.id, Outcome("not run")), folder) for stage in stages]
    tables = _copy_tables(stages, folder)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = readable
    page = environment.get_template("index.html.j2").render(
        title=title,
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        when=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        counts=Counter(row["status"] for row in rows),
        stages=rows,
        scores=score_groups(tables.get("scores.csv", [])),
        selection=tables.get("selection.csv", []),
        auc=tables.get("auc.csv", []),
        ledgers=[row for stage in stages if (row := ledger_row(stage, folder))],
        figures=_copy_figures(stages, folder),
    )
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8")
    write_json(folder / "stages.json", rows)
    return index


def score_groups(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Order scores for reading: evidence, then all, then the other groups; each best method first."""
    groups = sorted({row["group"] for row in rows}, key=lambda g: (g != "evidence", g != "all", g))
    return [{"name": g, "rows": sorted(map(_score, _of(rows, g)), key=lambda s: -s["accuracy"])} for g in groups]


def ledger_row(stage: Stage, folder: Path) -> dict[str, object] | None:
    """Count a stage's slides by status, list the faults, and copy its ledger; None if it has none."""
    source = ROOT / stage.out_dir / "ledger.csv"
    if not source.exists():
        return None
    rows = {row["slide_id"]: row for row in read_table(source)}.values()
    target = folder / f"ledger_{stage.id.replace('/', '-')}.csv"
    shutil.copy(source, target)
    faults = [row for row in rows if row["status"] != "ok"]
    return {"stage": stage.id, "counts": Counter(r["status"] for r in rows), "faults": faults, "file": target.name}


def readable(text: str) -> str:
    """Round a table's number to three decimals; leave words and whole numbers as they are."""
    try:
        return text if text.lstrip("-").isdigit() else f"{float(text):.3f}"
    except ValueError:
        return text


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a CSV as rows of strings."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _stage_row(stage: Stage, outcome: Outcome, folder: Path) -> dict[str, object]:
    """Gather what the index says about a stage, and copy its page."""
    html = outcome.html or _page_of(stage)
    link = ""
    if html and html.exists() and outcome.status != "not run":
        link = f"notebooks/{stage.id.replace('/', '-')}.html"
        shutil.copy(html, folder / link)
    path = ROOT / stage.out_dir / RECEIPT
    receipt = json.loads(path.read_text()) if path.exists() and outcome.status != "not run" else {}
    return {
        "id": stage.id,
        "status": outcome.status,
        "why": _why(outcome),
        "error": outcome.error,
        "seconds": receipt.get("seconds", round(outcome.seconds, 1)),
        "memory_mib": receipt.get("peak_memory_mib", ""),
        "finished": receipt.get("finished", ""),
        "digest": receipt.get("digest", ""),
        "link": link,
    }


def _why(outcome: Outcome) -> str:
    """Say in a line why a stage ran, was skipped, or failed."""
    if outcome.error:
        return " ".join(outcome.error.partition("\nlast log lines")[0].split())
    return "; ".join(outcome.reasons) or ("up to date" if outcome.status == "skipped" else "")


def _page_of(stage: Stage) -> Path | None:
    path = ROOT / stage.out_dir / f"{stage.notebook.stem}.html"
    return path if path.exists() else None


def _copy_tables(stages: list[Stage], folder: Path) -> dict[str, list[dict[str, str]]]:
    """Copy the last stage's tables beside the index and read them; a stage without a receipt has none to show."""
    last = ROOT / stages[-1].out_dir
    tables = {}
    for name in TABLES if (last / RECEIPT).exists() else ():
        if (last / name).exists():
            shutil.copy(last / name, folder / name)
            tables[name] = read_table(last / name)
    return tables


def _copy_figures(stages: list[Stage], folder: Path) -> list[str]:
    """Copy the last stage's figures; return their names in order."""
    last = ROOT / stages[-1].out_dir
    figures = sorted(last.rglob("*.png")) if (last / RECEIPT).exists() else []
    for figure in figures:
        shutil.copy(figure, folder / figure.name)
    return [figure.name for figure in figures]


def _of(rows: list[dict[str, str]], group: str) -> list[dict[str, str]]:
    return [row for row in rows if row["group"] == group]


def _score(row: dict[str, str]) -> dict[str, object]:
    numbers = {n: float(row[n]) for n in ("accuracy", "ci_low", "ci_high", "coverage")}
    floor = row["method"].startswith(GREY_ROWS) or row["method"].endswith("_wrong_slide")
    return row | numbers | {"floor": floor}
