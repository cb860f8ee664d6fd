"""The first slides of the order come from as many sites, then patients, as there can be."""

import pandas as pd
import pytest

from slidesieve.cohort.manifest import COLUMNS, Manifest, read_manifest
from slidesieve.cohort.site_order import over_sites

SITES = {"A": 40, "B": 11, "C": 7, "": 3}  # slides of each; patients of A have three each, others one


def cohort(folder) -> Manifest:
    rows = [
        (f"{site}{i:02d}", f"{site}-p{i // 3 if site == 'A' else i}", site, "train")
        for site, n in SITES.items()
        for i in range(n)
    ]
    table = pd.DataFrame("", index=range(len(rows)), columns=list(COLUMNS))
    table[["slide_id", "case_id", "site", "split"]] = rows
    table.assign(feature_path="f.h5").to_csv(folder / "m.csv", index=False)
    return read_manifest(folder / "m.csv")


@pytest.fixture
def manifest(tmp_path):
    return cohort(tmp_path)


def test_sites_then_patients_take_turns(manifest):
    table = manifest.table.set_index("slide_id")
    order = over_sites(manifest, table.index, seed=1)
    assert sorted(order) == sorted(table.index)
    for turn in range(11):  # as long as a site has slides left, it is there once a turn
        lasting = [site for site, n in SITES.items() if n > turn]
        at = sum(min(n, turn) for n in SITES.values())
        assert sorted(table.site[order[at : at + len(lasting)]]) == sorted(lasting)
    of_a = [table.case_id[s] for s in order if table.site[s] == "A"]
    assert len(set(of_a[:14])) == 14 and len(set(of_a[14:27])) == 13  # 13 patients of three slides and one of one


def test_the_seed_decides_and_neither_the_order_given_nor_others_do(manifest):
    slides = list(manifest.table.slide_id)
    assert over_sites(manifest, slides, seed=1) == over_sites(manifest, reversed(slides), seed=1)
    assert over_sites(manifest, slides, seed=1) != over_sites(manifest, slides, seed=2)
    assert set(over_sites(manifest, slides[:9], seed=1)) == set(slides[:9])
