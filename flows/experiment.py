"""A whole experiment as a Prefect flow: manifest + questions x compressors x k x seeds -> report.

    python -m flows.experiment --manifest data/manifest.csv --questions data/questions.csv --out runs/mine --k 8,16

Prefect shows and schedules; receipts decide what has to run. With everything up to date Prefect is not even started.
A server named by PREFECT_API_URL is used if there is one, else a temporary one with its state in .prefect/. Where
neither can be used, the experiment says why and goes on without.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.plan.encoders import told as encoder_told
from flows.plan.graph import Options, plan
from flows.plan.presets import read_preset, words_for
from flows.plan.stages import Stage, changes_of, check_inputs, values_of
from flows.report.artifacts import shown_progress
from flows.report.folder import check_report
from flows.report.index import write_report
from flows.run.board import ELSEWHERE, STATUSES, Board, Outcome, drive, pending, run_stage
from flows.run.notebook import VERIFY_HELP, finish_pages, portable
from flows.run.processes import guard
from flows.run.stops import exit_code, stoppable
from flows.server import Unusable, find, reason
from slidesieve.provenance.files import ROOT, verified
from slidesieve.provenance.locks import held


class StageFailed(Exception):
    """A stage failed: what Prefect shows; the account is on the board."""


def conduct(stages: list[Stage], out: str, *, title: str, workers: int, threads: int = 1, tuning: str = "") -> int:
    """Bring every stage up to date and write the report; return the exit code: 130 after Ctrl-C, 143 after SIGTERM.

    Raises ValueError or FileNotFoundError, before anything runs, if a parameter is wrong, an input absent, or a folder
    not ours to write to.
    """
    check_inputs(stages)
    check_report(ROOT / out / "report")
    guard()
    board, stopped = Board(), 0
    due = pending(stages)
    if due:
        elsewhere = sum(reasons == [ELSEWHERE] for reasons in due.values())
        shared = f" ({elsewhere} by another worker now)" if elsewhere else ""
        board.say(f"{len(due)} of {len(stages)} stages to run{shared}, {workers} at a time")
        board.expect(stages, due, workers=workers)
        try:
            with stoppable():
                run_stages(stages, board, title=title, workers=workers, threads=threads)
        except KeyboardInterrupt as stop:
            board.say("interrupted: the running notebooks are stopped; the next run goes on from here")
            stopped = exit_code(stop)
    else:
        for stage in stages:
            finish_pages(ROOT / stage.out_dir, stage.notebook.stem)
        board.outcomes = {s.id: Outcome("skipped") for s in stages}
        board.say(f"all {len(stages)} stages are up to date: nothing to run")
    index = report_on(stages, board, ROOT / out, title=title, tuning=tuning)
    counts = {s: sum(o.status == s for o in board.outcomes.values()) for s in STATUSES}
    board.say(", ".join(f"{n} {s}" for s, n in counts.items() if n))
    for id, outcome in board.outcomes.items():
        if outcome.status == "failed":
            board.say(f"FAILED {id}: {outcome.error}")
    if index:
        print(index, flush=True)
    return stopped or int(not index or any(counts[status] for status in ("failed", "interrupted", "not run")))


def report_on(stages: list[Stage], board: Board, out: Path, **words: str) -> Path | None:
    """Write the report and return its page; on a disk that is full or takes nothing, say so: the stages stand."""
    try:
        with held(out):
            return write_report(stages, board.outcomes, out, **words)
    except OSError as fault:
        board.say(f"NO REPORT: {type(fault).__name__}: {fault}; make room for it, and run again")
        return None


def print_plan(stages: list[Stage], out: str) -> None:
    """Say what would run, why and at what cost; write OUT/plan.csv."""
    from slidesieve.cost import plan_table  # the models' libraries take seconds to import

    planned = [plan_table.Planned(s.id, values_of(s), changes_of(s), ROOT / s.out_dir) for s in stages]
    due = pending(stages)
    found = plan_table.costs(planned, due)
    plan_table.write_plan(ROOT / out / "plan.csv", plan_table.rows(due, found))
    print(f"{len(due)} of {len(stages)} stages to run", *plan_table.report(planned, due, found), sep="\n")


@contextmanager
def faults_explained() -> Iterator[None]:
    """Say what is wrong with the options or the inputs in a line, and exit 2."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", flush=True)
        raise typer.Exit(2) from error


def run_stages(stages: list[Stage], board: Board, *, title: str, workers: int, threads: int) -> None:
    """Drive the stages under Prefect; where no server can be used, or one fails, say why and go on without."""
    try:
        find()
        run_under_prefect(stages, board, title=title, workers=workers, threads=threads)
    except Unusable as fault:
        board.say(f"without Prefect: {fault}")
        left = [stage for stage in stages if stage.id not in board.outcomes]
        with ThreadPoolExecutor(workers) as pool:
            drive(left, lambda s: pool.submit(run_stage, s, board, threads=threads), board, workers=workers)


def run_under_prefect(stages: list[Stage], board: Board, *, title: str, workers: int, threads: int) -> None:
    """Drive the stages as tasks of one flow, the one that is running if there is one (a deployment's run).

    A failed stage is a failed task, and makes the flow a failed one. Raises Unusable if Prefect fails a flow of ours.
    """
    from prefect import flow, task
    from prefect.context import FlowRunContext
    from prefect.states import Completed, State
    from prefect.task_runners import ThreadPoolTaskRunner

    by_id = {stage.id: stage for stage in stages}

    @task(name="notebook", persist_result=False)
    def notebook(stage_id: str) -> State:
        outcome = run_stage(by_id[stage_id], board, threads=threads)
        if outcome.status in ("failed", "interrupted"):
            raise StageFailed(outcome.error)
        return Completed(name=outcome.status.capitalize() if outcome.status != "ran" else "Completed")

    @flow(name="slidesieve", flow_run_name=title, task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def experiment() -> None:
        submit: Callable[[Stage], Future] = lambda s: notebook.with_options(task_run_name=s.id).submit(s.id)  # noqa: E731
        board.on_end = shown_progress(board)
        drive(stages, submit, board, workers=workers)
        board.on_end()
        failed = [id for id, outcome in board.outcomes.items() if outcome.status == "failed"]
        if failed:
            raise StageFailed(f"failed: {', '.join(failed)}")

    scheduled = FlowRunContext.get() is not None
    try:
        experiment.fn() if scheduled else experiment()
    except StageFailed:
        return  # told by the board, the report and the exit code
    except Exception as error:
        if scheduled:
            raise
        raise Unusable(f"its server failed: {reason(error)}") from error


def main(
    manifest: Annotated[Path, typer.Option(help="data_manifest.csv of the cohort")],
    questions: Annotated[Path, typer.Option(help="question table in SlideBench's columns")],
    out: Annotated[Path, typer.Option(help="folder of the experiment")],
    preset: Annotated[str, typer.Option(help="a paper's values: sparselearn, tcssa or locpath")] = "",
    captions: Annotated[Path | None, typer.Option(help="caption table; without it, the questions align")] = None,
    instructions: Annotated[Path | None, typer.Option(help="what stage 2 trains on, if not the questions")] = None,
    open_questions: Annotated[Path | None, typer.Option(help="questions answered in words, at the test")] = None,
    truth: Annotated[Path | None, typer.Option(help="planted tiles, where known")] = None,
    compressors: Annotated[
        str, typer.Option(help="comma-separated: NAME, or NAME:parameter=value:...; empty: sparselearn")
    ] = "",
    k: Annotated[str, typer.Option(help="tokens kept, comma-separated; empty: 8")] = "",
    seeds: Annotated[str, typer.Option(help="comma-separated")] = "0",
    folds: Annotated[str, typer.Option(help="test folds, where the manifest's split holds fold numbers")] = "-1",
    encoder: Annotated[str, typer.Option(help="vision model's folder or hub id, or stain-texture")] = "",
    llm: Annotated[str, typer.Option(help="causal LM's folder or hub id; empty: the preset's")] = "",
    floors: Annotated[bool, typer.Option(help="also run all, random, mean, text_only")] = True,
    alignment: Annotated[
        bool | None,
        typer.Option("--alignment/--no-alignment", help="align with all tokens before selection (the default)"),
    ] = None,
    workers: Annotated[int, typer.Option(help="notebooks side by side")] = 2,
    threads: Annotated[int, typer.Option(help="threads of each; 0: cores / workers")] = 0,
    shards: Annotated[int, typer.Option(help="shares of the slides that are cut and encoded as stages apart")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda; empty: the notebook's default")] = "",
    parameter: Annotated[list[str], typer.Option("-p", help="name=value or STAGE.name=value, e.g. 50.steps=300")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would run, why, and what it costs")] = False,
    verify: Annotated[bool, typer.Option("--verify", help=VERIFY_HELP)] = False,
) -> None:
    """Run an experiment from a manifest and its questions to a report; exit 0 if every stage is done."""
    with faults_explained():
        values = read_preset(preset)
        asked = tuple((compressors or values.options.get("compressors", "sparselearn")).split(","))
        options = Options(
            manifest=portable(manifest),
            questions=portable(questions),
            out=portable(out),
            captions=portable(captions) if captions else "",
            truth=portable(truth) if truth else "",
            instructions=portable(instructions) if instructions else "",
            open_questions=portable(open_questions) if open_questions else "",
            compressors=asked,
            k=tuple(int(n) for n in (k or values.options.get("k", "8")).split(",")),
            seeds=tuple(int(n) for n in seeds.split(",")),
            folds=tuple(int(n) for n in folds.split(",")),
            encoder=encoder or values.options.get("encoder", ""),
            llm=llm or values.options.get("llm", ""),
            floors=floors,
            alignment=values.options.get("alignment", True) if alignment is None else alignment,
            workers=workers,
            threads=threads or max(1, (os.cpu_count() or 1) // workers),
            device=device,
            shards=shards,
            settings=(*words_for(asked, values.settings), *(() if encoder else values.tiles), *parameter),
        )
        title = f"{Path(options.out).name}: {options.manifest}"
        with verified(verify):
            stages = plan(options)
            if line := encoder_told(stages):
                print(line, flush=True)
            if dry_run:
                print_plan(stages, options.out)
                return
            code = conduct(stages, options.out, title=title, workers=workers, threads=options.threads)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
