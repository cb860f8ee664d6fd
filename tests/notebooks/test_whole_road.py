"""Every notebook of the experiment, from drawn slides to the comparison, through the code the flow uses.

Some stages run in processes of their own, as all do in an experiment, the others in the test's.
The cohort is a few slides and training a few steps: what is asserted is what holds at any size.
"""

import pandas as pd
import pytest
from run_here import run_here
from safetensors.torch import load_file

from flows.demo import TOY_SIZES, TOY_TILES
from flows.plan.graph import Options, plan
from flows.plan.notebooks import NOTEBOOKS
from flows.plan.stages import make_stage
from flows.run.board import Board, Outcome, run_stage
from slidesieve.provenance.files import ROOT

pytestmark = pytest.mark.slow
TINY = (
    "10.min_tissue=0",
    "30.mae_steps=2",
    "40.region_steps=2",
    "40.whole_steps=2",
    "40.steps=2",
    "40.evaluations=1",
    "50.steps=3",
    "50.evaluations=1",
    "60.generate=2",
    "70.random_draws=3",
    "72.noise_draws=2",
    "72.draws=20",
    "72.widths=[7]",
    "75.methods=slidechat,all",
    "75.repeats=1",
    "75.tiles=50",
    "75.tokens=4,8",
    "75.claim_tiles=100,200",
)
ENCODED = "sparselearn:slide_encoder=longnet"
APART = {"10_tile_slides", "80_compare_methods"}
COHORT = {"seed": 0, "n_train": 12, "n_val": 3, "n_test": 5, "regions_per_slide": 2, "workers": 0}
LM = {"steps": 2, "batch": 4, "exam_samples": 3, "width": 32}


@pytest.fixture(scope="module")
def road(tmp_path_factory, atlas):
    folder = tmp_path_factory.mktemp("road")
    toy, lm = folder / "toy", folder / "lm"
    options = Options(
        manifest=str(toy / "manifest.csv"),
        questions=str(toy / "questions.csv"),
        captions=str(toy / "captions.csv"),
        truth=str(toy / "truth.csv"),
        out=str(folder / "run"),
        encoder="stain-texture",
        llm=str(lm),
        floors=False,
        compressors=("sparselearn", ENCODED, "tcssa", "locpath", "text_only"),
        k=(5,),
        workers=1,
        settings=(*TOY_TILES, *TINY, *TOY_SIZES["sparselearn"], *TOY_SIZES["locpath"]),
    )
    before = (
        make_stage(NOTEBOOKS / "01_make_toy_cohort.ipynb", id="01", out_dir=str(toy), offered=COHORT),
        make_stage(NOTEBOOKS / "02_pretrain_toy_lm.ipynb", id="02", out_dir=str(lm), offered=LM),
    )
    stages = plan(options, before=before)
    board = Board(say=lambda text: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slidesieve.synthetic.atlas.draw_atlas", lambda seed: {0: atlas}[seed])
        for stage in stages:
            if stage.id in APART:
                run_stage(stage, board, threads=1)
            else:
                here = run_here(stage.notebook, ROOT / stage.out_dir, stage.parameters)
                board.record(stage.id, Outcome(here.status, error=here.error))
    return folder, stages, board


def test_every_notebook_runs_and_those_apart_leave_a_page(road):
    _, stages, board = road
    numbers = "00 01 02 10 20 30 40 50 60 70 71 72 74 75 76 78 80"
    assert {s.notebook.name[:2] for s in stages} == set(numbers.split())
    failed = {id: outcome.error for id, outcome in board.outcomes.items() if outcome.status != "ran"}
    assert failed == {}
    assert {s.id for s in stages if (ROOT / s.out_dir / f"{s.notebook.stem}.html").exists()} == APART


def test_each_method_answers_each_test_question_and_each_control(road):
    folder, _, _ = road
    scores = pd.read_csv(folder / "run" / "80_compare_methods" / "scores.csv")
    whole = scores[scores["group"] == "all"].set_index("method")
    trained = {"sparselearn", ENCODED, "tcssa", "locpath", "text_only"}
    controls = {f"{name}_{control}" for name in ("sparselearn", ENCODED) for control in ("soft", "wrong_slide")}
    controls |= {"tcssa_wrong_slide", "locpath_wrong_slide"}  # neither has a soft path
    assert set(whole.index) == trained | controls | {"majority", "majority_option", "longest_option"}
    assert (whole["n_questions"] == 20).all() and (whole["n_slides"] == 5).all() and (whole["coverage"] == 1).all()
    assert set(scores["group"]) == {"all", "evidence", "composition", "finding", "presence", "grade", "tissue"}


def test_a_selector_keeps_k_tiles_of_each_slide_and_the_count_of_planted_ones_is_the_truth_tables(road):
    folder, _, _ = road
    run = folder / "run" / "60_answer_questions" / "sparselearn_k5_s0"
    slides, selected = pd.read_csv(run / "selection_slides.csv"), pd.read_csv(run / "selected.csv")
    assert (slides["n_kept"] == 5).all() and (slides["n_tiles"] == 128).all() and len(slides) == 5
    truth = pd.read_csv(folder / "toy" / "truth.csv")
    planted = truth[truth["kind"].isin(["finding", "grade"])]
    assert slides["n_planted"].sum() == planted["slide_id"].isin(slides["slide_id"]).sum()
    kept = selected.merge(planted, on=["slide_id", "x_px0", "y_px0"])
    assert slides["n_kept_planted"].sum() == len(kept)


def test_what_a_method_costs_is_measured_over_tiles_and_over_tokens(road):
    folder, _, _ = road
    found = pd.read_csv(folder / "run" / "75_compute_cost" / "measured.csv")
    by_tiles, by_tokens = (found[found["sweep"] == name] for name in ("tiles", "tokens"))
    assert (found["status"] == "ok").all() and set(by_tiles["n"]) == {50}
    assert by_tiles["what"].tolist() == [w for w in ("step", "first_token", "prefill") for _ in ("slidechat", "all")]
    assert by_tokens.groupby("method")["tokens"].agg(list).to_dict() == {
        "linspace": [4, 4, 8, 8], "locpath": [4, 4, 8, 8], "locpath_prefix": [4, 4, 8, 8],
    }  # fmt: skip


def test_stage_2_leaves_the_slide_encoder_as_stage_1_trained_it(road):
    folder, _, _ = road
    tag = "sparselearn-slide_encoder-longnet_k5_s0/model/model.safetensors"
    stages = ("40_align_captions/all-longnet_s0/model/model.safetensors", f"40_align_captions/{tag}")
    align, first, second = (load_file(folder / "run" / path) for path in (*stages, f"50_tune_answers/{tag}"))
    encoder = [name for name in second if name.startswith("slide_encoder.")]
    assert encoder and all(second[name].equal(first[name]) for name in encoder)
    assert not all(first[name].equal(align[name]) for name in encoder)
    assert not second["projector.0.weight"].equal(first["projector.0.weight"])


def test_a_second_run_does_nothing(road):
    _, stages, _ = road
    board = Board(say=lambda text: None)
    for stage in stages:
        run_stage(stage, board, threads=1)
    assert {outcome.status for outcome in board.outcomes.values()} == {"skipped"}
