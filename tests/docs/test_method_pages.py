"""Pages follow the tables and classes that they are made from; pictures the compressors; links lead somewhere."""

import re
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image

from docs.make import figures, ideas, pages
from flows.report.words import CONTROL, FLOOR, LEARNED, UNTRAINED, kind_of
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.provenance.files import ROOT

EVERY_PAGE = sorted([ROOT / "README.md", *pages.DOCS.rglob("*.md")])
TABLES = {title: pd.read_csv(pages.IDEAS / f"{title}.csv") for title in ("bag", "shares", "scores")}


def words(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages.pages(), ids=words)
def test_a_page_is_up_to_date_with_tables_and_classes(page):
    text = page.read_text(encoding="utf-8")
    assert pages.made(text) == text, "run make docs"


def test_made_parts_know_a_table_that_changed(monkeypatch, tmp_path):
    for table in pages.SHORT.glob("*.csv"):
        rows = pd.read_csv(table)
        if table.stem == "over_seeds":
            rows.loc[(rows["method"] == "tcssa") & (rows["group"] == "all"), "accuracy"] = 0.5
        rows.to_csv(tmp_path / table.name, index=False)
    monkeypatch.setattr(pages, "SHORT", tmp_path)
    page = pages.DOCS / "methods/tcssa.md"
    assert "**TC-SSA** | 50 (60 to 64)" in pages.made(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_method_has_its_page_or_section(name):
    if kind_of(name) == LEARNED:
        text = (pages.DOCS / f"methods/{name}.md").read_text(encoding="utf-8")
        assert all(
            f"made: {part} {name}" in text
            for part in ("idea", "learnt", "facts", "league", "verdict", "options", "cost")
        )
        assert "```math" in text and "When to use it, and when not" in text
        return
    page = "without_training" if pages.shelf(name) == UNTRAINED else "floors_and_controls"
    assert f'<a id="{name}"></a>' in (pages.DOCS / f"methods/{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if kind_of(name) == LEARNED])
def test_departures_stand_in_the_page_wherever_the_docstring_lists_them(name):
    try:
        told = pages.departures(name)
    except ValueError:
        told = ""
    text = (pages.DOCS / f"methods/{name}.md").read_text(encoding="utf-8")
    assert bool(told) == (f"made: departures {name}" in text) and all(line in text for line in told.splitlines())


@pytest.mark.parametrize("page", EVERY_PAGE, ids=words)
def test_links_lead_to_files_and_headings_that_are_there(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    links += re.findall(r'(?:src|href)="([^"]+)"', text)
    assert all(link.startswith("http") or lost(page, link) is None for link in links), [
        link for link in links if not link.startswith("http") and lost(page, link)
    ]


def lost(page, link):
    """What a link leads to, if that is not there."""
    path, _, heading = unquote(link).partition("#")
    to = page if not path else (page.parent / path).resolve()
    if not to.exists():
        return str(to)
    text = to.read_text(encoding="utf-8") if heading else ""
    headings = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.M)}
    return None if not heading or heading in headings or f'<a id="{heading}"></a>' in text else link


def test_every_page_is_found_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [words(p) for p in pages.DOCS.glob("*.md") if f"]({words(p)})" not in text] == []
    methods = (pages.DOCS / "methods/README.md").read_text(encoding="utf-8")
    own = {p.name for p in (pages.DOCS / "methods").glob("*.md")} - {"README.md"}
    assert {name for name in own if f'"{name}' not in methods} == set()


def test_the_slide_that_is_drawn_is_the_one_of_the_tables():
    pd.testing.assert_frame_equal(ideas.bag_table(), TABLES["bag"], check_dtype=False)
    assert len(TABLES["bag"]) == 300 and TABLES["bag"]["tissue"].value_counts().loc[[3, 4]].tolist() == [9, 4]


@pytest.mark.parametrize("name", ideas.ALONE)
def test_a_method_without_training_is_drawn_as_it_works_today(name):
    shares = ideas.ideas([name]).shares
    known = TABLES["shares"][TABLES["shares"]["method"] == name].reset_index(drop=True)
    pd.testing.assert_frame_equal(shares, known, check_dtype=False, atol=2e-4)


@pytest.mark.parametrize("name", ideas.LEARNED)
def test_a_learned_method_is_drawn_with_as_many_tokens_as_it_hands_on(name):
    shares = TABLES["shares"][TABLES["shares"]["method"] == name]
    one = COMPRESSORS[name]
    assert shares["token"].nunique() == one.n_tokens(300, ideas.K, **ideas.LEARNED[name]) == ideas.K
    kept = shares.loc[shares["kept"] >= 0]
    assert len(kept) == {"sieve": 4}.get(name, ideas.K * one.keeps_tiles()) and (kept["kept"] == kept["tile"]).all()
    assert set(shares["tile"]) <= set(range(300)) and shares["share"].between(0, 1).all()


def test_pictures_are_there_and_small():
    drawn = {path.stem for path in pages.IDEAS.glob("*.png")}
    assert drawn == {*ideas.LEARNED, *ideas.ALONE, "key"}
    for path in [*pages.IDEAS.glob("*.png"), pages.DOCS / "methods.png"]:
        assert path.stat().st_size < 60_000 and Image.open(path).size[0] > 400


def test_rings_are_the_tiles_kept_and_crosses_the_weighted_means():
    shares = TABLES["shares"][TABLES["shares"]["method"] == "kmeans"]
    drawn = figures.idea(TABLES["bag"], shares, TABLES["scores"].head(0))
    crosses = [c.get_offsets()[0] for c in drawn.axes[0].collections if len(c.get_offsets()) == 1]
    of = shares.groupby("token")["tile"].agg(list)
    uv = TABLES["bag"][["u", "v"]]
    for cross, tiles in zip(crosses[-len(of) :], of, strict=True):
        assert list(cross) == pytest.approx(uv.loc[tiles].mean().tolist(), abs=1e-3)
    shares = TABLES["shares"][TABLES["shares"]["method"] == "outlier"]
    drawn = figures.idea(TABLES["bag"], shares, TABLES["scores"].head(0))
    rings = drawn.axes[0].collections[-1].get_offsets()
    far = (uv - uv.mean()).pow(2).sum(axis=1).nlargest(8).index
    assert sorted(map(tuple, rings)) == sorted(map(tuple, uv.loc[far].to_numpy()))


def test_the_league_s_picture_holds_every_row_but_the_controls():
    scores, costs = (pd.read_csv(pages.SHORT / f"{title}.csv") for title in ("over_seeds", "costs"))
    drawn = figures.league(scores, costs)
    told = scores[(scores["group"] == "all") & (scores["method"].map(kind_of) != CONTROL)].sort_values("accuracy")
    ax = drawn.axes[0]
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "", None)]
    assert dots == pytest.approx((100 * told["accuracy"]).tolist())
    assert len(ax.get_yticklabels()) == len(told) and {kind_of(m) for m in told["method"]} >= {
        LEARNED,
        UNTRAINED,
        FLOOR,
    }
