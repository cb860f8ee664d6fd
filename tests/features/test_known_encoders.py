"""Encoders known by name: facts reach who asks; what cannot be loaded is refused before its weights are opened."""

import json

import h5py
import numpy as np
import pytest
import torch

from slidesieve.features import known_encoders
from slidesieve.features.encoders import load_encoder
from slidesieve.features.known_encoders import check_loadable, departures, departures_of_tiles, hub_id, known

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.3, 0.25)
FACTS = {  # name: side, mpp, pooling, loaded by, TRIDENT's name
    "CONCH": (512, 0.5, None, "its package conch", "conch_v1"),
    "conchv1_5": (512, 0.5, None, "code of its own", "conch_v15"),
    "UNI": (256, 0.5, "cls", "timm", "uni_v1"),
    "UNI2-h": (256, 0.5, "cls", "timm", "uni_v2"),
    "Virchow": (224, 0.5, "cls_mean", "timm", "virchow"),
    "Virchow2": (224, 0.5, "cls_mean", "timm", "virchow2"),
    "H-optimus-0": (224, 0.5, "cls", "timm", "hoptimus0"),
    "H-optimus-1": (224, 0.5, "cls", "timm", "hoptimus1"),
    "H0-mini": (224, 0.5, "cls_mean", "timm", "h0-mini"),
    "prov-gigapath": (256, 0.5, "cls", "timm", "gigapath"),
    "phikon": (224, 0.5, "cls", "transformers", "phikon"),
    "phikon-v2": (224, 0.5, "cls", "transformers", "phikon_v2"),
    "midnight": (224, 0.5, "cls_mean", "transformers", "midnight12k"),
    "plip": (None, None, None, "transformers", ""),
    "hibou-b": (224, None, "pooler", "code of its own", ""),
    "hibou-L": (224, 0.5, "pooler", "code of its own", "hibou_l"),
    "KEEP": (256, 0.5, None, "code of its own", "keep"),
    "musk": (384, 0.5, None, "its package musk", "musk"),
}


def test_the_table_is_complete_and_says_what_was_found():
    told = {e.name: (e.tile_px, e.mpp, e.pooling, e.loaded_by, e.trident) for e in known_encoders.known_encoders()}
    assert told == FACTS
    assert {e.name for e in known_encoders.known_encoders() if e.swiglu} == {"UNI2-h", "Virchow", "Virchow2", "H0-mini"}
    assert known("virchow2").terms == "gated, CC-BY-NC-ND-4.0" and known("midnight").terms == "MIT"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("MahmoodLab/UNI2-h", "UNI2-h"),
        ("mahmoodlab/uni", "UNI"),
        ("uni2_h", "UNI2-h"),
        ("/models/our-UNI2-h", "UNI2-h"),
        ("conchv1_5", "conchv1_5"),
        ("hub/models--paige-ai--Virchow2/snapshots/0a1b", "Virchow2"),
        ("owkin/phikon-v2", "phikon-v2"),
        ("/models/muni", None),
        ("Virchow2-head", None),
        ("stain-texture", None),
    ],
)
def test_a_name_is_known_by_its_id_its_last_part_or_its_folder(word, name):
    found = known(word)
    assert (found and found.name) == name


def test_a_bare_name_stands_for_its_id_and_a_path_for_itself(tmp_path, monkeypatch):
    assert hub_id("uni2-h") == "MahmoodLab/UNI2-h" and hub_id("swin") == "swin"
    assert hub_id("our-UNI2-h") == "our-UNI2-h" and hub_id("other/UNI") == "other/UNI"
    (tmp_path / "UNI").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_id("UNI") == "UNI"


def test_what_departs_from_what_an_encoder_was_made_for_is_told(tmp_path):
    assert departures("Virchow2", tile_px=224, mpp=0.502, pooling="cls_mean") == ""
    assert departures("Virchow2", tile_px=256, mpp=1.0, pooling="cls") == (
        "Virchow2: tile_px 256, made for 224; mpp 1, made for 0.5; pooling cls, made for cls_mean"
    )
    assert departures("plip", tile_px=64, mpp=3, pooling="mean") == ""  # no fact, no complaint
    assert departures("x/unheard-of", tile_px=64, mpp=3, pooling="mean") == ""
    assert departures_of_tiles("UNI", "cls", tmp_path) == ""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["coords"] = np.zeros((1, 2), "int64")
        file["coords"].attrs["patch_size"], file.attrs["mpp"] = 224, 0.5  # where stage 10 has them
    assert departures_of_tiles("UNI", "cls", tmp_path) == "UNI: tile_px 224, made for 256"


def folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def test_what_cannot_be_loaded_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    own = folder(tmp_path / "own", model_type="hibou", auto_map={"AutoModel": "modeling.Hibou"})
    strange = folder(tmp_path / "strange", model_type="hibou")
    bare = folder(tmp_path / "bare", model_type="vit")
    for given, message in {
        "": r"encoder: got none; slides have to be encoded: .*--encoder PATH_OR_ID.*stain-texture.*feature_path",
        str(tmp_path / "empty"): "empty: no config.json there; expected the folder of a vision model",
        own: "own: needs code of its own, which is never run here; .*TRIDENT .--patch_encoder NAME --patch_size 256",
        strange: "strange: its config.json says model_type 'hibou', which transformers does not know",
        bare: "bare: a vit without preprocessor_config.json",
        "MahmoodLab/CONCH": "needs its package conch, .*--patch_encoder conch_v1 --patch_size 512 --mag 20",
        "hibou-L": "hibou-L: needs code of its own, .*--patch_encoder hibou_l --patch_size 224",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_encoder(given)
    with pytest.raises(ValueError, match="--patch_encoder conch_v1 --patch_size 224 --mag 10"):
        check_loadable("CONCH", tile_px=224, mpp=1.0)
    check_loadable("somebody/something")  # not here: the hub will say
    check_loadable("stain-texture")


def test_a_timm_model_without_timm_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(known_encoders, "find_spec", lambda name: None)
    config = {"architecture": "vit_large_patch16_224", "pretrained_cfg": {}}
    for given in (folder(tmp_path / "mine", **config), "Virchow2", "bioptimus/H-optimus-0"):
        with pytest.raises(ValueError, match=r"a model of timm; got no timm here, .*pip install 'slidesieve\[timm\]'"):
            check_loadable(given)
    monkeypatch.setattr(known_encoders, "find_spec", lambda name: True)
    check_loadable("Virchow2")


TINY = {"img_size": 56, "patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1e-5}


@pytest.mark.parametrize(
    ("name", "arch", "args", "prefix"),
    [
        ("Virchow2", "vit_huge_patch14_224", {"mlp_ratio": 5.3375, "reg_tokens": 4}, 5),
        ("UNI", "vit_large_patch16_224", {}, 1),
        ("headless", "vit_base_patch16_224", {"class_token": False, "reg_tokens": 3, "global_pool": "avg"}, 3),
    ],
)
def test_a_timm_folder_gives_timms_own_features_or_is_refused(tmp_path, name, arch, args, prefix):
    timm = pytest.importorskip("timm")
    args, found = TINY | args, known(name)
    layers = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU} if found and found.swiglu else {}
    model = timm.create_model(arch, pretrained=False, num_classes=0, **args, **layers).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, 0.5, 0.3)
    picture = {"input_size": [3, 56, 56], "mean": MEAN, "std": STD, "interpolation": "bicubic", "crop_pct": 1.0}
    where = folder(tmp_path / name, architecture=arch, num_classes=0, model_args=args, pretrained_cfg=picture)
    torch.save(model.state_dict(), tmp_path / name / "pytorch_model.bin")
    tiles = np.random.default_rng(0).integers(0, 256, (5, 56, 56, 3), dtype=np.uint8)
    pixels = torch.tensor(((tiles / 255 - MEAN) / STD).transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.inference_mode():
        hidden = model.forward_features(pixels)
    mean = hidden[:, prefix:].mean(1)
    np.testing.assert_allclose(load_encoder(where, pooling="mean").encode(tiles), mean, atol=1e-5)
    if prefix == 3:
        with pytest.raises(ValueError, match="has no class token"):
            load_encoder(where, pooling="cls_mean")
        return
    joined = load_encoder(where, pooling="cls_mean")
    assert joined.d == 64 and joined.tile_px == 56
    np.testing.assert_allclose(joined.encode(tiles), torch.cat([hidden[:, 0], mean], 1), atol=1e-5)
    untold = {key: value for key, value in args.items() if key != "init_values"}
    (tmp_path / name / "config.json").write_text(
        json.dumps({"architecture": arch, "num_classes": 0, "model_args": untold, "pretrained_cfg": picture})
    )
    with pytest.raises(ValueError, match=r"does not describe its weights: 4 weights missing or left over, .*gamma"):
        load_encoder(where)
