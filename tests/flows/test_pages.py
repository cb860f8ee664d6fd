"""A notebook's page for who does not see it or has no mouse: pictures have words, boxes are reached by keyboard."""

import json
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from flows.report.index import _with_way_back, rendered
from flows.run.pages import NAMELESS, clean_html, render_notebook, without_words
from slidesieve.provenance.files import ROOT

PICTURE = {"image/png": "aGVsbG8="}
TABLE = "<table><thead><tr><th></th><th>a</th></tr></thead><tbody><tr><th>x</th><td>1</td></tr></tbody></table>"
WITHOUT = {  # notebooks that still show pictures without words: none is to join them
    *("01_make_toy_cohort", "02_pretrain_toy_lm", "05_ask_labels", "07_make_mosaics", "10_tile_slides"),
    *("20_extract_features", "30_pretrain_resampler", "40_align_captions", "50_tune_answers", "65_classify_slides"),
    *("70_map_selected_tokens", "71_length_stability", "72_soft_to_hard", "73_slot_usage", "74_tile_redundancy"),
    *("75_compute_cost", "76_compare_variants", "77_token_budget", "80_compare_methods"),
}
DRAWS = re.compile(r"\bImage\(|display\(drawn\)")


def notebook():
    worded = {"image/png": {"alt": "Two bars, the left one taller."}}
    cells = [
        new_markdown_cell("# 70 Title\n\nWords."),
        new_code_cell("a", id="plain", outputs=[new_output("display_data", data=PICTURE)]),
        new_markdown_cell("## What `k` does"),
        new_code_cell("b", id="worded", outputs=[new_output("display_data", data=PICTURE, metadata=worded)]),
        new_code_cell("c", id="late", outputs=[new_output("display_data", data={"image/jpeg": "aGVsbG8="})]),
        new_code_cell("d", outputs=[new_output("display_data", data={"text/html": TABLE, "text/plain": "a"})]),
        new_code_cell("e", outputs=[new_output("stream", name="stdout", text="said\n")]),
    ]
    return new_notebook(cells=cells)


def test_a_picture_has_its_words_or_says_whose_are_missing():
    page = render_notebook(notebook(), title="70")
    words = [f"{NAMELESS} “70 Title”", "Two bars, the left one taller.", f"{NAMELESS} “What k does”"]
    assert re.findall(r'<img[^>]*alt="([^"]*)"', page, re.DOTALL) == words
    assert without_words(notebook()) == ["plain", "late"] and "No description" not in page


def test_boxes_that_scroll_are_reached_by_keyboard():
    page = render_notebook(notebook(), title="70")
    (box,) = re.findall(r"<div[^>]*output_html[^>]*>", page)
    assert 'tabindex="0"' in box and "aria-label" in box and '<pre tabindex="0">said' in page


def test_a_head_without_words_is_no_head():
    assert clean_html(TABLE) == TABLE.replace("<th></th>", "<td></td>", 1)
    row = "<table><tbody><tr><th>&nbsp;</th><th>a</th></tr></tbody></table>"
    assert clean_html(row) == row.replace("<th>&nbsp;</th>", "<td></td>")


@pytest.mark.parametrize("page", ["<!DOCTYPE html>\n<body><main class='page'>x</main>", "<p>x</p>"])
def test_the_way_back_stands_within_the_page(page):
    told = _with_way_back(page)
    assert told.count("../index.html") == 1
    assert told.startswith("<!DOCTYPE html>") == page.startswith("<!DOCTYPE") and told.index("../") < told.index(">x<")


def test_tables_of_the_report_name_their_columns():
    told = rendered("compare.html.j2", title="t", names=[], unread=[], moved=[], pairs=[], scheduled=False, runs=[])
    heads = re.findall(r"<th\b[^>]*>", told)
    assert heads and all("scope=" in head for head in heads) and '<html lang="en">' in told
    assert all('tabindex="0"' in box for box in re.findall(r'<div class="wide"[^>]*>', told))


def test_a_notebook_that_draws_says_in_words_what_is_seen():
    bare = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        if any(DRAWS.search(source) and "alt=" not in source for source in code) and "in_words(" not in "".join(code):
            bare.add(path.stem)
    assert bare <= WITHOUT
