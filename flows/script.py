"""A notebook as a plain script, cell after cell in this process: for training on several GPUs, started by hand.

    accelerate launch --num_processes 2 -m flows.script notebooks/50_tune_answers.ipynb --out runs/tuned -p device=cuda

Each process runs every cell. The first one writes to the folder named by --out and leaves the receipt there, as ever;
the others write to folders that are thrown away. `training.loop.fit` finds the processes by itself. With -p device=cpu,
torchrun --nproc_per_node starts them (accelerate launch has no launcher for several on one CPU). There is no executed
copy and no HTML page: those come with flows.notebook, whose parameter `processes` starts them from inside.
"""

import io
import os
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from flows.run.notebook import parse_words, portable
from slidesieve.provenance import receipts
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.folders import check_folder
from slidesieve.provenance.locks import let_go, take
from slidesieve.provenance.parameters import check_stand_ins, read_cells, read_parameters
from slidesieve.provenance.recipes import recipe_of

UP_TO_DATE = "is up to date, not run again"


def main(
    notebook: Annotated[Path, typer.Argument(help="the notebook, e.g. notebooks/50_tune_answers.ipynb")],
    out: Annotated[Path, typer.Option(help="folder for everything this run writes")],
    parameter: Annotated[list[str], typer.Option("-p", help="name=value; repeat for more")] = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="run even if the receipt fits")] = False,
) -> None:
    """Run one notebook in this process, which may be one of several; exit 0 if its receipt fits afterwards."""
    os.environ["MPLBACKEND"] = "agg"
    notebook, out_dir = notebook.resolve(), out.resolve()
    try:
        given = parse_words(notebook, parameter) | {"out_dir": portable(out_dir)}
        check_stand_ins(read_parameters(notebook), given, notebook=notebook.stem)
        recipe = recipe_of(notebook, given)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", flush=True)
        raise typer.Exit(2) from None
    with _process_group(cpu=given.get("device", "cpu") == "cpu") as group:
        reasons = ["asked for"] if force else receipts.check(out_dir, recipe)
        refusal = _refusal(out_dir, notebook) if reasons and group.is_main_process else ""
        reasons, refusal = broadcast_object_list([reasons, refusal])  # before any process voids the receipt
        if group.is_main_process:
            said = f"error: {refusal}" if refusal else f"{notebook.stem}: {'; '.join(reasons) or UP_TO_DATE}"
            print(said, flush=True)
        if reasons and not refusal:
            if group.is_main_process:
                run_cells(notebook, given)
            else:
                with tempfile.TemporaryDirectory(prefix="rank-") as aside, redirect_stdout(io.StringIO()):
                    run_cells(notebook, given | {"out_dir": aside})
    if refusal:
        raise typer.Exit(2)
    faults = receipts.check(out_dir, recipe) if group.is_main_process else []
    if faults:
        print(f"{notebook.stem}: no valid receipt ({'; '.join(faults)})", flush=True)
        raise typer.Exit(1)


def run_cells(notebook: Path, given: dict[str, object]) -> dict[str, object]:
    """Execute a notebook's code cells in order, `given` set after its parameters cell; return its names.

    A traceback names the cell by its place among the code cells. Folders that the cells held are let go at the end.
    """
    os.environ[receipts.NOTEBOOK_VARIABLE] = str(notebook)
    names: dict[str, object] = {"__name__": notebook.stem}
    code = [cell for cell in read_cells(notebook) if cell["cell_type"] == "code"]
    try:
        for number, cell in enumerate(code, start=1):
            exec(compile("".join(cell["source"]), f"<{notebook.name}, code cell {number}>", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names |= given
    finally:
        let_go()
    return names


def _refusal(out_dir: Path, notebook: Path) -> str:
    """Hold the folder for this process; say why not if it is not ours, or another run is at work in it."""
    try:
        check_folder(out_dir, notebook.stem, notebook)
        take(out_dir)
    except ValueError as error:
        return str(error)
    return ""


@contextmanager
def _process_group(*, cpu: bool):
    """This process's place among those of its launcher, on a device of its own; alone if there is none."""
    os.chdir(ROOT)
    group = PartialState(cpu=cpu)
    yield group
    group.wait_for_everyone()
    group.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
