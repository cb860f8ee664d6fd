"""The plan of an experiment: which stages, in which order, with which parameters; faults come before anything runs."""

from pathlib import Path

import pandas as pd
import pytest
from tiny_notebooks import write_notebook

from flows.plan import graph
from flows.plan.graph import Options, plan
from flows.plan.stages import Stage, apply_settings, check_inputs, with_needs
from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.datasets.questions import COLUMNS

COMMON = 'manifest: str = ""  # in: manifest\nk: int = 8  # tokens kept\nseed: int = 0  # seed\n'
TRAINED = COMMON + (
    'compressor: str = "sparselearn"  # name\nfold: int = -1  # test fold\nfeatures: str = ""  # in: features\n'
    'start: str = ""  # in: checkpoint\ncaptions: str = ""  # in: captions\nsteps: int = 90  # steps\n'
)
SHARES = 'shard: str = ""  # share\nothers: list[str] = []  # run+in: folders of this stage\n'
PARAMETERS = {
    "00_audit_manifest": 'manifest: str = ""  # in+slides: manifest\n',
    "10_tile_slides": 'manifest: str = ""  # in+slides: manifest\nworkers: int = 1  # run: processes\n'
    "mpp: float = 1.0  # micrometres\n" + SHARES,
    "20_extract_features": 'manifest: str = ""  # in+slides: manifest\ntiles: str = ""  # in: tiles\n' + SHARES,
    "30_pretrain_resampler": 'features: str = ""  # in: features\nwindow: int = 2  # side\nseed: int = 0  # seed\n',
    "40_align_captions": TRAINED + "window: int = 2  # side\nregions_first: bool = False  # regions\n",
    "50_tune_answers": TRAINED,
    "60_answer_questions": COMMON
    + 'checkpoint: str = ""  # in: checkpoint\nfeatures: str = ""  # in: features\nmethod: str = ""  # name\n',
    "70_map_selected_tokens": 'checkpoint: str = ""  # in: checkpoint\nfeatures: str = ""  # in: features\n'
    'truth: str = ""  # in: planted tiles\n',
    "71_length_stability": 'checkpoint: str = ""  # in: checkpoint\n',
    "72_soft_to_hard": 'checkpoint: str = ""  # in: stage 50\ncaptions_stage: str = ""  # in: stage 40\n'
    "others: list[str] = []  # in: other seeds\n",
    "73_slot_usage": 'checkpoint: str = ""  # in: stage 50\nothers: list[str] = []  # in: other runs\n',
    "74_tile_redundancy": 'features: str = ""  # in: features\n',
    "75_compute_cost": 'device: str = "cpu"  # run: cpu or cuda\n',
    "76_compare_variants": 'answers: list[str] = []  # in: answers\nreference: str = ""  # method\n',
    "77_token_budget": "answers: list[str] = []  # in: answers\n",
    "78_show_cases": "answers: list[str] = []  # in: answers\n",
    "80_compare_methods": "answers: list[str] = []  # in: answers\n",
}
OPTIONS = Options(manifest="data/m.csv", questions="data/q.csv", out="runs/x")


@pytest.fixture
def notebooks(tmp_path, monkeypatch) -> Path:
    for name, parameters in PARAMETERS.items():
        write_notebook(tmp_path / f"{name}.ipynb", parameters=parameters)
    monkeypatch.setattr(graph, "check_options", lambda options: True)
    return tmp_path


def ids(stages: list[Stage]) -> list[str]:
    return [stage.id for stage in stages]


def test_one_compressor_with_its_floors(notebooks):
    stages = plan(OPTIONS, notebooks=notebooks)
    assert ids(stages) == [
        "00_audit_manifest",
        "10_tile_slides",
        "20_extract_features",
        "40_align_captions/all_s0",
        "40_align_captions/sparselearn_k8_s0",
        "50_tune_answers/sparselearn_k8_s0",
        "60_answer_questions/sparselearn_k8_s0",
        "50_tune_answers/all_s0",
        "60_answer_questions/all_s0",
        "40_align_captions/random_k8_s0",
        "50_tune_answers/random_k8_s0",
        "60_answer_questions/random_k8_s0",
        "40_align_captions/mean_k8_s0",
        "50_tune_answers/mean_k8_s0",
        "60_answer_questions/mean_k8_s0",
        "50_tune_answers/text_only_s0",
        "60_answer_questions/text_only_s0",
        "70_map_selected_tokens/sparselearn_k8_s0",
        "71_length_stability/sparselearn_k8_s0",
        "72_soft_to_hard/sparselearn_k8_s0",
        "78_show_cases",
        "80_compare_methods",
    ]


def test_needs_follow_from_the_inputs(notebooks):
    by_id = {stage.id: stage for stage in plan(OPTIONS, notebooks=notebooks)}
    assert by_id["10_tile_slides"].needs == ()
    assert by_id["20_extract_features"].needs == ("10_tile_slides",)
    assert by_id["40_align_captions/all_s0"].needs == ("20_extract_features",)
    assert by_id["40_align_captions/random_k8_s0"].needs == ("20_extract_features", "40_align_captions/all_s0")
    assert by_id["50_tune_answers/random_k8_s0"].needs == ("20_extract_features", "40_align_captions/random_k8_s0")
    assert by_id["50_tune_answers/text_only_s0"].needs == ("20_extract_features", "40_align_captions/all_s0")
    mapped = by_id["70_map_selected_tokens/sparselearn_k8_s0"]
    assert mapped.needs == ("20_extract_features", "50_tune_answers/sparselearn_k8_s0")
    answered = tuple(
        f"60_answer_questions/{m}_s0" for m in ("sparselearn_k8", "all", "random_k8", "mean_k8", "text_only")
    )
    assert by_id["80_compare_methods"].needs == answered


def test_given_features_need_no_slides(notebooks, monkeypatch):
    monkeypatch.setattr(graph, "check_options", lambda options: False)
    stages = plan(OPTIONS._replace(floors=False, alignment=False), notebooks=notebooks)
    assert ids(stages)[:3] == [
        "00_audit_manifest",
        "40_align_captions/sparselearn_k8_s0",
        "50_tune_answers/sparselearn_k8_s0",
    ]
    assert stages[1].parameters["features"] == "" and stages[1].parameters["start"] == ""


def test_grid_of_k_seeds_and_folds(notebooks):
    options = OPTIONS._replace(
        k=(3, 7), seeds=(0, 1), folds=(2, 4), compressors=("sparselearn", "random"), floors=False
    )
    names = ids(plan(options, notebooks=notebooks))
    assert sum(n.startswith("60_") for n in names) == 2 * 2 * 2 * 2
    assert sum(n.startswith("40_align_captions/all_") for n in names) == 4
    assert "50_tune_answers/random_k7_s1_f4" in names
    assert [n for n in names if n.startswith("7")] == [
        "70_map_selected_tokens/sparselearn_k3_s0_f2",
        "71_length_stability/sparselearn_k3_s0_f2",
        "72_soft_to_hard/sparselearn_k3_s0_f2",
        "77_token_budget",
        "78_show_cases",
    ]


def test_stages_passed_before_are_waited_for_and_their_tables_not_read(notebooks, monkeypatch):
    def refuse(options):
        raise AssertionError("read a table that is not there yet")

    monkeypatch.setattr(graph, "check_options", refuse)
    toy = Stage("01_make", write_notebook(notebooks / "01_make.ipynb"), "data", {})
    by_id = {s.id: s for s in plan(OPTIONS, before=(toy,), notebooks=notebooks)}
    assert by_id["10_tile_slides"].needs == ("01_make",)


@pytest.mark.parametrize("tested", [1, 2])
def test_a_single_test_slide_is_refused_while_it_is_planned(notebooks, tmp_path, monkeypatch, tested):
    monkeypatch.undo()
    splits = ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    rows = pd.DataFrame("", index=range(7), columns=list(MANIFEST_COLUMNS)).assign(split=splits)
    rows = rows.assign(slide_id=[f"s{i}" for i in range(7)], case_id=[f"p{i}" for i in range(7)], feature_path="f.h5")
    rows.to_csv(tmp_path / "m.csv", index=False)
    asked = [(i, f"s{i}", "x", "y", "Is it?", "yes", "no", "", "", "A") for i in range(5 + tested)]
    pd.DataFrame(asked, columns=list(COLUMNS)).to_csv(tmp_path / "q.csv", index=False)
    options = OPTIONS._replace(manifest=str(tmp_path / "m.csv"), questions=str(tmp_path / "q.csv"))
    if tested == 1:
        with pytest.raises(ValueError, match=r"got 1 slides of 1 patients.*-p 60\.wrong_slide=false"):
            graph.check_options(options)
        options = options._replace(settings=("60.wrong_slide=false",))
    assert graph.check_options(options) is False


def test_settings_reach_the_stages_they_name(notebooks):
    words = ("steps=7", "40.steps=3", "40_align_captions/all.steps=1")
    by_id = {s.id: s.parameters for s in plan(OPTIONS._replace(settings=words), notebooks=notebooks)}
    assert by_id["50_tune_answers/all_s0"]["steps"] == 7
    assert by_id["40_align_captions/random_k8_s0"]["steps"] == 3
    assert by_id["40_align_captions/all_s0"]["steps"] == 1
    assert "steps" not in by_id["80_compare_methods"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("50.stepz=3", "no notebook of these has a parameter 'stepz'; did you mean 'steps'"),
        ("5.steps=3", "no stage begins with 5"),
        ("steps=many", "steps = 'many': expected int"),
        ("steps", "write name=value"),
        ("out_dir=x", "out_dir is the flow's own"),
    ],
)
def test_faulty_settings_are_refused(notebooks, word, message):
    with pytest.raises(ValueError, match=message):
        plan(OPTIONS._replace(settings=(word,)), notebooks=notebooks)


def test_faults_in_names_and_tables_come_before_any_stage(tmp_path):
    with pytest.raises(ValueError, match=r"no compressor 'sparselern'; did you mean 'sparselearn'\?"):
        plan(OPTIONS._replace(compressors=("sparselern",)))
    columns = "slide_id,case_id,site,slide_path,feature_path,mpp,split,sha256,source,licence"
    (tmp_path / "m.csv").write_text(f"{columns}\na,a,,a.tif,,0.5,train,,,\n")
    asked = "ID,Slide,Tumor,Broad Category,Narrow Category,Question,A,B,C,D,Answer"
    (tmp_path / "q.csv").write_text(f"{asked}\n1,b,x,Evidence,finding,Which?,one,two,,,A\n")
    options = OPTIONS._replace(manifest=str(tmp_path / "m.csv"), questions=str(tmp_path / "q.csv"))
    with pytest.raises(ValueError, match=r"\bb\b"):
        plan(options)
    (tmp_path / "q.csv").write_text(f"{asked}\n1,a,x,Evidence,finding,Which?,one,two,,,A\n".replace("Answer", "Reply"))
    with pytest.raises(ValueError, match="Answer"):
        plan(options)


@pytest.mark.parametrize("name", ["manifest", "questions", "captions", "instructions", "open_questions", "truth"])
def test_a_table_that_is_not_there_is_named(tmp_path, name):
    (tmp_path / "there.csv").write_text("slide_id\n")
    given = {"manifest": "there.csv", "questions": "there.csv"} | {name: "gone.csv"}
    options = Options(out="runs/x", **{key: str(tmp_path / value) for key, value in given.items()})
    with pytest.raises(FileNotFoundError, match=rf"^{name}: \S+gone\.csv not found under .*; correct the path"):
        plan(options)


def test_a_later_stage_is_never_needed_by_an_earlier_one(tmp_path):
    notebook = write_notebook(tmp_path / "x.ipynb", parameters='source: str = ""  # in: folder\n')
    first = Stage("first", notebook, "runs/a", {"source": "runs/b/file"})
    second = Stage("second", notebook, "runs/b", {"source": "runs/a"})
    assert [s.needs for s in with_needs([first, second])] == [(), ("first",)]


def test_apply_settings_leaves_the_given_stages_alone(tmp_path):
    notebook = write_notebook(tmp_path / "x.ipynb", parameters="k: int = 8  # tokens\n")
    stage = Stage("50_x", notebook, "runs/a", {})
    assert apply_settings([stage], ("k=5",))[0].parameters == {"k": 5}
    assert stage.parameters == {}


def test_an_input_must_exist_be_made_by_a_stage_or_be_a_hub_id(tmp_path):
    parameters = 'lm: str = ""  # in: path or id\nstart: str = ""  # in: folder\n'
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=parameters)
    first = Stage("first", notebook, "runs/x/first", {"lm": "Qwen/Qwen2.5-7B-Instruct"})
    second = Stage("second", notebook, "runs/x/second", {"lm": str(tmp_path), "start": "runs/x/first"})
    check_inputs([first, second])
    wrong = second._replace(parameters={"lm": "store/llm/toyy", "start": "runs/y"})
    with pytest.raises(ValueError, match=r"lm = store/llm/toyy \(for second\); start = runs/y \(for second\)"):
        check_inputs([first, wrong])


# --- methods: compressors and what differs from the defaults


def planned(notebooks, *compressors: str, **options) -> dict[str, Stage]:
    asked = OPTIONS._replace(compressors=compressors, floors=False, **options)
    return {stage.id: stage for stage in plan(asked, notebooks=notebooks)}


def test_a_variant_differs_in_its_own_stages_only_and_shares_the_alignment(notebooks):
    stages = planned(notebooks, "sparselearn", "sparselearn:steps=70:50.seed=9")
    assert [id for id in stages if id.startswith("40")] == [
        "40_align_captions/all_s0", "40_align_captions/sparselearn_k8_s0",
        "40_align_captions/sparselearn-steps-70-50.seed-9_k8_s0",
    ]  # fmt: skip
    plain, variant = (
        [stages[f"{n}/{tag}_k8_s0"].parameters for n in ("40_align_captions", "50_tune_answers")]
        for tag in ("sparselearn", "sparselearn-steps-70-50.seed-9")
    )
    assert [p.get("steps") for p in plain] == [None, None] and [p["steps"] for p in variant] == [70, 70]
    assert [p["seed"] for p in variant] == [0, 9]
    assert {p["compressor"] for p in variant} == {"sparselearn"}
    assert len(stages["80_compare_methods"].parameters["answers"]) == 2


def test_a_variant_says_more_than_a_setting_for_all(notebooks):
    stages = planned(notebooks, "sparselearn", "sparselearn:steps=70", settings=("steps=50",))
    steps = {id: s.parameters["steps"] for id, s in stages.items() if id.startswith("50")}
    assert steps == {"50_tune_answers/sparselearn_k8_s0": 50, "50_tune_answers/sparselearn-steps-70_k8_s0": 70}


def test_a_method_may_leave_the_alignment_out_beside_one_that_has_it(notebooks):
    stages = planned(notebooks, "sparselearn", "sparselearn:alignment=off")
    starts = {id: s.parameters["start"] for id, s in stages.items() if id.startswith("40_align_captions/spar")}
    assert starts == {
        "40_align_captions/sparselearn_k8_s0": "runs/x/40_align_captions/all_s0",
        "40_align_captions/sparselearn-alignment-off_k8_s0": "",
    }


def test_a_slide_encoder_has_an_alignment_of_its_own(notebooks):
    for name in ("40_align_captions", "50_tune_answers"):
        write_notebook(
            notebooks / f"{name}.ipynb", parameters=TRAINED + 'slide_encoder: str = "none"  # none or longnet\n'
        )
    stages = planned(notebooks, "sparselearn", "all:slide_encoder=longnet", "sparselearn:slide_encoder=longnet")
    assert stages["40_align_captions/all-longnet_s0"].parameters["slide_encoder"] == "longnet"
    starts = {id: s.parameters["start"].rpartition("/")[2] for id, s in stages.items() if "start" in s.parameters}
    assert starts["50_tune_answers/all-slide_encoder-longnet_s0"] == "all-longnet_s0"
    assert starts["40_align_captions/sparselearn-slide_encoder-longnet_k8_s0"] == "all-longnet_s0"
    assert starts["40_align_captions/sparselearn_k8_s0"] == "all_s0"


def test_what_stands_in_front_of_a_method_stands_in_front_of_its_alignment_whatever_all_get(notebooks):
    more = "standardise: bool = True  # on\n"
    more += 'position_ids: str = "original"  # which\nslide_encoder: str = "none"  # which\n'
    for name in ("40_align_captions", "50_tune_answers"):
        write_notebook(notebooks / f"{name}.ipynb", parameters=TRAINED + more)
    named = ("sparselearn:standardise=false", "sparselearn:slide_encoder=none", "sparselearn:position_ids=contiguous")
    stages = planned(notebooks, "sparselearn", *named, "all:position_ids=scaled", settings=("slide_encoder=longnet",))
    kept = ("standardise", "slide_encoder", "position_ids")
    found = {
        id: tuple(map(s.parameters.get, kept)) for id, s in stages.items() if id.startswith("40_align_captions/all")
    }
    assert found == {
        "40_align_captions/all_s0": (None, "longnet", None),
        "40_align_captions/all-standardise-false_s0": (False, "longnet", None),
        "40_align_captions/all-none_s0": (None, "none", None),
        "40_align_captions/all-position_ids-scaled_s0": (None, "longnet", "scaled"),
    }
    starts = {id: s.parameters["start"].rpartition("/")[2] for id, s in stages.items() if "start" in s.parameters}
    assert starts["40_align_captions/sparselearn-position_ids-contiguous_k8_s0"] == "all_s0"
    assert starts["40_align_captions/sparselearn-standardise-false_k8_s0"] == "all-standardise-false_s0"
    assert starts["50_tune_answers/all-position_ids-scaled_s0"] == "all-position_ids-scaled_s0"


def test_without_alignment_the_all_tile_road_still_has_its_first_stage(notebooks):
    stages = planned(notebooks, "sparselearn", "all", alignment=False)
    assert stages["50_tune_answers/all_s0"].parameters["start"] == "runs/x/40_align_captions/all_s0"
    assert stages["40_align_captions/sparselearn_k8_s0"].parameters["start"] == ""


def test_a_compressor_that_there_is_not_is_named_though_no_table_is_there_to_be_checked(notebooks):
    with pytest.raises(ValueError, match="no compressor 'sparselern'; did you mean 'sparselearn'"):
        planned(notebooks, "sparselern:steps=7")


def test_a_coarse_arm_has_tiles_features_and_an_alignment_of_its_own(notebooks):
    options = OPTIONS._replace(
        compressors=("fps", "all:coarse=4"), settings=("10.mpp=0.5", "10.workers=2"), floors=False
    )
    stages = {stage.id: stage for stage in plan(options._replace(truth="data/t.csv"), notebooks=notebooks)}
    fine, coarse = stages["10_tile_slides"], stages["10_tile_slides_coarse4"]
    assert (fine.parameters["mpp"], coarse.parameters["mpp"], coarse.parameters["workers"]) == (0.5, 2.0, 2)
    assert stages["20_extract_features_coarse4"].needs == ("10_tile_slides_coarse4",)
    own = [id for id in stages if "coarse-4" in id]
    assert own == [
        f"{name}/all-coarse-4_s0" for name in ("40_align_captions", "50_tune_answers", "60_answer_questions")
    ]
    for id, stage in stages.items():
        if "features" in stage.parameters and "/" in id:
            assert stage.parameters["features"].endswith("_coarse4") == (id in own)
    assert stages["60_answer_questions/all-coarse-4_s0"].parameters["method"] == "all:coarse=4"
    assert "20_extract_features" in stages["50_tune_answers/fps_k8_s0"].needs
    options = options._replace(compressors=("all:coarse=4", "fps"))  # the first is looked at closely
    looked = next(s for s in plan(options, notebooks=notebooks) if s.id.startswith("70_map"))
    assert looked.parameters["features"].endswith("20_extract_features_coarse4") and looked.parameters["truth"] == ""


def test_slides_are_cut_and_encoded_in_shares_and_then_joined(notebooks):
    options = OPTIONS._replace(shards=3, compressors=("all:coarse=4",), floors=False, settings=("10.mpp=0.5",))
    stages = {stage.id: stage for stage in plan(options, notebooks=notebooks)}
    shares = [f"10_tile_slides_{i}of3" for i in (1, 2, 3)]
    assert [id for id in stages if id.startswith("10")][:4] == [*shares, "10_tile_slides"]
    assert stages["10_tile_slides"].needs == tuple(shares) and stages[shares[0]].needs == ()
    assert stages[shares[1]].parameters == {"manifest": "data/m.csv", "workers": 1, "mpp": 0.5, "shard": "2of3"} | {
        "others": ["runs/x/10_tile_slides"]
    }
    assert stages["20_extract_features_2of3"].needs == ("10_tile_slides",)
    assert stages["20_extract_features"].needs == (
        "10_tile_slides",
        *(f"20_extract_features_{i}of3" for i in (1, 2, 3)),
    )
    assert stages["10_tile_slides_coarse4_3of3"].parameters["mpp"] == 2.0
    assert stages["50_tune_answers/all-coarse-4_s0"].needs[0] == "20_extract_features_coarse4"
    with pytest.raises(ValueError, match="shards: got 0, expected one or more"):
        plan(options._replace(shards=0), notebooks=notebooks)


def test_what_is_coarse_needs_slides(notebooks, monkeypatch):
    monkeypatch.setattr(graph, "check_options", lambda options: False)
    with pytest.raises(ValueError, match="coarse=4: got features of all slides"):
        plan(OPTIONS._replace(compressors=("all:coarse=4",)), notebooks=notebooks)


@pytest.mark.parametrize(
    "wrong", ["sparselearn:steps", "sparselearn:alignment=on", "sparselearn:stpes=70", "all:coarse=0", "all:coarse=1"]
)
def test_a_faulty_method_is_refused(notebooks, wrong):
    with pytest.raises(ValueError, match=wrong.split(":")[1].split("=")[0]):
        planned(notebooks, wrong)


# --- the analyses


def test_the_first_run_is_looked_at_beside_its_other_seeds(notebooks):
    stages = planned(notebooks, "sparselearn", "random", seeds=(0, 1, 2), k=(8, 16))
    look = stages["72_soft_to_hard/sparselearn_k8_s0"].parameters
    assert look["captions_stage"] == "runs/x/40_align_captions/sparselearn_k8_s0"
    assert look["others"] == [f"runs/x/50_tune_answers/sparselearn_k8_s{seed}" for seed in (1, 2)]
    assert {id for id in stages if id.startswith("7")} == {
        "70_map_selected_tokens/sparselearn_k8_s0", "71_length_stability/sparselearn_k8_s0",
        "72_soft_to_hard/sparselearn_k8_s0", "77_token_budget",
        "78_show_cases",
    }  # fmt: skip


def test_slots_are_looked_at_beside_all_other_runs_of_theirs_and_nothing_is_mapped(notebooks):
    stages = planned(notebooks, "tcssa", "tcssa:steps=70", "random", seeds=(0, 1), k=(8, 16))
    look = {id for id in stages if id.startswith(("70", "71", "72", "73"))}
    assert look == {"71_length_stability/tcssa_k8_s0", "73_slot_usage/tcssa_k8_s0"}
    others = [path.rpartition("/")[2] for path in stages["73_slot_usage/tcssa_k8_s0"].parameters["others"]]
    runs = [f"{tag}_k{k}_s{seed}" for seed in (0, 1) for tag in ("tcssa", "tcssa-steps-70") for k in (8, 16)]
    assert others == runs[1:]


def test_latents_start_without_an_alignment_and_nothing_is_mapped(notebooks):
    stages = planned(notebooks, "locpath")
    assert {id for id in stages if id.startswith("7")} == {
        "71_length_stability/locpath_k8_s0", "74_tile_redundancy", "75_compute_cost",
        "78_show_cases",
    }  # fmt: skip
    assert stages["74_tile_redundancy"].parameters == {"features": "runs/x/20_extract_features"}
    assert stages["50_tune_answers/locpath_k8_s0"].parameters["start"] == "runs/x/40_align_captions/locpath_k8_s0"


def test_latents_are_pre_trained_once_for_every_k_and_learn_on_regions_first(notebooks):
    stages = planned(notebooks, "locpath", "locpath:window=1", "locpath:pretraining=off", "tcssa", k=(8, 16))
    assert {id: s.parameters.get("window") for id, s in stages.items() if id.startswith("30")} == {
        "30_pretrain_resampler/locpath_s0": None,
        "30_pretrain_resampler/locpath-window-1_s0": 1,
    }
    for k in (8, 16):
        plain = stages[f"40_align_captions/locpath_k{k}_s0"]
        assert plain.parameters["start"] == "runs/x/30_pretrain_resampler/locpath_s0"
        assert plain.parameters["regions_first"] is True and plain.needs[-1] == "30_pretrain_resampler/locpath_s0"
        varied = stages[f"40_align_captions/locpath-window-1_k{k}_s0"].parameters
        assert varied["start"] == "runs/x/30_pretrain_resampler/locpath-window-1_s0" and varied["window"] == 1
        assert stages[f"40_align_captions/locpath-pretraining-off_k{k}_s0"].parameters["start"] == ""
        answered = stages[f"60_answer_questions/locpath-pretraining-off_k{k}_s0"].parameters
        assert answered["method"] == "locpath:pretraining=off"
        assert "regions_first" not in stages[f"40_align_captions/tcssa_k{k}_s0"].parameters
    assert (
        planned(notebooks, "locpath:alignment=off")["40_align_captions/locpath-alignment-off_k8_s0"].parameters[
            "regions_first"
        ]
        is False
    )


def test_all_tiles_behind_a_slide_encoder_are_no_variant_to_be_looked_into(notebooks):
    stages = planned(notebooks, "all", "all:steps=70", "sparselearn", "sparselearn:steps=70")
    assert stages["76_compare_variants"].parameters["reference"] == "sparselearn"
    assert "76_compare_variants" not in planned(notebooks, "all", "all:steps=70", "sparselearn")


def test_variants_are_compared_with_the_method_that_they_vary(notebooks):
    stages = planned(notebooks, "random", "sparselearn", "sparselearn:steps=70")
    assert stages["76_compare_variants"].parameters["reference"] == "sparselearn"
    assert len(stages["76_compare_variants"].parameters["answers"]) == 2
    assert not any(id.startswith(("72", "77")) for id in stages)


def test_variants_are_compared_at_one_k_and_budgets_by_plain_methods(notebooks):
    stages = planned(notebooks, "sparselearn", "sparselearn:steps=70", "random", k=(8, 16))
    names = {
        n: [a.rpartition("/")[2] for a in stages[n].parameters["answers"]] for n in stages if n[:2] in ("76", "77")
    }
    assert names == {
        "76_compare_variants": ["sparselearn_k8_s0", "sparselearn-steps-70_k8_s0"],
        "77_token_budget": ["sparselearn_k8_s0", "sparselearn_k16_s0", "random_k8_s0", "random_k16_s0"],
    }


def test_owners_of_a_mosaics_tokens_are_taken_from_beside_the_truth(tmp_path):
    given = OPTIONS._replace(truth=str(tmp_path / "truth.csv"))
    assert graph._owners(given) == graph._owners(OPTIONS) == {}
    (tmp_path / "owners.csv").touch()
    assert graph._owners(given) == {"owners": (tmp_path / "owners.csv").as_posix()}
