"""The league: every method beside its rivals and floors on mosaics of real slides, from packed stores to the report.

    python -m flows.league --stores shared/mil --labels kidney.csv,lung.csv --tokens 156 --k 8,32 --out runs/league156

Mosaics and a language model that knows their words are made first; then the plan is printed with its cost, and the
experiment is run. With `--trials` it is not the league that is run, but as many recipes of every method, asked about
validation bags of another seed; `--tuned OUT/80_compare_methods/over_seeds.csv` then gives each method its best.
"""

import csv
import os
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from flows.demo import TOY_SIZES
from flows.experiment import conduct, faults_explained, print_plan
from flows.plan.graph import Options, plan
from flows.plan.methods import parse_method
from flows.plan.notebooks import NOTEBOOKS
from flows.plan.stages import Stage, make_stage
from flows.run.notebook import portable
from slidesieve.compressors.registry import FLOORS, TRAINING_FREE, WITHOUT_K

LEARNED = ("attention_topk", "cropr", "sparselearn", "sieve", "tcssa", "locpath")
MODEL = "store/llm/mosaics"
READ_WHOLE = 156  # tokens of the bags on which reading is learnt; longer ones are never read whole
SPAN = 512  # places that the language model has learnt to tell apart, or nearly so many
LENGTHS = {  # tokens of a bag: what else 07 is told
    READ_WHOLE: {"bags": [8000, 50, 100]},
    1000: {"bags": [4000, 80, 120], "fillers_again": True},
    4000: {"bags": [1000, 16, 80], "fillers_again": True, "numbers": [6]},
}
READ = {"manifest": "manifest", "captions": "questions"}  # tables of those on which reading is learnt
TRIAL_SEED = 1  # of the bags on which recipes are tried; patients of a test bag are in none of them
TRIALS = ("", ":lr_projector=0.001:lr_compressor=0.001")  # recipes, the same for every method
TUNED = f"Of {len(TRIALS)} recipes each method has that with more right answers about validation bags of another seed."
UNTUNED = "Nothing was tuned: every method has the first recipe."
SETTINGS = (  # of every method: steps, and learning rates; others that are tried stand in TRIALS
    "beta2=0.98",
    "lr_compressor=0.0003",
    "40_align_captions/all.whole_steps=1000",
    "40.criterion=1",
    "40.steps=300",
    "40.evaluations=4",
    "50.steps=400",
    "50.evaluations=4",
    "60.generate=0",
)


def main(
    stores: Annotated[Path, typer.Option(help="folder of packed feature stores (.h5), a kind of tissue each")],
    out: Annotated[Path, typer.Option(help="folder of the experiment")],
    labels: Annotated[str, typer.Option(help="comma-separated label tables; empty: no subtypes are asked for")] = "",
    subtype: Annotated[str, typer.Option(help="their column of subtypes")] = "oncotree_code",
    shuffled: Annotated[bool, typer.Option(help="tokens of a bag in random order; else as pieces were joined")] = True,
    tokens: Annotated[int, typer.Option(help=f"of each bag: {', '.join(map(str, LENGTHS))}")] = 156,
    k: Annotated[str, typer.Option(help="tokens kept, comma-separated")] = "8,32",
    seeds: Annotated[str, typer.Option(help="comma-separated")] = "0,1,2,3,4",
    compressors: Annotated[str, typer.Option(help="comma-separated; empty: all, as far as bags are not too long")] = "",
    trials: Annotated[bool, typer.Option("--trials", help="try every recipe, on validation bags")] = False,
    tuned: Annotated[Path | None, typer.Option(help="over_seeds.csv of such trials; empty: the first recipe")] = None,
    llm: Annotated[str, typer.Option(help="another language model than the one made here")] = "",
    workers: Annotated[int, typer.Option(help="notebooks side by side")] = 2,
    threads: Annotated[int, typer.Option(help="threads of each; 0: cores / workers")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda; empty: the notebook's default")] = "",
    parameter: Annotated[list[str], typer.Option("-p", help="name=value or STAGE.name=value")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="stop where the plan and its cost are printed")] = False,
) -> None:
    """Run the league at one length; exit 0 if every stage is done."""
    with faults_explained():
        if tokens not in LENGTHS:
            raise ValueError(f"tokens: got {tokens}; expected one of {', '.join(map(str, LENGTHS))}")
        names = tuple(compressors.split(",")) if compressors else arms(tokens)
        asked = tuple(name + recipe for name in names for recipe in TRIALS) if trials else names
        for name in asked:  # before bags and a language model are made
            parse_method(name)
        settings = (*settings_of(names, tokens=tokens, trials=trials), *recipes(names, tuned), *parameter)
        own = {"workers": workers, "threads": threads or max(1, (os.cpu_count() or 1) // workers), "device": device}
        seed = TRIAL_SEED if trials else 0
        before = ingredients(stores, labels, subtype, tokens=tokens, seed=seed, shuffled=shuffled, made_here=not llm)
        prepared = conduct(before, f"{portable(out)}/made", title="mosaics", workers=workers, threads=own["threads"])
        if prepared:
            raise typer.Exit(prepared)
        cohort = before[0].out_dir
        options = Options(
            manifest=f"{cohort}/manifest.csv",
            questions=f"{cohort}/questions.csv",
            truth=f"{cohort}/truth.csv",
            compressors=asked,
            out=portable(out),
            k=tuple(int(n) for n in k.split(",")),
            seeds=tuple(int(n) for n in seeds.split(",")),
            llm=llm or MODEL,
            floors=False,
            settings=settings,
            **own,
        )
        stages = plan(options)
        print_plan(stages, options.out)
        if dry_run:
            return
        told = {"title": f"league, {tokens} tokens", "tuning": "" if trials else TUNED if tuned else UNTUNED}
        code = conduct(stages, options.out, **told, workers=workers, threads=own["threads"])
    raise typer.Exit(code)


def arms(tokens: int) -> tuple[str, ...]:
    """The league's methods at this length."""
    return (*LEARNED, *TRAINING_FREE, *(("all",) if tokens <= READ_WHOLE else ()), *FLOORS)


def settings_of(names: tuple[str, ...], *, tokens: int, trials: bool) -> tuple[str, ...]:
    """What all stages are told, as `-p` takes it: sizes for tokens of some hundred numbers, places that are read.

    Longer bags are read by what has learnt to read short ones, all tokens of them, patients divided in the same way.
    """
    sizes = TOY_SIZES | {"sieve": TOY_SIZES["sparselearn"]}
    words = [*SETTINGS, *dict.fromkeys(word for name in names for word in sizes.get(name.partition(":")[0], ()))]
    if tokens > READ_WHOLE:
        short = cohort_of(READ_WHOLE, TRIAL_SEED if trials else 0)
        words += ["position_ids=scaled", f"position_span={SPAN}"]
        words += [f"40_align_captions/all.{name}={short}/{table}.csv" for name, table in READ.items()]
    return (*words, *(("60.answered_split=val",) if trials else ()))


def recipes(names: tuple[str, ...], tuned: Path | None) -> tuple[str, ...]:
    """Each method's best recipe by its right answers in all trials, as words for its own stages; ties: the first."""
    if tuned is None:
        return ()
    if not tuned.exists():
        raise ValueError(f"--tuned {tuned}: not found; expected the over_seeds.csv of a run with --trials")
    found = defaultdict(list)
    for row in csv.DictReader(tuned.read_text(encoding="utf-8").splitlines()):
        if row["group"] == "all":
            found[row["method"]].append(float(row["accuracy"]))
    right = {name: sum(values) / len(values) for name, values in found.items()}
    words = []
    for name in names:
        tried = [recipe for recipe in TRIALS if name + recipe in right]
        if len(tried) < len(TRIALS):
            raise ValueError(f"{tuned}: {name} was tried {len(tried)} times of {len(TRIALS)}; run its --trials")
        best = max(tried, key=lambda recipe: right[name + recipe])
        stages = ("50_tune_answers",) if name in WITHOUT_K else ("40_align_captions", "50_tune_answers")
        words += [f"{stage}/{name}.{change}" for stage in stages for change in best.split(":")[1:]]
    return tuple(words)


def ingredients(
    stores: Path, labels: str, subtype: str, *, tokens: int, seed: int, shuffled: bool = True, made_here: bool
) -> tuple[Stage, ...]:
    """The stages that make the mosaics and, unless another is named, the language model."""
    found = sorted(stores.glob("*.h5"))
    if not found:
        raise ValueError(f"stores: no .h5 file in {stores}; expected packed feature stores, a kind of tissue each")
    asked = {
        "stores": [portable(path) for path in found],
        "labels": [portable(Path(path)) for path in filter(None, labels.split(","))],
        "subtype": subtype if labels else "",
        "seed": seed,
        "shuffled": shuffled,
    }
    made = []
    for n in dict.fromkeys((tokens, READ_WHOLE)):
        offered = asked | {"tokens": n} | LENGTHS[n]
        id = "07_make_mosaics" if n == tokens else f"07_make_mosaics/{n}"
        made.append(make_stage(NOTEBOOKS / "07_make_mosaics.ipynb", id=id, out_dir=cohort_of(n, seed), offered=offered))
    words = {"mosaics": 0.8, "steps": 6000, "exam_samples": 1000, "threads": 1}
    model = make_stage(NOTEBOOKS / "02_pretrain_toy_lm.ipynb", id="02_pretrain_toy_lm", out_dir=MODEL, offered=words)
    return (*made, model) if made_here else tuple(made)


def cohort_of(tokens: int, seed: int) -> str:
    """The folder of the mosaics of this length."""
    return f"store/mosaics/{tokens}" + (f"_s{seed}" if seed else "")


if __name__ == "__main__":
    typer.run(main)
