"""One notebook with parameters from a terminal: executed copy, HTML page, log and receipt in one folder.

    slidesieve notebook 50_tune_answers --out runs/manual/50 -p k=8 -p steps=300
    slidesieve notebook 50_tune_answers --help        its parameters, with their help

Relative paths are taken from the repository's root. If the folder's receipt already fits, nothing runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.plan.notebooks import described, listed, notebook_named
from flows.run.notebook import VERIFY_HELP, parse_words, run_notebook
from flows.run.stops import exit_code, stoppable
from slidesieve.provenance.files import verified
from slidesieve.provenance.locks import holder


class NotebookCommand(typer.core.TyperCommand):
    """A command whose --help goes on with the parameters of the notebook that is named, or with all notebooks."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: typer.Context, formatter) -> None:
        super().format_help(ctx, formatter)
        word = next((word for word in ctx.meta.get("words", ()) if not word.startswith("-")), "")
        try:
            formatter.write(described(notebook_named(word)) if word else listed())
        except (ValueError, FileNotFoundError) as error:
            formatter.write(f"error: {error}")


def main(
    name: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="10_tile_slides, or a path to a notebook")],
    out: Annotated[Path, typer.Option(help="folder for everything this run writes")],
    parameter: Annotated[list[str], typer.Option("-p", help="name=value; repeat for more")] = [],  # noqa: B006
    timeout_s: Annotated[float, typer.Option(help="stop the notebook after so many seconds; 0 = never")] = 0.0,
    threads: Annotated[int, typer.Option(help="threads of BLAS and OpenMP; 0 = all cores")] = 0,
    force: Annotated[bool, typer.Option("--force", help="run even if the receipt fits")] = False,
    verify: Annotated[bool, typer.Option("--verify", help=VERIFY_HELP)] = False,
) -> None:
    """Run one notebook as a stage; exit 0 if its receipt fits afterwards, 130 after Ctrl-C, 143 after SIGTERM."""
    say = lambda text: print(text, flush=True)  # noqa: E731
    try:
        notebook = notebook_named(name)
        at_it = lambda: f"another worker is at it in {out} ({holder(out)}); waiting for it"  # noqa: E731
        with verified(verify), stoppable():
            result = run_notebook(
                notebook,
                out.resolve(),
                parse_words(notebook, parameter),
                timeout_s=timeout_s or None,
                force=force,
                threads=threads,
                on_start=lambda reasons: say(f"{notebook.stem}: runs ({'; '.join(reasons)})"),
                on_line=lambda line: say(f"  {line[:160]}"),
                on_wait=lambda: say(f"{notebook.stem}: {at_it()}"),
            )
    except (ValueError, FileNotFoundError) as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stop:
        say(f"{notebook.stem}: interrupted; the next run goes on from here")
        raise typer.Exit(exit_code(stop)) from None
    if result.status == "failed":
        say(f"{notebook.stem}: failed in {result.seconds:.0f} s\n{result.error}\nexecuted so far: {result.executed}")
        raise typer.Exit(1)
    done = f"done in {result.seconds:.0f} s"
    if result.status == "skipped":
        done = "; ".join(result.reasons) or "is up to date, not run again"
    say(f"{notebook.stem}: {done}: {result.html}")


app = typer.Typer(add_completion=False)
app.command(cls=NotebookCommand)(main)

if __name__ == "__main__":
    app()
