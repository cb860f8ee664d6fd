"""What Prefect's workers run, named by prefect.yaml: a whole experiment, and one notebook. Only Prefect imports this.

A run does what `python -m flows.experiment` and `python -m flows.notebook` do, and fails where they exit other than 0.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import get_args, get_type_hints

import typer
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.context import FlowRunContext
from prefect.states import Completed, Crashed, Failed, State

from flows.experiment import main
from flows.plan.notebooks import NOTEBOOKS
from flows.report.artifacts import show
from flows.run.notebook import run_notebook
from slidesieve.provenance.files import ROOT, read_json
from slidesieve.provenance.locks import Held, held, holder

FLOW = "slidesieve"
RERUN = ".rerun"  # in the folder of an experiment: the lock of its scheduled runs
RUNNING = {"type": {"any_": ["RUNNING"]}}
NUMBERS = ("k", "seeds", "folds")  # comma-separated texts; Prefect's `-p k=8` gives a number


def as_flow(command: Callable[..., None], *, run: Callable[..., State], **options: object) -> Flow:
    """Make a flow of `run` with a command's options as its parameters: the same names, types, defaults and help."""
    described, bare = get_type_hints(command, include_extras=True), get_type_hints(command)
    parameters = {
        name: p.replace(annotation=str | int if name in NUMBERS else bare[name], kind=p.KEYWORD_ONLY)
        for name, p in inspect.signature(command).parameters.items()
    }
    run.__signature__ = inspect.Signature(list(parameters.values()))
    helps = [f"    {name}: {get_args(described[name])[1].help}" for name in parameters]
    run.__doc__ = "\n".join([run.__doc__, "", "Args:", *helps])
    return flow(name=FLOW, log_prints=True, **options)(run)


def run_experiment(**options: object) -> State:
    """Run an experiment from a manifest and its questions to a report."""
    close_lost_tasks()
    report = ROOT / Path(str(options["out"])) / "report"
    try:
        main(**options | {name: str(options[name]) for name in NUMBERS if name in options})
    except typer.Exit as end:
        if end.exit_code != 2 and (report / "index.html").exists():
            show_findings(report)
        if end.exit_code == 2:
            return Failed(message=f"error: {end.__cause__}")
        if end.exit_code:
            return Failed(message=_failures(report))
    return Completed()


def show_findings(report: Path) -> None:
    """Put what was found beside the run; that Prefect cannot take it is no fault of the experiment."""
    try:
        show(report)
    except Exception as error:
        print(f"not shown beside this run: {type(error).__name__}: {error}")


experiment = as_flow(main, run=run_experiment, flow_run_name="{out}: {manifest}")


def run_again(**options: object) -> State:
    """Run an experiment that is due again and again; end at once while its last run is still at work.

    By a lock on the shared folder, not by a server's lease: the lock ends with its process, and only with it.
    """
    own = ROOT / Path(str(options["out"])) / RERUN

    def turn_back() -> None:
        raise Held(f"{options['out']}: its last run is still at work ({holder(own)})")

    try:
        with held(own, on_wait=turn_back):
            return run_experiment(**options)
    except Held as told:
        return Completed(name="Skipped", message=str(told))


rerun = as_flow(main, run=run_again, flow_run_name="{out}: {manifest}")


@flow(name=FLOW, flow_run_name="{out}: {path}", log_prints=True)
def notebook(
    path: str,
    out: str,
    parameters: dict[str, object] = {},  # noqa: B006
    timeout_s: float = 0.0,
    threads: int = 0,
    force: bool = False,
) -> State:
    """Run one notebook as a stage.

    Args:
        path: one of the project's notebooks, e.g. notebooks/10_tile_slides.ipynb
        out: folder for everything this run writes
        parameters: the notebook's own that differ from its defaults
        timeout_s: stop the notebook after so many seconds; 0 = never
        threads: threads of BLAS and OpenMP; 0 = all cores
        force: run even if the receipt fits
    """
    name = Path(path).stem
    try:
        result = run_notebook(
            own_notebook(path),
            ROOT / out,
            parameters,
            timeout_s=timeout_s or None,
            threads=threads,
            force=force,
            on_start=lambda reasons: print(f"{name}: runs ({'; '.join(reasons)})"),
            on_line=lambda line: print(f"  {line[:160]}"),
            on_wait=lambda: print(f"{name}: another worker is at it in {out}; waiting for it"),
        )
    except (ValueError, FileNotFoundError) as error:
        return Failed(message=f"error: {error}")
    if result.status == "failed":
        return Failed(message=result.error)
    reason = "; ".join(result.reasons) or "up to date"
    return Completed(name="Skipped", message=reason) if result.status == "skipped" else Completed(message=reason)


def own_notebook(path: str) -> Path:
    """Return the notebook that a run names. Raises ValueError if it does not lie in notebooks/, its links followed.

    Whoever may start a run may not thereby run any file that the worker can read.
    """
    found = (ROOT / path).resolve()
    if found.suffix != ".ipynb" or found.parent != NOTEBOOKS.resolve():
        raise ValueError(
            f"path: got {path!r}, which is no notebook in notebooks/; a worker runs only those, "
            "e.g. notebooks/10_tile_slides.ipynb"
        )
    return found


def close_lost_tasks() -> None:
    """Mark as crashed what an earlier, killed attempt of this run left running; Prefect itself would never do so."""
    context = FlowRunContext.get()
    if not context:
        return
    run = FlowRunFilter(id={"any_": [context.flow_run.id]})
    with get_client(sync_client=True) as client:
        for lost in client.read_task_runs(flow_run_filter=run, task_run_filter=TaskRunFilter(state=RUNNING)):
            client.set_task_run_state(lost.id, Crashed(message="its worker died"), force=True)


def _failures(report: Path) -> str:
    """Name the stages that failed and where to read why."""
    rows = []
    with suppress(FileNotFoundError, ValueError):  # without it, the page still tells
        rows = read_json(report / "stages.json")
    failed = [row["id"] for row in rows if row["status"] in ("failed", "interrupted")]
    return f"failed: {', '.join(failed) or 'not every stage was run'}; see {report / 'index.html'}"
