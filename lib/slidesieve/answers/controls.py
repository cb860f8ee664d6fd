"""Controls of an answer: the same weights asked about another slide, and on the soft path."""

from collections.abc import Sequence

import numpy as np

CONTROLS = ("_soft", "_wrong_slide")


def wrong_slides(slide_ids: Sequence[str], seed: int) -> dict[str, str]:
    """Give every slide another slide's place (a cyclic shift of a seeded shuffle: nobody keeps their own)."""
    if len(slide_ids) < 2:
        raise ValueError(
            f"wrong-slide control: got {len(slide_ids)} slides; expected 2 or more; set wrong_slide to false"
        )
    shuffled = [sorted(slide_ids)[i] for i in np.random.default_rng(seed).permutation(len(slide_ids))]
    return dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))


def is_control(method: str) -> bool:
    """Say whether a method is another one's control (its soft or wrong-slide answers)."""
    return method.endswith(CONTROLS)
