"""A notebook's cells run in the test's own process: what it writes is that of a kernel, without a kernel's start.

How notebooks run in processes of their own is the matter of test_notebook_runs, test_whole_road and test_flows.
"""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch

from flows.run.notebook import portable
from flows.script import run_cells
from slidesieve.provenance import receipts
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.recipes import recipe_of


class Result(NamedTuple):
    """`status` is ran or failed, `error` why, `printed` what its cells printed or displayed."""

    status: str
    error: str
    printed: str


def run_here(notebook: Path, out_dir: Path, parameters: dict[str, object]) -> Result:
    """Run all cells, the receipt included; an error in a cell is told, not raised."""
    given = parameters | {"out_dir": portable(out_dir)}
    recipe, printed, threads = recipe_of(notebook, given), io.StringIO(), torch.get_num_threads()
    error = ""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), torch.random.fork_rng():
        patch.chdir(ROOT)
        patch.setenv(receipts.NOTEBOOK_VARIABLE, str(notebook))  # put back afterwards
        try:
            run_cells(notebook, given)
        except Exception as fault:
            error = f"{type(fault).__name__}: {fault}"
        finally:
            plt.close("all")
            torch.set_num_threads(threads)
    if not error:
        error = "; ".join(receipts.check(out_dir, recipe))
    return Result("failed" if error else "ran", error, printed.getvalue())
