"""The style: panels and their sizes, one legend for a figure, names that fit, a file that is written."""

import base64

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread
from PIL import Image
from read_back import closed, fresh, legend

from slidesieve.figures import style


def keeps_numbers(ax) -> bool:
    return bool(ax.xaxis.get_tick_params()["labelbottom"])


@pytest.mark.parametrize(("n", "columns", "grid"), [(1, 3, (1, 1)), (3, 3, (1, 3)), (5, 3, (2, 3)), (7, 2, (4, 2))])
def test_there_are_as_many_panels_as_asked_for(n, columns, grid):
    drawn, axes = style.panels(n, columns=columns, width=3.5, height=1.7)
    closed(drawn)
    assert len(axes) == n and drawn.axes == axes
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
    assert drawn.get_size_inches().tolist() == pytest.approx([3.5 * grid[1], 1.7 * grid[0]])


def test_the_lowest_panel_of_each_column_keeps_its_numbers():
    drawn, axes = style.panels(5, columns=3)
    closed(drawn)
    assert [keeps_numbers(ax) for ax in axes] == [False, False, True, True, True]


@pytest.mark.parametrize("shared", [True, False])
def test_panels_share_an_axis_if_they_are_to(shared):
    drawn, (first, second, _) = style.panels(3, sharex=shared, sharey=not shared)
    closed(drawn)
    first.set(xlim=(3, 17), ylim=(5, 19))
    assert (second.get_xlim() == (3, 17)) is shared and (second.get_ylim() == (5, 19)) is not shared


def test_a_figure_of_one_panel():
    drawn, ax = style.figure(width=5.1, height=2.3)
    closed(drawn)
    assert drawn.axes == [ax] and drawn.get_size_inches().tolist() == [5.1, 2.3]


@pytest.mark.parametrize(("width", "columns", "rows"), [(2.0, 1, 6), (4.7, 2, 3), (23.0, 6, 1)])
def test_the_legend_names_what_any_panel_draws_once_and_the_figure_grows_by_its_rows(width, columns, rows):
    drawn, (ax, other) = style.panels(2, columns=2, width=width / 2, height=3.0)
    closed(drawn)
    for i in range(5):
        ax.plot([0, 1], [i, i], label=f"line {i}")
        other.plot([0, 1], [i, i], label=f"line {i}")
    other.plot([0, 1], [9, 9], label="of the other")
    style.legend_below(drawn)
    assert legend(drawn) == [*(f"line {i}" for i in range(5)), "of the other"]
    assert drawn.legends[0]._ncols == columns
    assert drawn.get_size_inches().tolist() == pytest.approx([width, 3.0 + 0.22 * rows])


def test_a_figure_without_labels_has_no_legend():
    drawn, ax = style.figure()
    closed(drawn)
    ax.plot([0, 1], [1, 1])
    style.legend_below(drawn)
    assert drawn.legends == []


@pytest.mark.parametrize(
    ("name", "room", "expected"),
    [
        ("x" * 25, (), "x" * 25),
        ("x" * 26, (), "x" * 26),
        ("x" * 27, (), "x" * 25 + "…"),
        ("TCGA-3C-AALI", (7,), "TCGA-3…"),
    ],
)
def test_a_name_is_cut_to_what_there_is_room_for(name, room, expected):
    assert style.shortened(name, *room) == expected


def test_a_saved_figure_is_a_file_of_its_size_and_not_open_any_more(tmp_path):
    drawn, _ = style.figure(width=3.0, height=1.0)
    style.save(drawn, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[:2] == (style.DPI, 3 * style.DPI)
    assert not plt.fignum_exists(drawn.number)


@pytest.mark.parametrize(("given", "grid"), [({}, "y"), ({"grid": "x"}, "x"), ({"grid": "y"}, "y")])
def test_clean_axes_have_no_box_and_one_grid_behind_the_data(given, grid):
    ax = style.clean(fresh(), **given)
    sides = ("top", "right", "left", "bottom")
    assert [ax.spines[side].get_visible() for side in sides] == [False, False, True, True]
    lined = {name: axis.get_gridlines()[0].get_visible() for name, axis in (("x", ax.xaxis), ("y", ax.yaxis))}
    assert lined == {"x": grid == "x", "y": grid == "y"} and ax.get_axisbelow() is True


def test_no_two_colours_and_no_two_lines_are_one():
    colours = [*style.CYCLE, style.GREY, style.PALE]
    assert len({to_hex(colour) for colour in colours}) == len(colours) == 8
    lines = [fresh().plot([0, 1], linestyle=dashes)[0].get_linestyle() for dashes in style.LINE_STYLES]
    assert len({*lines, "-"}) == 4


def test_a_figure_is_shown_as_it_was_saved_with_words_for_who_cannot_see_it(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", shown.append)
    drawn, ax = style.figure(width=3.0, height=2.0)
    ax.plot([0, 1])
    assert style.show(drawn, tmp_path / "a.png", alt="A line that rises.") == "a.png"
    (image,) = shown
    data, about = image._repr_png_()
    assert base64.b64decode(data) == (tmp_path / "a.png").read_bytes()
    assert about == {"width": 3 * style.SHOWN, "alt": "A line that rises."}
    assert Image.open(tmp_path / "a.png").text["Description"] == "A line that rises."
    assert not plt.fignum_exists(drawn.number)


def test_a_saved_figure_says_what_it_shows_in_its_file_and_on_a_page(tmp_path):
    drawn, (left, right, _) = style.panels(3, sharex=False, sharey=False)
    left.plot([1, 2], [3, 4], label="each step")
    left.set(xlabel="step", ylabel="loss\n(nats)")
    right.set(title="Evidence", xlabel="accuracy (%)")
    style.save(drawn, tmp_path / "a.png")
    said = "Figure. loss (nats) against step (each step); Evidence: accuracy (%)"
    assert Image.open(tmp_path / "a.png").text["Description"] == said
    assert drawn._repr_mimebundle_(include=None) == ({}, {"image/png": {"alt": said}})
    drawn.set_label("Two slides.")
    style.save(drawn, tmp_path / "b.jpg")
    assert drawn._repr_mimebundle_()[1]["image/png"]["alt"] == "Two slides."


def test_of_many_panels_some_are_said():
    drawn, axes = style.panels(9, sharex=False, sharey=False)
    closed(drawn)
    for i, ax in enumerate(axes):
        ax.set_title(f"S{i}")
    assert style.in_words(drawn) == "Figure. S0; S1; S2; S3; S4; S5; and 3 panels more"
