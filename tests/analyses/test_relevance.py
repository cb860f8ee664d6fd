"""Shares of relevance: their laws, a text tower from its own parts, and attention as the classifier uses it."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from tiny_clip import WORDS, write_clip
from transformers import AutoConfig, CLIPModel

from slidesieve.analyses import relevance
from slidesieve.cohort.splits import grouped_splits
from slidesieve.datasets.labels import label_slides
from slidesieve.features.bag import make_bag
from slidesieve.mil.folds import untrained
from slidesieve.mil.training import Settings
from slidesieve.synthetic.language import build_lm, build_tokenizer

D = 11


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"), d=D)


def test_equal_relevance_needs_its_own_share_and_one_tile_a_part_of_a_tile():
    for n in (1, 7, 40):
        assert relevance.share_holding(np.full(n, 0.3), 0.8) == pytest.approx(0.8)
    assert relevance.share_holding(np.array([0, 0, 1.0, 0, 0]), 0.5) == pytest.approx(0.1)
    assert relevance.share_holding(np.array([0.1, 0.6, 0.3]), 0.8) == pytest.approx((1 + 2 / 3) / 3)


def test_a_share_is_the_same_for_any_order_and_scale_and_grows_with_the_mass():
    mass = np.random.default_rng(0).random(31) ** 4
    shares = [relevance.share_holding(mass, held) for held in (0.1, 0.5, 0.8, 1.0)]
    assert shares == sorted(shares) and shares[1] < 0.5 and shares[3] <= 1
    assert relevance.share_holding(5 * mass[::-1], 0.5) == pytest.approx(shares[1])


def test_prompts_are_embedded_as_the_model_does_one_by_one(clip):
    prompts = ["tumour", "necrosis of the lung"]
    tower = relevance.read_text_tower(str(clip), prompts)
    model = CLIPModel.from_pretrained(clip).eval()
    for unit, prompt in zip(tower.unit, prompts, strict=True):
        ids = torch.tensor([[1, *(WORDS.index(word) for word in prompt.split()), 2]])
        with torch.no_grad():
            alone = model.text_projection(model.text_model(input_ids=ids).pooler_output)[0].numpy()
        assert np.allclose(unit, alone / np.linalg.norm(alone), atol=1e-5)
    assert tower.scale == pytest.approx(np.exp(model.config.logit_scale_init_value))


def test_shares_of_a_text_are_those_of_its_softmax_beside_random_directions(clip):
    tower = relevance.read_text_tower(str(clip), ["tumour", "lung"])
    x = np.random.default_rng(0).standard_normal((23, D)).astype(np.float32)
    x[4] = 9 * tower.unit[0]  # the one tile that the first prompt names, cosine 1
    bags = {"a": make_bag("a", x, None, {})}
    told = relevance.text_shares(bags, ["a"], tower._replace(scale=50.0), seed=0)
    assert told["source"].tolist() == ["tumour", "lung", relevance.ARBITRARY, relevance.ARBITRARY]
    cosine = x @ tower.unit[1] / np.linalg.norm(x, axis=1)
    expected = relevance.share_holding(softmax(50 * cosine), 0.8)
    assert told["share_80"][1] == pytest.approx(expected, rel=1e-4)
    assert told["share_80"][0] < 2 / 23 and told["auroc"].isna().all()


def test_features_outside_the_joint_space_and_models_without_text_are_told(clip, tmp_path):
    tower = relevance.read_text_tower(str(clip), ["tumour"])
    bags = {"a": make_bag("a", np.ones((3, D + 2), np.float32), None, {})}
    with pytest.raises(ValueError, match="a: features of width 13; the text encoder's joint space has 11"):
        relevance.text_shares(bags, ["a"], tower, seed=0)
    with pytest.raises(ValueError, match="got no prompts; set parameter prompts"):
        relevance.read_text_tower(str(clip), [])
    tokenizer = build_tokenizer()
    build_lm(tokenizer, width=24, layers=1, heads=3, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    name = AutoConfig.from_pretrained(tmp_path).model_type
    with pytest.raises(ValueError, match=f"(?i){name}model has no get_text_features or no logit_scale"):
        relevance.read_text_tower(str(tmp_path), ["tumour"])


@pytest.fixture(scope="module")
def cohort():
    rng, rows, bags = np.random.default_rng(0), [], {}
    for i in range(30):
        bags[f"s{i:02}"] = make_bag(f"s{i:02}", rng.standard_normal((5 + i, D)).astype(np.float32), None, {})
        rows.append((f"c{i}", f"s{i:02}", f"class {i % 2}"))
    labels = pd.DataFrame(rows, columns=["case_id", "slide_id", "kind"])
    table = label_slides(labels, label="kind", stored=list(bags), most=None)
    (split,) = grouped_splits(table, by="patient", folds=[0], n_folds=3, seed=0)
    return bags, table, split


def test_attention_is_what_the_classifier_weighs_its_tiles_with(cohort):
    bags, table, split = cohort
    net, sides = untrained("gated_abmil", split, table, bags, k=0, seed=0, options={})
    weights = relevance.attention(net, sides[2], 1)
    batch, _ = sides[2].batch(np.array([1]))
    x, coords, mask = batch.tiles
    with torch.no_grad():
        lifted = net.model.feat_ext(x)[0].numpy()
        logits = net(x, coords, mask)[0]
        expected = net.model.classifier(torch.from_numpy(weights @ lifted).float())
    assert weights.sum() == pytest.approx(1) and torch.allclose(logits, expected, atol=1e-5)


def test_attention_shares_are_of_long_slides_of_the_tested_fold_before_and_after_training(cohort, tmp_path):
    bags, table, split = cohort
    told = relevance.attention_shares(
        split,
        table,
        bags,
        fewest_tiles=15,
        seed=0,
        settings=Settings(3e-3, 2, 2, 8, balanced=True),
        checkpoint=tmp_path / "c.pt",
        save_minutes=10,
        device="cpu",
    )
    long = [slide for slide in split.test if len(bags[slide].x) >= 15]
    assert 0 < len(long) < len(split.test)
    for source in (relevance.ATTENTION, relevance.UNTRAINED):
        assert told.loc[told["source"] == source, "slide_id"].tolist() == long
    assert told["share_50"].lt(told["share_80"]).all() and told["auroc"].between(0, 1).all()
    named = relevance.quantities(told)
    assert named["tiles that hold 80%, attention, trained"].to_dict() == dict(
        zip(long, told["share_80"][: len(long)], strict=True)
    )
