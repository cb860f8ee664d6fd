"""The toy experiment from nothing: draw slides, train a toy language model, then the experiment over them.

python -m flows.demo [--out runs/demo] [--compressors sparselearn,tcssa,fps] [-p 50.steps=300]
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.experiment import conduct, faults_explained
from flows.plan.graph import Options, plan
from flows.plan.notebooks import NOTEBOOKS
from flows.plan.stages import make_stage
from flows.run.notebook import portable
from slidesieve.features.known_encoders import STAND_IN

COHORT, MODEL = "store/toy", "store/llm/toy"
TOY_TILES = (
    "tile_px=64",  # the toy's slides are small, and of 1 µm a pixel
    "mpp=1",
    "20.pooling=cls",  # the stand-in has no tokens to be pooled
)
TOY_SETTINGS = (
    *TOY_TILES,
    "10.min_tissue=0",  # the toy is tissue from edge to edge, and evidence may look like glass
    "40.evaluations=13",  # every 50 steps: the alignment ends early, and short stages must not miss their best point
    "40_align_captions/all.evaluations=16",
    "50.evaluations=4",
    "beta2=0.98",  # a few hundred steps
)
TOY_SIZES = {  # the compressors' own defaults are for real features
    "sparselearn": ("scorer_width=64", "scorer_heads=4"),
    "locpath": (
        "latents=32", "latent_width=64", "resampler_blocks=2", "resampler_heads=4", "n_adapters=3",
        "adapter_width=64", "adapter_heads=4", "adapter_gate=0.5", "router_bias=2.0",
    ),
}  # fmt: skip


def main(
    out: Annotated[Path, typer.Option(help="folder of the experiment")] = Path("runs/demo"),
    workers: Annotated[int, typer.Option(help="notebooks side by side")] = 2,
    compressors: Annotated[
        str, typer.Option(help="comma-separated: sparselearn, tcssa, kmeans, fps ...")
    ] = "sparselearn,kmeans",
    seeds: Annotated[str, typer.Option(help="comma-separated")] = "0",
    parameter: Annotated[list[str], typer.Option("-p", help="name=value or STAGE.name=value")] = [],  # noqa: B006
) -> None:
    """Run the demo; exit 0 if every stage is done."""
    options = Options(
        manifest=f"{COHORT}/manifest.csv",
        questions=f"{COHORT}/questions.csv",
        captions=f"{COHORT}/captions.csv",
        truth=f"{COHORT}/truth.csv",
        compressors=(asked := tuple(compressors.split(","))),
        out=portable(out),
        encoder=STAND_IN,
        llm=MODEL,
        seeds=tuple(int(n) for n in seeds.split(",")),
        workers=workers,
        threads=max(1, (os.cpu_count() or 1) // workers),
        settings=(*TOY_SETTINGS, *(word for name in asked for word in TOY_SIZES.get(name, ())), *parameter),
    )
    own = {"workers": workers, "threads": options.threads}
    toy = (
        make_stage(NOTEBOOKS / "01_make_toy_cohort.ipynb", id="01_make_toy_cohort", out_dir=COHORT, offered=own),
        make_stage(NOTEBOOKS / "02_pretrain_toy_lm.ipynb", id="02_pretrain_toy_lm", out_dir=MODEL, offered=own),
    )
    with faults_explained():
        stages = plan(options, before=toy)
        code = conduct(stages, options.out, title="slidesieve demo", workers=workers, threads=options.threads)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
