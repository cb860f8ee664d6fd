"""Figures of masked pre-training: tokens where they lie, hidden ones left out, cosines beside their floors."""

import numpy as np
import pandas as pd
import pytest
from read_back import curve, fresh, legend, outside, points, squares, titles

from slidesieve.analyses.reconstruction import Picture
from slidesieve.figures.reconstruction import NAMES, colours, cosine_beside_floors, reconstruction

PLACES = np.array([[1.5, 0.5], [7.5, 0.5], [4.5, 3.5], [1.5, 6.5], [10.5, 6.5], [4.5, 9.5], [7.5, 9.5]])
HIDDEN = np.array([False, False, False, True, True, True, True])


def picture(d: int = 5) -> Picture:
    generator = np.random.default_rng(0)
    target = 0.2 * generator.standard_normal((7, d))
    predicted = np.where(HIDDEN[:, None], 0.4 * target + 0.02 * generator.standard_normal((7, d)), target)
    return Picture(PLACES, HIDDEN, target, predicted)


def drawn(title: str = "s1", side: int = 3):
    axes = list(fresh(1, 3))
    reconstruction(axes, picture(), title=title, side=side)
    return axes


def corners(which: np.ndarray) -> list[tuple[float, float, float, float]]:
    return [(x - 1.5, y - 1.5, 3, 3) for x, y in PLACES[which].tolist()]


def test_tokens_lie_in_their_places_and_hidden_ones_are_left_out_once():
    everything, visible, predicted = (ax.collections[0] for ax in drawn())
    assert squares(everything) == squares(predicted) == corners(HIDDEN | ~HIDDEN)
    assert squares(visible) == corners(~HIDDEN)


def test_each_token_has_its_own_colour_true_or_predicted():
    true, predicted = colours(picture())
    shown = [ax.collections[0].get_facecolor()[:, :3] for ax in drawn()]
    for found, expected in zip(shown, (true, true[~HIDDEN], predicted), strict=True):
        np.testing.assert_allclose(found, expected)
    assert np.allclose(true[~HIDDEN], predicted[~HIDDEN])
    assert (np.abs(true[HIDDEN] - predicted[HIDDEN]).max(axis=1) > 0.02).all()


def test_the_panels_are_named_and_cut_nothing_off():
    axes = drawn(title="x" * 40)
    texts = ["the slide's tokens", "what was visible", "hidden ones predicted"]
    assert [ax.get_title() for ax in axes] == [f"{'x' * 25}…\n{text}" for text in texts]
    assert [titles(ax) for ax in axes] == [("column (tiles)", "row (tiles)"), *[("column (tiles)", "")] * 2]
    for ax in axes:
        assert (ax.get_xlim(), ax.get_ylim()) == ((-1.5, 13.5), (12.5, -2.5))
        assert ax.get_aspect() == 1 and outside(ax) == []


def test_colours_are_the_slides_principal_axes_from_dark_to_full():
    true, _ = colours(picture())
    centred = picture().target - picture().target.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    for channel, axis in zip(true.T, along.T, strict=True):
        low, high = np.quantile(axis, [0.02, 0.98])
        scaled = np.clip((axis - low) / (high - low), 0, 1)
        assert np.allclose(channel, scaled) or np.allclose(channel, 1 - scaled)  # an axis has no sign


@pytest.mark.parametrize("d", [1, 2])
def test_a_narrow_token_leaves_the_other_colours_at_half(d):
    for part in colours(picture(d)):
        assert part.shape == (7, 3) and (part[:, d:] == 0.5).all()
        assert np.ptp(part[:, :d], axis=0).min() > 0


def test_an_axis_without_spread_adds_no_colour():
    along = np.array([0.3, 1.1, 0.7, 2.9, 1.7, 0.1, 2.3])[:, None] * np.ones((7, 5))
    true, predicted = colours(picture()._replace(target=along, predicted=along))
    assert np.array_equal(true, predicted) and np.ptp(true[:, 0]) == 1 and np.ptp(true[:, 1:], axis=0).max() < 1e-5


COSINES = pd.DataFrame(
    {
        "slide_id": list("abcde"),
        "predicted": [0.81, 0.62, 0.93, 0.77, 0.7],
        "nearest": [0.41, 0.66, 0.52, 0.29, 0.58],
        "mean": [0.31, 0.22, 0.47, 0.09, 0.36],
    },
    index=[3, 9, 1, 4, 8],
)


@pytest.mark.parametrize("column", list(NAMES))
def test_a_step_at_each_slides_cosine_goes_up_by_one_slide(column):
    line = curve(cosine_beside_floors(fresh(), COSINES), NAMES[column][0])
    assert points(line) == list(zip(sorted(COSINES[column]), [20, 40, 60, 80, 100], strict=True))
    assert line.get_drawstyle() == "steps-post" and line.get_color() == NAMES[column][1]


def test_a_prediction_is_told_from_what_needs_no_learning():
    ax = cosine_beside_floors(fresh(), COSINES)
    assert legend(ax) == ["predicted from the latents", "nearest visible token", "mean of the visible tokens"]
    assert len({line.get_color() for line in ax.lines}) == 3
    assert titles(ax) == ("mean cosine with a slide's hidden tokens", "slides at or below (%)")
    assert ax.get_ylim() == (0, 102) and outside(ax) == []
