"""What the report says of each method's training: steps that were taken, by part, over seeds; who got more."""

from flows.plan.notebooks import NOTEBOOKS
from flows.plan.stages import make_stage
from flows.report.training import training_rows

NAMES = {"30": "30_pretrain_resampler", "40": "40_align_captions", "50": "50_tune_answers", "60": "60_answer_questions"}


def stage(folder, number, tag, *, batches=None, **values):
    id = f"{NAMES[number]}/{tag}"
    made = make_stage(NOTEBOOKS / f"{NAMES[number]}.ipynb", id=id, out_dir=str(folder / id), offered=values)
    if batches is not None:
        (folder / id).mkdir(parents=True)
        (folder / id / "history.csv").write_text("step\n" + "".join(f"{i}\n" for i in range(batches)))
    return made


def branch(folder, method, seed, *, start, batches, **values):
    tag, own = f"{method}_s{seed}", {"compressor": method, "seed": seed}
    aligned = stage(folder, "40", tag, batches=batches, start=start.out_dir if start else "", **own, **values)
    tuned = stage(folder, "50", tag, batches=300, start=aligned.out_dir, batch=16, **own, **values)
    return [aligned, tuned, stage(folder, "60", tag, checkpoint=tuned.out_dir)]


def test_each_part_has_the_steps_that_were_taken(tmp_path):
    stages = []
    for seed, taken in ((0, 70), (1, 55)):
        align = stage(tmp_path, "40", f"all_s{seed}", batches=taken, compressor="all", seed=seed)
        tuned = stage(tmp_path, "50", f"all_s{seed}", batches=300, start=align.out_dir, compressor="all", batch=16)
        stages += [align, tuned, stage(tmp_path, "60", f"all_s{seed}", checkpoint=tuned.out_dir)]
        stages += branch(tmp_path, "tcssa", seed, start=align, batches=41, k=8, accumulate=2)
        masked = stage(tmp_path, "30", f"locpath_s{seed}", batches=800, mae_batch=12)
        stages += [masked, *branch(tmp_path, "locpath", seed, start=masked, batches=40, k=8)]
    tuned = stage(tmp_path, "50", "text_only_s0", compressor="text_only")
    stages += [tuned, stage(tmp_path, "60", "text_only_s0", checkpoint=tuned.out_dir)]
    none = dict.fromkeys(("alignment, all tiles", "pre-training", "captions"), "")
    none["learning rates"] = "projector 0.0003, compressor 0.001, language model 0.001"
    fixed = {"learning rates": "projector 0.0003, language model 0.001"}
    assert training_rows(stages) == [
        {"method": "all", "k": "", "runs": "2"}
        | none
        | {"captions": "55 × 8 to 70 × 8", "questions": "300 × 16"}
        | fixed,
        {"method": "tcssa", "k": "8", "runs": "2"}
        | none
        | {"alignment, all tiles": "55 × 8 to 70 × 8", "captions": "21 × 16", "questions": "150 × 32"},
        {"method": "locpath", "k": "8", "runs": "2"}
        | none
        | {"pre-training": "800 × 12", "captions": "40 × 8", "questions": "300 × 16"},
        {"method": "text_only", "k": "", "runs": "1"} | none | {"questions": "?"} | fixed,
    ]


def test_a_variant_stands_under_its_own_name(tmp_path):
    aligned, tuned, answered = branch(tmp_path, "sparselearn", 0, start=None, batches=3, k=4, lr_projector=1e-4)
    answered = stage(tmp_path, "60", "named", checkpoint=tuned.out_dir, method="sparselearn:gate=scale")
    (row,) = training_rows([aligned, tuned, answered])
    assert (row["method"], row["k"]) == ("sparselearn:gate=scale", "4")
    assert row["learning rates"].startswith("projector 0.0001, ")
