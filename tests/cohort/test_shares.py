"""Shares of the slides: disjoint, together all, in an order of their own."""

import pytest

from slidesieve.cohort.shares import share_of

IDS = [f"s{i}" for i in range(17)]


def test_shares_are_disjoint_and_all_of_them_are_everything():
    shares = [share_of(IDS, f"{i}of5") for i in range(1, 6)]
    assert shares[1] == ["s1", "s6", "s11", "s16"] and {slide for share in shares for slide in share} == set(IDS)
    assert sum(map(len, shares)) == len(IDS)
    assert share_of(iter(IDS), "") == IDS and share_of(IDS[:2], "3of3") == []


@pytest.mark.parametrize("shard", ["0of8", "9of8", "3/8", "of8", "1of0", " 1of2"])
def test_what_is_no_share_is_refused(shard):
    with pytest.raises(ValueError, match="expected one of 1of8 to 8of8"):
        share_of(IDS, shard)
