"""A share of the slides, for a stage that several machines work on: 3of8 is every eighth slide from the third on."""

import re
from collections.abc import Iterable

SHARE = re.compile(r"(\d+)of(\d+)")


def share_of(slide_ids: Iterable[str], shard: str) -> list[str]:
    """Return the slides of a share, all where it is "". Raises ValueError for what is no share."""
    ids = list(slide_ids)
    if not shard:
        return ids
    told = SHARE.fullmatch(shard)
    place, of = (int(told[1]), int(told[2])) if told else (0, 0)
    if not 1 <= place <= of:
        raise ValueError(f"shard: got {shard!r}, expected one of 1of8 to 8of8 (or of another number), or '' for all")
    return ids[place - 1 :: of]
