"""An executed notebook as one HTML page: code folded, everything inline, so that it opens without a network.

What a notebook shows may hold any text that a cohort brings (ids, questions, labels): tables and prose of the outputs
are cleaned, so that no element comes of it but those of a table or of plain prose: none that runs or loads anything.
"""

import re
from pathlib import Path

import bleach
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

TEMPLATES = Path(__file__).parents[1] / "templates"
TAGS = (
    *("a", "b", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol"),
    *("p", "pre", "span", "strong", "sub", "sup", "ul"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
)
NAMELESS = "Figure without a description, under the heading"
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
ATTRIBUTES = {
    **{name: ["class", "id"] for name in (*HEADINGS, "code", "div", "pre", "span", "table")},
    **{name: ["colspan", "rowspan"] for name in ("th", "td")},
    "a": lambda tag, name, value: name == "class" or (name == "href" and value.startswith("#")),  # within the page
}
PICTURES = ("image/png", "image/jpeg")
EMPTY_HEAD = re.compile(r"<th([^>]*)>(?:\s|&nbsp;)*</th>")  # of a table without a name for its rows
STYLE_SHEET = re.compile(r"<style\b[^>]*>[^<]*</style>")  # pandas sends one with each table; the page has its own


def render_notebook(node: NotebookNode, *, title: str, failure: str = "") -> str:
    """Render an executed notebook; `failure` is shown on top. Markup that a text holds is shown as text."""
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(TEMPLATES)], sanitize_html=True)
    exporter.register_filter("clean_html", clean_html)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8") + HtmlFormatter().get_style_defs(".highlight")
    exporter.register_preprocessor(described, enabled=True)
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True)
    page, _ = exporter.from_notebook_node(node, {"title": title, "failure": failure, "style": style})
    return page


def described(node: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
    """Give each picture that comes without an alternative text the heading that it stands under."""
    heading = "the title"
    for cell in node.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
            heading = found[-1].replace("`", "") if found else heading
        for output in cell.get("outputs", []):
            for kind in PICTURES:
                if kind in output.get("data", {}) and not _alt(output, kind):
                    output.metadata[kind] = output.metadata.get(kind, {}) | {"alt": f"{NAMELESS} “{heading}”"}
    return node, resources


def without_words(node: NotebookNode) -> list[str]:
    """The cells, by their ids, that show a picture without an alternative text."""
    shown = [(cell, output) for cell in node.cells for output in cell.get("outputs", [])]
    bare = [
        c.id for c, output in shown for kind in PICTURES if kind in output.get("data", {}) and not _alt(output, kind)
    ]
    return list(dict.fromkeys(bare))


def _alt(output: NotebookNode, kind: str) -> str:
    return str(output.metadata.get(kind, {}).get("alt") or output.metadata.get("alt") or "").strip()


def clean_html(html: str) -> str:
    """Keep tables and plain prose; every other tag becomes text."""
    return EMPTY_HEAD.sub(
        r"<td\1></td>", bleach.clean(STYLE_SHEET.sub("", str(html)), tags=TAGS, attributes=ATTRIBUTES)
    )
