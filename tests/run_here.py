"""A notebook's cells run in the test's own process: what it writes is that of a kernel, without a kernel's start.

How notebooks run in processes of their own is the matter of test_notebook_runs, test_whole_road and test_flows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from flows.run.notebook import portable
from slidesieve.figures import style
from slidesieve.provenance import receipts
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.locks import let_go
from slidesieve.provenance.parameters import read_cells
from slidesieve.provenance.recipes import recipe_of


class Result(NamedTuple):
    """`status` is ran or failed, `error` why, `printed` what its cells printed."""

    status: str
    error: str
    printed: str


def run_here(notebook: Path, out_dir: Path, parameters: dict[str, object]) -> Result:
    """Run all cells, the receipt included, and render what they display; an error in a cell is told, not raised."""
    given = parameters | {"out_dir": portable(out_dir)}
    recipe, error = recipe_of(notebook, given), ""
    with _as_in_a_kernel(notebook) as shell, capture_output() as output:
        for cell in (c for c in read_cells(notebook) if c["cell_type"] == "code"):
            result = shell.run_cell("".join(cell["source"]))
            if fault := result.error_before_exec or result.error_in_exec:
                error = f"{type(fault).__name__}: {fault}"
                break
            if "parameters" in cell["metadata"].get("tags", []):
                shell.user_ns.update(given)
    if not error:
        error = "; ".join(receipts.check(out_dir, recipe))
    return Result("failed" if error else "ran", error, output.stdout)


@contextmanager
def _as_in_a_kernel(notebook: Path) -> Iterator[InteractiveShell]:
    """A shell at the root, without history; afterwards all is as it was."""
    threads, shell = torch.get_num_threads(), InteractiveShell.instance()
    shell.history_manager.enabled = False
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(ROOT)
        patch.setenv(receipts.NOTEBOOK_VARIABLE, str(notebook))
        patch.setattr(style, "DPI", 40)  # drawn all the same, in a third of the time
        try:
            yield shell
        finally:
            let_go()
            plt.close("all")
            torch.set_num_threads(threads)
            InteractiveShell.clear_instance()
