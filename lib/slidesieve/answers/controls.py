"""Controls of an answer: the same weights asked about another patient's slide, and on the soft path."""

from collections.abc import Mapping, Sequence

import numpy as np

SOFT, WRONG_SLIDE = "_soft", "_wrong_slide"
CONTROLS = (SOFT, WRONG_SLIDE)


def wrong_slides(slide_ids: Sequence[str], cases: Mapping[str, str], seed: int) -> dict[str, str]:
    """Give every slide the place of another patient's; `cases` says whose each is. Each slide is given once.

    Patients in a seeded order, their slides together: a cyclic shift by the most slides of one patient.
    """
    of: dict[str, list[str]] = {}
    for slide in sorted(slide_ids):
        of.setdefault(cases[slide], []).append(slide)
    most = max(map(len, of.values()), default=0)
    if not of or 2 * most > len(slide_ids):
        raise ValueError(
            f"wrong-slide control: got {len(slide_ids)} slides of {len(of)} patients, {most} of one patient; expected "
            "at most half of one; ask about more patients, or set wrong_slide to false"
        )
    patients = sorted(of)
    shuffled = [s for i in np.random.default_rng(seed).permutation(len(patients)) for s in of[patients[i]]]
    return dict(zip(shuffled, [*shuffled[most:], *shuffled[:most]], strict=True))


def is_control(method: str) -> bool:
    """Say whether a method is another one's control (its soft or wrong-slide answers)."""
    return method.endswith(CONTROLS)
