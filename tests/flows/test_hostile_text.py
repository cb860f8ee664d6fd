"""Text that a cohort brings (ids, questions, labels, captions, sites) is shown as text, whatever it looks like."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from flows.plan.stages import Stage
from flows.report.index import write_report
from flows.run.board import Outcome
from flows.run.pages import render_notebook
from slidesieve.provenance.files import ROOT

CANARY = "document.title='ran';document.documentElement.dataset.ran='1'"
HOSTILE = {
    "script": f"<script>{CANARY}</script>",
    "closing": f'</script></style></td></pre></title><img src=x onerror="{CANARY}">',
    "attribute": f'x" onmouseover="{CANARY}" autofocus onfocus=\'{CANARY}\' y="',
    "svg": f"<svg/onload={CANARY}><iframe srcdoc='<script>{CANARY}</script>'>",
    "comment": f"--><!--<script>{CANARY}</script>",
    "link": f'[click](javascript:{CANARY}) <a href="javascript:{CANARY}">x</a>',
    "image": "![x](http://192.0.2.1/x.png) <img src=http://192.0.2.1/y.png>",
    "template": "{{7*7}} {% raw %}{{ 7*'7' }}{# #}${7*7}",
    "nul": "a\0b<script\0>",
    "turned": "a\u202egnp.exe\u2066b",
    "formula": '=HYPERLINK("http://192.0.2.1","x")',
}
PLAIN = "adenocarcinoma"
NO_SCRIPT = ("http-equiv", "Content-Security-Policy")


class Elements(HTMLParser):
    """Every element with its attributes' names, every address and handler, and the words."""

    def __init__(self, page: str):
        super().__init__()
        self.kinds, self.addresses, self.words, self.meta = set(), set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.kinds.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses |= {value for name, value in attrs if name in ("href", "src", "srcdoc", "action")}
        self.meta += attrs if tag == "meta" else []

    def handle_data(self, data):
        self.words.append(data)


def executed(text: str) -> nbformat.NotebookNode:
    """A notebook as the kernel leaves it, with a text wherever a cohort's text is shown."""
    table = pd.DataFrame({"slide_id": [text], text: ["x"]}, index=pd.Index([text], name=text))
    series = table["slide_id"].value_counts().to_frame()
    shown = [
        {"text/html": table._repr_html_(), "text/plain": repr(table)},
        {"text/html": series._repr_html_(), "text/plain": repr(series)},
        {"text/html": table.style.format(escape="html").to_html(), "text/plain": "styled"},
        {"text/html": table.style.hide(axis="index").to_html(), "text/plain": "not even escaped"},
        {"text/markdown": f"**Said.** On 7 slides of {text} it holds.", "text/plain": "said"},
        {"text/plain": text},
        {"text/latex": text},
        {"image/png": "aGVsbG8=", "text/plain": text},
        {"application/javascript": CANARY, "text/plain": "none"},
    ]
    outputs = [new_output("display_data", data=data) for data in shown]
    outputs += [new_output("stream", name=name, text=f"{text}\n") for name in ("stdout", "stderr")]
    outputs += [new_output("error", ename="ValueError", evalue=text, traceback=[f"\x1b[31mValueError\x1b[0m: {text}"])]
    cells = [
        new_markdown_cell("# Title\n\n| a | b |\n|---|---|\n| `x` | y |"),
        new_code_cell("k: int = 8  # kept", metadata={"tags": ["parameters"]}),
        new_code_cell(f"asked = {text!r}", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("show()", outputs=outputs),
    ]
    return new_notebook(cells=cells)


def page_of(text: str) -> str:
    return render_notebook(executed(text), title=text, failure=f"code cell 3\nValueError: {text}")


@pytest.fixture(scope="module")
def plain() -> Elements:
    return Elements(page_of(PLAIN))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_notebook_s_page_shows_hostile_text_as_text(text, plain):
    page = page_of(text)
    found = Elements(page)
    assert found.kinds - plain.kinds <= {("a", ()), ("em", ()), ("span", ("class",))}  # Markdown's, code's: bare
    assert found.addresses <= plain.addresses
    assert "script" not in {tag for tag, _ in found.kinds} and NO_SCRIPT in found.meta
    if "{{7*7}}" in text:
        assert "49" not in "".join(found.words) and "{{7*7}}" in page
    elif "\0" not in text:
        assert "".join("".join(found.words).split()).count("".join(text.split())) >= 8


def test_a_page_still_has_its_tables_prose_colours_and_pictures(plain):
    tags = {tag for tag, _ in plain.kinds}
    assert tags >= {"table", "thead", "tr", "th", "td", "h1", "strong", "img", "pre", "code", "details", "summary"}
    assert ("span", ("class",)) in plain.kinds and "data:image/png;base64,aGVsbG8=" in plain.addresses
    words = "".join(plain.words)
    assert words.count(PLAIN) >= 15 and ".dataframe" not in words and "#T_" not in words  # no table's style sheet


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_report_shows_hostile_text_as_text(tmp_path, text):
    plain = PLAIN.ljust(len(text), "x")  # what is long is folded
    found, benign = (Elements(report(tmp_path / name, words)) for name, words in (("a", text), ("b", plain)))
    assert found.kinds == benign.kinds and found.addresses == benign.addresses and NO_SCRIPT in found.meta
    shown = "".join("".join(found.words).split())
    assert "\0" in text or shown.count("".join(text.split())) >= 7
    assert "{{7*7}}" not in text or "49" not in re.sub(r"\d\d:\d\d", "", shown.partition("Scores")[2])


def report(folder: Path, text: str) -> str:
    """A report of two stages whose tables, ledger, errors and title hold a text."""
    tiles, compare = folder / "runs" / "10_tiles", folder / "runs" / "80_compare"
    for place in (tiles, compare):
        place.mkdir(parents=True)
    score = {"method": text, "k": 8, "seed": 0, "group": text, "n_questions": 3, "n_slides": 2, "coverage": 1}
    _table(compare / "scores.csv", [score | {"accuracy": 0.5, "ci_low": 0.25, "ci_high": 0.75}])
    _table(compare / "selection.csv", [{"method": text, text: 0.5}])
    _table(compare / "auc.csv", [{"site": text, "auc": 0.5}])
    _table(tiles / "ledger.csv", [{"slide_id": text, "status": "failed", "error": "OSError", "message": text}])
    (compare / "receipt.json").write_text(json.dumps({"seconds": 7.5, "digest": "c0ffee", "outputs": {}}))
    (compare / "80.html").write_text("<p>80</p>")
    stages = [Stage("10_tiles", Path("10.ipynb"), str(tiles), {}), Stage("80", Path("80.ipynb"), str(compare), {})]
    failed = Outcome("failed", error=f"code cell 2\nValueError: {text}\nlast log lines:\n    {text}")
    outcomes = {"10_tiles": failed, "80": Outcome("ran", [f"{text} -> 4"], 9.0, compare / "80.html")}
    return write_report(stages, outcomes, folder / "runs", title=text).read_text(encoding="utf-8")


def _table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_tables_in_notebooks_are_shown_escaped():
    """In JupyterLab no page is cleaned: what pandas does not escape by itself is told to."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                assert not re.search(r"escape\s*=\s*(False|None)|\bHTML\(", source), path.name
                assert source.count(".style.") == len(re.findall(r'\.style\.format\(\s*escape="html"', source)), (
                    path.name
                )
