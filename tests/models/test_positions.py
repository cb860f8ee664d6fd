"""Positions of visual tokens: the slide's own index survives every cap, for every method, in training and answering."""

import numpy as np
import pytest
import torch

from slidesieve.cohort.manifest import read_manifest
from slidesieve.features.bag import Bag, Batch, collate, in_box, linspace_cap, make_bag, take
from slidesieve.features.bag_files import load_bags
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.positions import largest_position
from slidesieve.synthetic.language import build_lm, build_tokenizer

N, D, K, CAP, SPAN = 75, 33, 7, 29, 50
SPARSELEARN = {"scorer_heads": 3, "scorer_width": 12}
KEEPING, MIXING = ("all", "random", "linspace", "sparselearn"), ("mean", "tcssa")
WAYS = ("original", "scaled", "contiguous")


@pytest.fixture(scope="module")
def lm_folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("lm"), build_tokenizer()
    build_lm(tokenizer, width=24, layers=1, heads=3, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def bag(n: int = N, seed: int = 0) -> Bag:
    x = np.random.default_rng(seed).standard_normal((n, D))
    return make_bag(f"s{seed}", x, np.stack([np.arange(n) % 9, np.arange(n) // 9], 1) * 64, {})


def compressed(lm_folder, name: str, way: str, batch: Batch, *, training: bool = False):
    options = SPARSELEARN if name == "sparselearn" else {}
    model = build_vlm(
        lm_folder, name, d=D, k=K, seed=1, options=options, projector_width=19, position_ids=way, position_span=SPAN
    ).eval()
    model.compressor.train(training)
    with torch.no_grad():
        return model.compress(batch, torch.Generator().manual_seed(0))


def test_a_cap_and_a_cap_of_it_remember_the_slide():
    once = linspace_cap(bag(), CAP)
    assert once.slide_index.tolist() == [i * (N - 1) // (CAP - 1) for i in range(CAP)] and once.slide_length == N
    twice = linspace_cap(once, 5)
    assert twice.slide_index.tolist() == [once.slide_index[j * 28 // 4] for j in range(5)] and twice.slide_length == N
    assert np.array_equal(twice.x, bag().x[twice.slide_index])
    assert bag().slide_index.tolist() == list(range(N)) and bag().slide_length == N
    turned = take(bag(), np.arange(N)[::-1])
    assert turned.slide_index.tolist() == list(range(N))[::-1]


def test_a_region_is_a_slide_of_its_own():
    region = in_box(linspace_cap(bag(), CAP), (0, 0, 9 * 64, 4 * 64))
    assert len(region.x) < CAP and region.slide_length == len(region.x)
    assert region.slide_index.tolist() == list(range(len(region.x)))


def test_a_cap_at_reading_remembers_the_slide(tmp_path):
    from slidesieve.features.store import write_packed

    write_packed(tmp_path / "store.h5", [bag()])
    row = "slide_id,case_id,site,slide_path,feature_path,mpp,split,sha256,source,licence\ns0,c,,,store.h5,,test,,,\n"
    (tmp_path / "manifest.csv").write_text(row)
    read = load_bags(read_manifest(tmp_path / "manifest.csv"), None, ["s0"], most_tiles=CAP)["s0"]
    assert read.slide_length == N and np.array_equal(read.slide_index, linspace_cap(bag(), CAP).slide_index)


def test_a_batch_carries_both_and_padding_nothing():
    batch = collate([linspace_cap(bag(), CAP), bag(11, 1)])
    assert batch.length.tolist() == [N, 11]
    assert batch.index[0].tolist() == linspace_cap(bag(), CAP).slide_index.tolist()
    assert batch.index[1].tolist() == [*range(11), *[0] * (CAP - 11)]
    bare = Batch(*batch.tiles)
    assert bare.slide_length.tolist() == [CAP, 11] and bare.slide_index[0].tolist() == list(range(CAP))


def expected(way: str, rows: list[int], slide: Bag) -> tuple[list[int], int]:
    index, n = slide.slide_index.tolist(), slide.slide_length
    if way == "original":
        return [index[r] for r in rows], n
    if way == "scaled":
        return [index[r] * SPAN // n for r in rows], SPAN
    return list(range(len(rows))), len(rows)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", KEEPING)
def test_a_tile_claims_the_same_place_whoever_kept_it(lm_folder, name, way, training):
    bags = [linspace_cap(bag(), CAP), bag(11, 1), bag(3, 2)]
    out = compressed(lm_folder, name, way, collate(bags), training=training)
    for i, slide in enumerate(bags):
        rows = out.kept[i][out.mask[i]].tolist()
        assert (out.positions[i][out.mask[i]].tolist(), int(out.span[i])) == expected(way, rows, slide)
    assert (out.positions[~out.mask] == 0).all()
    alone = compressed(lm_folder, name, way, collate(bags[:1]), training=training)
    if not (training and name == "random"):  # whose draw depends on the batch's shape
        assert torch.equal(alone.positions[0], out.positions[0][out.mask[0]]) and int(alone.span) == int(out.span[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*MIXING, "text_only"])
def test_tokens_that_are_no_tile_know_nothing_of_lengths(lm_folder, name, way):
    out = compressed(lm_folder, name, way, collate([linspace_cap(bag(), CAP), bag(11, 1)]))
    m = 0 if name == "text_only" else K
    assert out.span.tolist() == [m, m] and out.positions.tolist() == [list(range(m))] * 2


@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_tiles_changes_nothing(lm_folder, way):
    order = np.random.default_rng(3).permutation(N)
    straight = compressed(lm_folder, "sparselearn", way, collate([bag()]))
    turned = compressed(lm_folder, "sparselearn", way, collate([take(bag(), order)]))
    pairs = [
        sorted(zip(out.positions[0].tolist(), out.tokens[0].round(decimals=4).tolist(), strict=True))
        for out in (straight, turned)
    ]
    if way != "contiguous":  # which numbers what is kept in the order of the bag
        assert pairs[0] == pairs[1]
    assert sorted(straight.positions[0].tolist()) == sorted(turned.positions[0].tolist())


@pytest.mark.parametrize("way", WAYS)
def test_the_largest_position_is_reached_and_not_passed(lm_folder, way):
    out = compressed(lm_folder, "all", way, collate([linspace_cap(bag(), CAP), bag(11, 1)]))
    most = largest_position(way, longest=N, tokens=CAP, span=SPAN)
    assert int(out.span.max()) == most == {"original": N, "scaled": SPAN, "contiguous": CAP}[way]
    assert int(out.positions.max()) < most


def test_words_that_there_are_not_are_named(lm_folder):
    with pytest.raises(ValueError, match="position_ids: got 'new'; expected one of"):
        compressed(lm_folder, "all", "new", collate([bag()]))
    with pytest.raises(ValueError, match="position_span: got 0"):
        largest_position("scaled", longest=N, tokens=CAP, span=0)
