"""From folders to a cohort: what lies there, whose it is, what can be asked, and the command to run next.

    slidesieve init FOLDER... --questions FILES --labels TABLE --out DIR

FILES are one or many (a folder of them, or several after the option); what is named beside the folders and is itself a
table or JSON counts as one of them. The page is `03_gather_cohort`'s, in DIR.
"""

from pathlib import Path
from typing import Annotated

import typer

from flows.plan.notebooks import NOTEBOOKS
from flows.run.notebook import run_notebook
from flows.run.stops import exit_code, stoppable
from slidesieve.provenance.files import ROOT, hash_file, read_receipt
from slidesieve.provenance.table_files import read_names

NOTEBOOK = NOTEBOOKS / "03_gather_cohort.ipynb"
ASKED = (".json", ".json.gz", ".csv", ".tsv", ".xlsx")
LABELLED = {"slide_id", "case_id", "patient_id"}  # columns that questions do not have


def main(
    folders: Annotated[list[Path], typer.Argument(help="folders of slides, features and packed stores; or files")],
    out: Annotated[Path, typer.Option(help="folder for the manifest, the tables and the page")],
    questions: Annotated[list[Path], typer.Option(help="questions, captions, conversations; a folder of them")] = [],  # noqa: B006
    labels: Annotated[list[Path], typer.Option(help="tables of labels, by slide or patient")] = [],  # noqa: B006
    features: Annotated[str, typer.Option(help="of several kinds of features, the one named so")] = "",
    label: Annotated[str, typer.Option(help="label column to ask for, where there are no questions")] = "",
    corrections: Annotated[str, typer.Option(help="table of corrections of faulty records")] = "",
    only_found: Annotated[bool, typer.Option("--only-found", help="ask about slides that are here alone")] = False,
    tile_px: Annotated[int, typer.Option(help="side of tiles that would be cut")] = 256,
    mpp: Annotated[float, typer.Option(help="micrometres a pixel of these")] = 0.5,
    seed: Annotated[int, typer.Option(help="of who validates, and who is tested if no file says")] = 0,
    source: Annotated[str, typer.Option(help="where the cohort is from, for the manifest")] = "",
) -> None:
    """Find out what lies in folders; exit 0 if there is a cohort, with its page and the next command."""
    say = lambda text: print(text, flush=True)  # noqa: E731
    try:
        places, asked, told = _sorted(folders, questions, labels)
        _check_unedited(out)
        parameters = {
            "folders": places, "questions": asked, "labels": told, "features": features, "label": label,
            "corrections": _absolute(Path(corrections)) if corrections else "", "only_found": only_found,
            "seed": seed, "source": source, "tile_px": tile_px, "mpp": mpp,
        }  # fmt: skip
        with stoppable():
            result = run_notebook(
                NOTEBOOK, out.resolve(), parameters, force=True, on_line=lambda line: say(f"  {line}")
            )
    except (ValueError, FileNotFoundError) as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt as stop:
        raise typer.Exit(exit_code(stop)) from None
    if result.status == "failed":
        why = result.error.partition("\nlast log lines")[0].strip().splitlines() or ["failed"]
        say(f"error: {why[-1]}\nso far: {result.html or result.executed}")
        raise typer.Exit(1)
    say(f"what was found: {result.html}")


def _check_unedited(out: Path) -> None:
    """Refuse to write anew what was changed since: sides that were filled in would be lost."""
    try:
        written = read_receipt(out)["outputs"]
    except (FileNotFoundError, ValueError):  # nothing there that is whole and ours
        return
    files = {name: out / name for name in written if (out / name).is_file()}
    edited = [name for name, path in files.items() if hash_file(path) != written[name]["sha256"]]
    if edited:
        raise ValueError(
            f"{out}: {', '.join(edited)} changed since this command wrote it, and would be written anew; expected it "
            "as it was; give another --out, or move it away to have it made again"
        )


def _sorted(folders: list[Path], questions: list[Path], labels: list[Path]) -> tuple[list[str], ...]:
    """Folders, question files, label tables; a table or JSON named beside the folders is told by its columns."""
    files = [path for path in folders if path.is_file() and path.name.lower().endswith(ASKED)]
    named = [path for path in files if _is_labels(path)]
    asked = [file for path in questions for file in _below(path)] + [path for path in files if path not in named]
    for path in (*asked, *labels):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; correct it")
    rest = [path for path in folders if path not in files]
    if not rest:
        raise ValueError("init: no folder of slides or features among what was given; name one")
    return tuple(list(dict.fromkeys(map(_absolute, paths))) for paths in (rest, asked, [*labels, *named]))


def _below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(ASKED))
    if not found:
        raise ValueError(f"{path}: no file of questions ({', '.join(ASKED)}) in this folder; name another")
    return found


def _is_labels(path: Path) -> bool:
    return not path.name.lower().endswith((".json", ".gz")) and bool(LABELLED & set(read_names(path)))


def _absolute(path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
