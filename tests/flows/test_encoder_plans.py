"""An experiment's encoder and language model are named, and its tiles are those that the encoder was made for."""

import shutil

import pytest
from tiny_notebooks import write_notebook

from flows.demo import TOY_SETTINGS
from flows.plan.encoders import told
from flows.plan.graph import Options, plan
from flows.plan.notebooks import NOTEBOOKS
from flows.plan.presets import PRESETS, read_preset
from flows.plan.stages import values_of
from flows.run.notebook import run_notebook
from slidesieve.provenance.parameters import STAND_IN, read_parameters

LM = "models/of/ours"  # no id, and not there: what is asked of it is told elsewhere
TIMM_OR_NOT = "slidesieve.features.known_encoders.find_spec"


@pytest.fixture(autouse=True)
def slides_without_features(monkeypatch):
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: True)
    monkeypatch.setattr(TIMM_OR_NOT, lambda name: True)


def stages_of(encoder: str, *settings: str, **more):
    asked = {"compressors": ("mean",), "floors": False, "llm": LM} | more
    return plan(Options("m.csv", "q.csv", "runs/x", encoder=encoder, settings=settings, **asked))


def tiles_of(stages) -> dict[str, tuple]:
    """Of each stage that is told of tiles: side, mpp, pooling."""
    values = {stage.id: values_of(stage) for stage in stages if stage.id[:2] in ("00", "10", "20")}
    return {id[:2] + id[2:].partition("_coarse")[2]: tuple(v.get(n) for n in ("tile_px", "mpp", "pooling"))
            for id, v in values.items()}  # fmt: skip


def test_a_known_encoder_brings_its_tiles_and_its_pooling_and_what_the_user_writes_wins():
    stages = stages_of("virchow2")
    assert tiles_of(stages) == {"00": (224, 0.5, None), "10": (224, 0.5, None), "20": (None, None, "cls_mean")}
    assert {s.parameters["encoder"] for s in stages if s.id[:2] == "20"} == {"paige-ai/Virchow2"}
    assert told(stages) == (
        "encoder paige-ai/Virchow2: tiles of 224 px of 0.5 µm, pooling cls_mean, as it was made for; weights: gated, "
        "CC-BY-NC-ND-4.0"
    )
    stages = stages_of("MahmoodLab/UNI2-h", "tile_px=224", "10.mpp=0.25", "20.pooling=mean")
    assert tiles_of(stages) == {"00": (224, 0.5, None), "10": (224, 0.25, None), "20": (None, None, "mean")}
    assert "not as it was made for (tile_px 224, made for 256; mpp 0.25, made for 0.5; pooling mean" in told(stages)


def test_an_encoder_that_is_not_known_gets_the_real_defaults_and_the_demo_its_own():
    stages = stages_of("somebody/swin")
    assert tiles_of(stages) == {"00": (256, 0.5, None), "10": (256, 0.5, None), "20": (None, None, "")}
    assert told(stages) == (
        "encoder somebody/swin: tiles of 256 px of 0.5 µm, pooling cls: not known by name, so check -p tile_px, mpp "
        "and pooling"
    )
    toy = stages_of("stain-texture", *TOY_SETTINGS, compressors=("all",))
    assert tiles_of(toy) == {"00": (64, 1, None), "10": (64, 1, None), "20": (None, None, "cls")}
    assert told(toy) == "encoder stain-texture: tiles of 64 px of 1 µm; a stand-in without weights, as asked for"


def test_coarse_tiles_are_multiples_of_the_encoders_own():
    stages = stages_of("UNI", compressors=("all", "all:coarse=4"))
    assert tiles_of(stages) == {
        "00": (256, 0.5, None), "10": (256, 0.5, None), "104": (256, 2.0, None), "20": (None, None, "cls"),
        "204": (None, None, "cls"),
    }  # fmt: skip


def test_slides_without_an_encoder_or_a_language_model_are_refused_with_what_to_do(monkeypatch):
    with pytest.raises(ValueError, match=r"encoder: got none; slides have to be .*--encoder PATH_OR_ID.*stain-t"):
        stages_of("")
    with pytest.raises(ValueError, match=r"llm: got none; .*--llm PATH_OR_ID.*--llm store/llm/toy asks for the demo's"):
        stages_of("stain-texture", llm="")
    stages_of("", "20.encoder=stain-texture", f"lm={LM}", llm="")  # named, if in other words
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: False)
    assert told(stages_of("")) == ""  # features of all slides: nothing is encoded


def test_an_encoder_that_cannot_be_loaded_is_refused_when_planned(tmp_path, monkeypatch):
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"bare: no config.json there"):
        stages_of(str(tmp_path / "bare"))
    stages_of(str(tmp_path / "absent"))  # `check_inputs` names it
    monkeypatch.setattr(TIMM_OR_NOT, lambda name: None)
    with pytest.raises(ValueError, match=r"UNI: a model of timm; got no timm here, .*pip install 'slidesieve\[timm\]'"):
        stages_of("UNI")


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_a_preset_over_slides_says_how_its_features_are_made_and_serves_another_encoder(name):
    preset = read_preset(name)
    assert preset.options["encoder"] == "MahmoodLab/CONCH"
    remedy = "CONCH: needs its package conch, .*TRIDENT .--patch_encoder conch_v1 --patch_size 224 --mag 20. and name"
    with pytest.raises(ValueError, match=remedy):
        stages_of(preset.options["encoder"], *preset.tiles)
    assert tiles_of(stages_of("UNI2-h"))["10"] == (256, 0.5, None)


def test_the_demos_stand_ins_serve_no_other_files(tmp_path):
    parameters = f'manifest: str = "a.csv"  # in: cohort\nlm: str = "toy"  # in: path or id; {STAND_IN}\n'
    notebook = write_notebook(tmp_path / "40_tiny.ipynb", parameters=parameters, body="", outputs="[]")
    message = r"40_tiny: lm: got none beside manifest = .*b.csv; toy is the demo's stand-in, .*\(-p lm=PATH_OR_ID\)"
    with pytest.raises(ValueError, match=message):
        run_notebook(notebook, tmp_path / "out", {"manifest": str(tmp_path / "b.csv")})
    assert not (tmp_path / "out").exists()
    shutil.copy(notebook, tmp_path / "b.csv")
    given = {"manifest": str(tmp_path / "b.csv"), "lm": "toy"}
    assert run_notebook(notebook, tmp_path / "out", given, threads=1).status == "ran"


def test_every_language_model_and_encoder_of_a_notebook_is_marked_as_the_demos():
    declared = {path.stem: read_parameters(path) for path in NOTEBOOKS.glob("*.ipynb")}
    demos = ("store/llm/toy", "stain-texture")
    toys = {(stem, n) for stem, ps in declared.items() for n, p in ps.items() if p.default in demos and p.role == "in"}
    marked = {(stem, n) for stem, ps in declared.items() for n, p in ps.items() if STAND_IN in p.help}
    assert toys == marked and len(marked) == 8
