"""An order in which the first few slides stand for a cohort: sites take turns, and so do patients within a site."""

from collections.abc import Iterable

import numpy as np

from slidesieve.cohort.manifest import Manifest


def over_sites(manifest: Manifest, slide_ids: Iterable[str], *, seed: int) -> list[str]:
    """Order slides so that any number of the first ones come from as many sites, then patients, as there can be.

    Which site, patient and slide come first is drawn by `seed`. Slides without a site are one site.
    """
    table = manifest.table[manifest.table["slide_id"].isin(set(slide_ids))].sort_values("slide_id")
    table = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    table = table.assign(turn=table.groupby(["site", "case_id"]).cumcount())  # of a slide among its patient's
    table = table.sort_values("turn", kind="stable")
    table = table.assign(turn=table.groupby("site").cumcount())  # of a slide among its site's
    return table.sort_values("turn", kind="stable")["slide_id"].tolist()
