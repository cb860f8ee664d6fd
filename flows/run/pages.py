"""An executed notebook as one HTML page: code folded, everything inline, so that it opens without a network."""

from pathlib import Path

from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

TEMPLATES = Path(__file__).parents[1] / "templates"


def render_notebook(node: NotebookNode, *, title: str, failure: str = "") -> str:
    """Render an executed notebook; `failure` is shown on top."""
    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[str(TEMPLATES)])
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8") + HtmlFormatter().get_style_defs(".highlight")
    exporter.register_preprocessor("nbconvert.preprocessors.CoalesceStreamsPreprocessor", enabled=True)
    page, _ = exporter.from_notebook_node(node, {"title": title, "failure": failure, "style": style})
    return page
