"""More groups than colours: all of them are drawn, no two look alike, and too many are an error."""

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from read_back import fresh, hex_of, named, points, rules

from slidesieve.figures import cost, lengths, pairs, scores, slides, tokens, training
from slidesieve.figures.style import BLUE, CYCLE, DARK, GREY, ROUNDS, SHADES, SKY, floor_looks, looks, method_looks


def wide(n: int, *, unit: float = 1, **others) -> pd.DataFrame:
    """One row with n columns, the value of each one higher than the last."""
    return pd.DataFrame({**others, **{f"g{i}": [(i + 1) * unit] for i in range(n)}})


def long(n: int, **others) -> pd.DataFrame:
    """The same, a row a group."""
    return pd.DataFrame(
        {"method": [f"g{i}" for i in range(n)], "accuracy": [(i + 1) / 100 for i in range(n)], **others}
    )


def lines_of_lengths(n: int) -> Axes:
    table = wide(n, unit=0.01, size=64, n_slides=5)
    return lengths.against_length(fresh(), table, {f"g{i}": f"g{i}" for i in range(n)}, ylabel="")


def lines_of_operations(n: int) -> Axes:
    runs = long(n, k=8, seed=0, tflops=0.7)
    return pairs.accuracy_by_operations(fresh(), runs.drop(columns="tflops"), runs.drop(columns="accuracy"), title="")


def lines_of_tokens(n: int) -> Axes:
    table = long(n, tokens=8, pooled=True, ci_low=0, ci_high=1)
    table["median"] = table["accuracy"]
    return tokens.accuracy(fresh(), table, look=method_looks(table["method"]), title="")


FIGURES = {  # each with the colours it has
    "site bars": (6, lambda n: slides.site_bars(fresh(), wide(n).set_axis(["A2"]))),
    "label folds": (4, lambda n: slides.label_folds(fresh(), wide(n))),
    "parameters": (6, lambda n: cost.parameters(fresh(), wide(n, unit=1e6).set_axis(["all"]))),
    "savings": (
        4,
        lambda n: cost.savings(fresh(), wide(n, unit=0.01, tiles=75), [f"g{i}" for i in range(n)], claim=0.6, title=""),
    ),
    "training curves": (
        6,
        lambda n: training.curves(fresh(), [3], wide(n).to_dict(orient="list"), xlabel="", ylabel=""),
    ),
    "lengths": (6, lines_of_lengths),
}
VARIANTS = len(SHADES) * len(ROUNDS)  # of one method, or names that are no method of ours


def drawn(ax: Axes) -> dict[str, tuple[float, str, tuple]]:
    """The value of each group, its colour, and what else tells it from the others."""
    found = {}
    for container in ax.containers:
        if isinstance(container, BarContainer):
            (bar,) = container
            size = bar.get_width() if ax.yaxis_inverted() else bar.get_height()
            found[container.get_label()] = (size, hex_of(bar.get_facecolor()), (bar.get_hatch(),))
        elif container.lines[0] is not None:
            found[container.get_label()] = of_line(container.lines[0])
    return found | {line.get_label(): of_line(line) for line in ax.lines if not line.get_label().startswith("_")}


def of_line(line: Line2D) -> tuple[float, str, tuple]:
    return points(line)[0][1], hex_of(line.get_color()), (line.get_linestyle(), line.get_marker())


N = 16  # groups that every figure can tell apart


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_group_is_drawn_and_no_two_look_alike(name):
    colours, draw = FIGURES[name]
    ax = draw(N)
    found = {label: look for label, look in drawn(ax).items() if label.startswith("g")}
    assert {label: round(value, 9) for label, (value, *_) in found.items()} == {f"g{i}": i + 1 for i in range(N)}
    assert len({(colour, more) for _, colour, more in found.values()}) == N
    assert len({colour for _, colour, _ in found.values()}) == min(colours, N)
    assert [label for label in named(ax) if label.startswith("g")] == list(found)


@pytest.mark.parametrize("name", list(FIGURES))
def test_more_than_can_be_told_apart_is_an_error(name):
    colours, draw = FIGURES[name]
    most = 4 * max(colours, 4) + 1
    with pytest.raises(ValueError, match=f"{most} groups in one panel, at most"):
        draw(most)


@pytest.mark.parametrize("draw", [lines_of_operations, lines_of_tokens])
def test_every_variant_of_a_method_is_drawn_and_no_two_look_alike(draw):
    found = {label: look for label, look in drawn(draw(VARIANTS)).items() if label.startswith("g")}
    assert {label: round(value, 9) for label, (value, *_) in found.items()} == {f"g{i}": i + 1 for i in range(VARIANTS)}
    assert len({(colour, more) for _, colour, more in found.values()}) == VARIANTS
    with pytest.raises(ValueError, match=f"{VARIANTS + 1} groups in one panel, at most {VARIANTS}"):
        draw(VARIANTS + 1)


def floors_of_scores(n: int) -> Axes:
    table = long(n, k=0, seed=0, ci_low=0, ci_high=1)
    return scores.method_scores(fresh(), table, floors=list(table["method"]), title="")


def floors_of_tokens(n: int) -> Axes:
    table = pd.concat([long(n, tokens=0), long(1, tokens=8).assign(method="tcssa")])
    table = table.assign(pooled=True, median=table["accuracy"], ci_low=0, ci_high=1)
    return tokens.accuracy(fresh(), table, look=looks(["tcssa"]), title="")


@pytest.mark.parametrize(("draw", "axis"), [(floors_of_scores, "x"), (floors_of_tokens, "y")])
def test_every_floor_is_a_line_of_its_own(draw, axis):
    ax = draw(6)
    assert [(label[-2:], place) for label, place in rules(ax, axis)] == [(f"g{i}", i + 1) for i in range(6)]
    across = [line for line in ax.lines if line.get_label()[-2:] in {f"g{i}" for i in range(6)}]
    assert len({(line.get_color(), line.get_linestyle()) for line in across}) == len(across) == 6
    with pytest.raises(ValueError, match="7 groups in one panel, at most 6 can be told apart"):
        draw(7)


def test_a_colour_comes_again_only_when_all_are_used():
    given = looks([*"abcdefg", "a", "h"])
    assert list(given) == list("abcdefgh") and [look.colour for look in given.values()] == [*CYCLE, *CYCLE[:2]]
    assert [look.dash for look in given.values()] == ["-"] * 6 + ["--"] * 2
    assert [look.marker for look in given.values()] == ["o"] * 6 + ["s"] * 2
    assert [look.hatch for look in given.values()] == [None] * 6 + ["///"] * 2


def test_each_part_of_a_look_alone_tells_one_colours_groups_apart():
    given = looks(map(str, range(8)), (BLUE, SKY)).values()
    for part in ("dash", "marker", "hatch"):
        assert len({(look.colour, getattr(look, part)) for look in given}) == 8


def test_floors_are_grey_in_every_dash_and_then_black():
    given = [tuple(look.line.values()) for look in floor_looks("abcd").values()]
    assert given == [(GREY, "--"), (GREY, ":"), (GREY, "-."), (DARK, "--")]


def test_a_floor_has_its_line_whatever_stands_beside_it():
    alone, among = floor_looks(["random"]), floor_looks(["majority", "other", "random", "text_only"])
    assert alone["random"] == among["random"] and len(set(among.values())) == 4
