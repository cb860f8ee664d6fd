"""A language model's faults are named when the experiment is planned; its weights are known by their content."""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
from tiny_notebooks import write_notebook

from benchmarks.decoder_families import POSITIONS, make_family
from flows.plan import language_models
from flows.plan.language_models import check_language_models, longest_bag
from flows.plan.stages import make_stage
from slidesieve.models.checkpoints import build_vlm, load_model, save_model
from slidesieve.provenance.recipes import recipe_of, with_fetched_models
from slidesieve.provenance.weights import fingerprint, snapshot

PARAMETERS = """
lm: str = ""  # in: language model, path or id
compressor: str = "all"  # which
chat_template: str = "own"  # which
position_ids: str = "original"  # which
position_span: int = 64  # of scaled
max_tiles: int = 38400  # at most
"""


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(tmp_path / "40_tiny.ipynb", parameters=PARAMETERS, body="", outputs="[]")


@pytest.fixture
def manifest(tmp_path):
    for name, n in (("a", POSITIONS - 1), ("b", POSITIONS + 75)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = np.zeros((n, 5), "float32"), np.zeros((n, 2), "int64")
    head = "slide_id,case_id,site,slide_path,feature_path,mpp,split,sha256,source,licence"
    rows = [head, "a,a,x,,a.h5,,train,,,", "b,b,x,,b.h5,,test,,,"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "manifest.csv"


def stage(notebook, lm, **values):
    return make_stage(notebook, id="40", out_dir=str(notebook.parent / "out"), offered={"lm": str(lm)} | values)


def test_a_plan_with_a_language_model_that_cannot_serve_is_refused(notebook, manifest, tmp_path):
    mamba, phi = make_family("mamba", tmp_path / "mamba"), make_family("phi", tmp_path / "phi")
    with pytest.raises(ValueError, match="layers with linear_attention"):
        check_language_models([stage(notebook, mamba)], manifest)
    with pytest.raises(ValueError, match="latents cannot be read by phi"):
        check_language_models([stage(notebook, phi, compressor="locpath")], manifest)
    made = make_stage(notebook, id="02", out_dir=str(mamba), offered={})
    check_language_models([made, stage(notebook, mamba)], manifest)  # a stage makes it: nothing is there to be read
    check_language_models([stage(notebook, tmp_path / "absent")], manifest)


def test_slides_longer_than_the_positions_are_named_when_planned(notebook, manifest, tmp_path):
    lm = make_family("gpt2", tmp_path / "lm")
    assert longest_bag(manifest) == POSITIONS + 75
    few = {"max_tiles": POSITIONS}
    for values in ({}, few, {"position_ids": "contiguous"}):  # a tile keeps its own position through a cap
        with pytest.raises(
            ValueError, match=f"{POSITIONS + 75} positions are needed, gpt2 has no more than {POSITIONS}"
        ):
            check_language_models([stage(notebook, lm, **values)], manifest)
    for values in ({"position_ids": "contiguous"} | few, {"position_ids": "scaled"}, {"compressor": "mean"}):
        check_language_models([stage(notebook, lm, **values)], manifest)


def test_an_id_that_cannot_be_asked_for_waits_for_its_stage(notebook, manifest, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_language_models([stage(notebook, "nobody/nothing-here")], manifest)
    assert language_models._values(stage(notebook, "nobody/nothing-here"))["compressor"] == "all"


def test_weights_are_known_by_content_in_a_folder_and_in_the_hubs_cache(tmp_path, monkeypatch):
    folder = make_family("llama", tmp_path / "lm")
    sums = {"model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
    expected = hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]
    assert fingerprint(str(folder)) == expected
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert snapshot("some/llama") is None
    repository = tmp_path / "hub" / "models--some--llama"
    blob = repository / "blobs" / sums["model.safetensors"]
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"not read: the name is the sum")
    cached = repository / "snapshots" / "0123456789abcdef0123"
    cached.mkdir(parents=True)
    (cached / "model.safetensors").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(cached.name)
    assert snapshot("some/llama") == cached and fingerprint("some/llama") == expected
    with pytest.raises(ValueError, match="no weights in"):
        fingerprint(str(tmp_path / "hub"))


def test_an_id_enters_a_recipe_by_its_commit(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    given = {"lm": "some/llama", "out_dir": str(tmp_path / "out")}
    before = recipe_of(notebook, given)
    assert before.inputs["lm"] == {"some/llama": "id"}
    for commit in ("0123456789abcdef0123", "1123456789abcdef0123"):
        (tmp_path / "hub/models--some--llama/snapshots" / commit).mkdir(parents=True)
        (tmp_path / "hub/models--some--llama/refs").mkdir(exist_ok=True)
        (tmp_path / "hub/models--some--llama/refs/main").write_text(commit)
        now = recipe_of(notebook, given)
        assert now.inputs["lm"] == {"some/llama": commit[:16]}
        assert with_fetched_models(before) == now and with_fetched_models(now) == now


def test_a_model_loads_only_on_the_weights_it_was_trained_with(tmp_path):
    lm, other = make_family("llama", tmp_path / "one"), make_family("llama", tmp_path / "two", seed=1)
    model = build_vlm(str(lm), "mean", d=7, k=3, seed=0, options={}, projector_width=5)
    save_model(model, tmp_path / "model")
    moved = shutil.copytree(lm, tmp_path / "moved")
    again = load_model(tmp_path / "model", str(moved))
    assert again.config["chat"] == model.chat.rendered and again.config["lm"]["name"] == "moved"
    with pytest.raises(
        ValueError, match=r"trained with the language model one \(weights \w{16}\), got .*two \(weights"
    ):
        load_model(tmp_path / "model", str(other))
    saved = json.loads((tmp_path / "model" / "model.json").read_text())
    saved["chat"]["after"] = "\n{text}\nReply:"
    (tmp_path / "model" / "model.json").write_text(json.dumps(saved))
    prompt = load_model(tmp_path / "model", str(lm)).chat.turn("Why?", []).prompt
    assert model.tokenizer.decode(prompt).endswith("Why?\nReply:")
