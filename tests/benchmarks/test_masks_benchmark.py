"""Otsu's threshold against trying them all."""

import numpy as np

from benchmarks.masks import GREY, otsu


def test_otsu_parts_grey_values_with_the_greatest_variance_between():
    rgb = np.random.default_rng(1).integers(0, 255, (13, 17, 3)).astype(np.uint8)
    rgb[:, 8:] //= 3
    grey = (rgb @ GREY).round()
    variance = [
        (grey <= t).mean() * (grey > t).mean() * (grey[grey <= t].mean() - grey[grey > t].mean()) ** 2
        if (grey <= t).any() and (grey > t).any()
        else -1
        for t in range(256)
    ]
    dark = grey <= np.argmax(variance)
    assert (otsu(rgb) >= dark).all() and 0 < dark.mean() < 1  # and the gaps closed
