"""A trained run in other people's forms: a Hugging Face model folder, QuPath's GeoJSON, AnnData, a task of lmms-eval.

    slidesieve export runs/demo --to hf --method sparselearn --out published/sparselearn
    slidesieve export runs/demo/60_answer_questions/sparselearn_k8_s0 --to qupath --out published/tiles

RUN is an experiment's folder, or that of one stage that answered questions.
"""

import shlex
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer


class Target(StrEnum):
    hf = "hf"
    qupath = "qupath"
    anndata = "anndata"
    lmms_eval = "lmms-eval"


MODULES = {Target.hf: "huggingface", Target.qupath: "qupath", Target.anndata: "anndata", Target.lmms_eval: "lmms_task"}


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="an experiment's folder, or one answering stage's")],
    to: Annotated[
        Target,
        typer.Option(help="hf: a model folder; qupath: a GeoJSON a slide; anndata: one .h5ad; lmms-eval: a task"),
    ],
    out: Annotated[Path, typer.Option(help="folder to write: new, empty or an earlier export")],
    method: Annotated[str, typer.Option(help="which method, where there are several")] = "",
    k: Annotated[int | None, typer.Option(help="of it, the one with so many tokens")] = None,
    seed: Annotated[int | None, typer.Option(help="of it, the one of this seed")] = None,
    include_lm: Annotated[bool, typer.Option("--include-lm", help="hf: the language model too")] = False,
) -> None:
    """Export one run; exit 0 if the folder is there, whole; 2 if what was asked for cannot be."""
    say = lambda text: print(text, flush=True)  # noqa: E731
    words = {"--method": method, "--k": k, "--seed": seed, "--out": out.name}
    given = [str(word) for name, value in words.items() if value not in ("", None) for word in (name, value)]
    shown = run.name if run.is_absolute() else str(run)
    command = shlex.join(["slidesieve", "export", shown, "--to", to, *given, *["--include-lm"] * include_lm])
    try:
        if include_lm and to is not Target.hf:
            raise ValueError(f"--include-lm: got it with --to {to}; expected --to hf; leave it out")
        runs, target = (import_module(f"slidesieve.exports.{name}") for name in ("runs", MODULES[to]))
        found = runs.find_run(run, method=method, k=k, seed=seed)
        for line in target.publish(found, out.resolve(), command=command, include_lm=include_lm):
            say(line)
    except (ValueError, FileNotFoundError) as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    say(f"exported: {out}")
