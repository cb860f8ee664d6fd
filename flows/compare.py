"""Experiments beside each other: which settings differ, which scores better, and what moved since last time.

    slidesieve compare RUN RUN... --out DIR       the first is what the others are compared with
    slidesieve compare FOLDER --out DIR           all experiments in it, each with the one before it

DIR gets compare.html, compare.csv and runs.csv. Nothing of the experiments is changed or run.
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.report.comparison import KIND, write_comparison
from flows.report.folder import check_report
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.locks import held


def main(
    places: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN... | FOLDER", help="experiments, or a folder of them")
    ],
    out: Annotated[Path, typer.Option(help="folder for the page and the tables")] = Path("runs/compare"),
    pair: Annotated[
        list[str], typer.Option(help="METHOD,OTHER: a method of the first (earlier) beside another of the others'")
    ] = [],  # noqa: B006
    draws: Annotated[int, typer.Option(help="bootstrap resamplings of patients behind each interval")] = 2000,
    seed: Annotated[int, typer.Option(help="of these resamplings")] = 0,
) -> None:
    """Compare finished experiments; exit 0 if there is a page, also where some could not be read or compared."""
    try:
        named, folder = [_two(word) for word in pair], (ROOT / out).resolve()
        check_report(folder, KIND)
        with held(folder):
            told = write_comparison([ROOT / place for place in places], folder, named=named, draws=draws, seed=seed)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", flush=True)
        raise typer.Exit(2) from None
    print(*told, sep="\n", flush=True)


def _two(word: str) -> tuple[str, str]:
    one, comma, other = word.partition(",")
    if not (one and comma and other):
        raise ValueError(f"--pair {word}: write METHOD,OTHER, as sparselearn,sparselearn:gate=vpp")
    return one, other


if __name__ == "__main__":
    typer.run(main)
