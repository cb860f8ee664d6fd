"""What a Prefect server shows beside a run: what was found, scores, slides that failed, and where the report is."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flows.report.findings import findings
from flows.report.folder import PAGE
from flows.report.losses import interval, percent
from flows.report.tables import VERDICTS, read_table, score_rows
from flows.run.board import Board
from slidesieve.answers.names import called

TABLES = ("scores.csv", "over_seeds.csv", *VERDICTS)
MOST_SLIDES = 200


class Shown(NamedTuple):
    """Sentences in Markdown, the scores on all questions, and the slides that failed, the first MOST_SLIDES."""

    found: str
    scores: list[dict[str, str]]
    failed: list[dict[str, str]]


def shown(report: Path) -> Shown:
    """Read a report's folder; where there are no scores the sentences say so."""
    tables = {name: read_table(report / name) for name in TABLES if (report / name).exists()}
    rows = score_rows(tables)
    said = findings(rows, *(tables.get(name, []) for name in VERDICTS))
    told = "\n".join(f"- {sentence}" for sentence in said or ["No scores of this run; the report says why."])
    whole = sorted((row for row in rows if row["group"] == "all"), key=lambda row: -float(row["accuracy"]))
    scores = [
        {"method": called(row["method"]), "k": row["k"], "accuracy": percent(row["accuracy"]), "95 %": interval(row)}
        for row in whole
    ]
    failed = [
        {"stage": ledger.stem.removeprefix("ledger_")} | {name: row[name] for name in ("slide_id", "error", "message")}
        for ledger in sorted(report.glob("ledger_*.csv"))
        for row in read_table(ledger)
        if row["status"] == "failed"
    ]
    return Shown(f"{told}\n\nReport: `{report / PAGE}`", scores, failed[:MOST_SLIDES])


def show(report: Path) -> None:
    """Put `shown` beside the flow run that is running. Prefect's own faults are raised."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    what = shown(report)
    create_markdown_artifact(key="findings", markdown=what.found, description="What was found")
    if what.scores:
        create_table_artifact(key="scores", table=what.scores, description="Scores on all questions")
    if what.failed:
        create_table_artifact(key="failed-slides", table=what.failed, description="Slides that failed, and why")
    create_link_artifact(key="report", link=(report / PAGE).as_uri(), link_text="the report", description="The report")


def shown_progress(board: Board) -> Callable[[], None]:
    """Begin a progress artifact of the flow run that is running; return what brings it up to date.

    A server that does not take it is told of once, and is no fault of the experiment.
    """
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    known: list[object] = []

    def show_now() -> None:
        if (far := board.far()) is None or None in known:
            return
        try:
            if known:
                update_progress_artifact(known[0], far.percent, description=far.told())
            else:
                known.append(create_progress_artifact(far.percent, key="progress", description=far.told()))
        except Exception as error:
            known.insert(0, None)
            board.say(f"no progress in Prefect: {type(error).__name__}: {error}")

    show_now()
    return show_now
