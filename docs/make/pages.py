"""The made parts of pages: what stands between `<!-- made: WHAT [METHOD ...] -->` and `<!-- end -->`.

Numbers come from tables in reports/, options and their defaults from the classes, departures from their docstrings.
"""

import ast
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from flows.plan.notebooks import NOTEBOOKS
from flows.report.words import EVERYTHING, FLOOR, LEARNED, UNTRAINED, kind_of
from slidesieve.answers.names import called, does
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.cost import flops
from slidesieve.cost.methods import Method, Sizes
from slidesieve.cost.tables import QWEN
from slidesieve.models.fusion import fusion_of
from slidesieve.models.options import Option, options_of
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.parameters import read_parameters

DOCS, REPORTS = ROOT / "docs", ROOT / "reports"
IDEAS = DOCS / "methods/ideas"
SHORT, LONG = REPORTS / "league/156_k8", REPORTS / "league/1000_k8_kidney"
THOUSAND, JOINED = REPORTS / "league/1000_k8_shuffled", REPORTS / "league/1000_k8"  # in random order; by pieces
PART = re.compile(r"(<!-- made: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
GROUPS = {"all": "all questions", "evidence": "evidence", "coverage": "coverage", "composition": "composition"}
LENGTHS, WIDTH, KEPT, TEXT = (1_000, 10_000, 100_000), 512, 32, 98
BESIDE = ("all", "kmeans", "random", "text_only")  # what a row is read beside
TERA = 1e12


def pages() -> list[Path]:
    """All pages with made parts."""
    return [page for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))) if PART.search(page.read_text())]


def made(text: str) -> str:
    """A page's text with its made parts made again."""

    def again(found: re.Match) -> str:
        what, *names = found[2].split()
        return f"{found[1]}{MADE[what](*names).strip()}\n{found[3]}"

    return PART.sub(again, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def facts(name: str) -> str:
    """What is true of a method, as its class says."""
    one = COMPRESSORS[name]
    learns = {LEARNED: "learnt", UNTRAINED: "not learnt: the features alone decide"}
    rows = [
        ("name", f"`--compressors {name}`"),
        ("what it does", does(name)),
        ("kind", f"{one.kind}; what to keep is {learns.get(kind_of(name), 'no question here')}"),
        ("tokens handed on", f"{_tokens(one)}; {_of_what(name)}"),
        ("in training", "all tiles, softly" if one.softens else "as in use"),
        ("carried by", f"`{fusion_of(one).__name__}` (`{_file(fusion_of(one))}`)"),
        ("code", f"[`{_file(one)}`]({_up(one)})"),
    ]
    return table(("", ""), rows)


def _of_what(name: str) -> str:
    if not COMPRESSORS[name].keeps_tiles():
        return "made of tiles"
    return "tiles, and means of the rest" if name == "sieve" else "tiles themselves"


def _tokens(one: type) -> str:
    counts = [one.n_tokens(n, KEPT) for n in LENGTHS]
    if counts == list(LENGTHS):
        return "all"
    if len(set(counts)) > 1 or not one.has_k():
        return " or ".join(f"{count}" for count in dict.fromkeys(counts))
    free = counts[0] == one.n_tokens(LENGTHS[0], 2 * KEPT)
    return f"{counts[0]} by default, whatever k" if free else "k" if one.fills else "k at most"


def _file(one: type) -> str:
    return Path(find_spec(one.__module__).origin).relative_to(ROOT).as_posix()


def _up(one: type) -> str:
    return f"../../{_file(one)}"


def departures(name: str) -> str:
    """The bullets of a module's docstring on where it departs from its paper."""
    module = find_spec(COMPRESSORS[name].__module__).origin
    text = ast.get_docstring(ast.parse(Path(module).read_text(encoding="utf-8")))
    found = re.search(r"(?:Departures:?|Where the paper[^\n]*)\n+((?:(?:- |  )[^\n]*\n?)+)", text)
    if not found:
        raise ValueError(f"{name}: its docstring has no list of departures; take the mark out of its page")
    return re.sub(r"\n {2,}", " ", found[1])


def options(name: str) -> str:
    """A method's options, its reader's, and the parameters that training has for it alone."""
    one = COMPRESSORS[name]
    rows = [_option(option, "compressor") for option in options_of(one).values()]
    if name == "locpath":  # the projector's are those of every method
        rows += [_option(option, "adapters") for option in options_of(fusion_of(one)).values()]
    for parameter in read_parameters(NOTEBOOKS / "40_align_captions.ipynb").values():
        if name in re.findall(r"compressor is (\w+)", parameter.condition):
            told = re.sub(r"^if [^:]*: ", "", parameter.help)
            rows.append((f"`{parameter.name}`", told, f"`{parameter.default}`", "training (40, 50)"))
    return table(("option", "values", "default", "of"), rows) if rows else "It has none."


def _option(option: Option, of: str) -> tuple[str, str, str, str]:
    values = " or ".join(f"`{word}`" for word in option.words) or option.type
    default = "that of the features" if option.default is None else f"`{option.default}`"
    return f"`{option.name}`", values, default, of


def league(*names: str) -> str:
    """Rows of the league at 156 tokens and k = 8, with those that a row is read beside."""
    scores = pd.read_csv(SHORT / "over_seeds.csv").set_index(["method", "group"])
    costs = pd.read_csv(SHORT / "costs.csv").set_index("method")["tflops"]
    kept = pd.read_csv(SHORT / "selection.csv").groupby("method")["recall"].mean()
    rows = []
    for name in dict.fromkeys([*names, *BESIDE]):
        cells = [_score(scores.loc[(name, group)]) for group in GROUPS]
        share = f"{100 * kept[name]:.0f} %" if name in kept and name != "all" else ""
        label = called(name) if name not in names else f"**{called(name)}**"
        rows.append((label, *cells, share, f"{1000 * costs[name]:.3f}"))
    head = ("", *(f"{title}, %" for title in GROUPS.values()), "small pieces kept", "GFLOP an answer")
    return table(head, rows)


def _score(row: pd.Series) -> str:
    return f"{100 * row['accuracy']:.0f} ({100 * row['ci_low']:.0f} to {100 * row['ci_high']:.0f})"


def verdict(name: str) -> str:
    """A learned method beside the best rival without training, a row a kind of question."""
    told = pd.read_csv(SHORT / "best_rival.csv")
    told = told[(told["method"] == name) & (told["matched_by"] == "k")].set_index("group").reindex(GROUPS)
    rows = [
        (GROUPS[group], called(row["other"]), _points(row["difference"], row["ci_low"], row["ci_high"]), row["verdict"])
        for group, row in told.iterrows()
    ]
    return table(("", "best rival", "difference, points", "verdict"), rows)


def _points(*values: float) -> str:
    middle, low, high = (f"{100 * value:+.0f}" for value in values)
    return f"{middle} ({low} to {high})"


def long_bags(*names: str) -> str:
    """The AUROC of one subtype from 8 of 1,000 tokens."""
    scores = pd.read_csv(LONG / "scores.csv")
    scores = scores[scores["metric"] == "auroc"].sort_values("value", ascending=False)
    titles = {"gated_abmil": "gated ABMIL, all tokens", "mean_pool_lr": "mean of all, logistic regression"}
    rows = [
        (
            f"**{called(row.model)}**" if row.model in names else titles.get(row.model, called(row.model)),
            f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})",
        )
        for row in scores.itertuples()
    ]
    return table(("8 of 1,000 tokens", "AUROC (95 %)"), rows)


def cost(name: str) -> str:
    """Operations by formula at the papers' size, and what one GPU measured where it did."""
    rows = []
    for n in LENGTHS:
        sizes = Sizes(n, KEPT, TEXT, d=WIDTH, projector_width=QWEN.width)
        parts = flops.forward(Method(name), QWEN, sizes)
        own = flops.compressor(name, sizes).total
        everything = flops.total(flops.forward(Method("all"), QWEN, sizes)).total
        whole = flops.total(parts).total
        rows.append((f"{n:,}", _tera(own), _tera(whole), f"{100 * whole / everything:.2g} %"))
    head = ("tiles", "compressor, TFLOP", "an answer, TFLOP", "of an answer from all tiles")
    return f"{table(head, rows)}\n{_measured(name)}"


def _tera(count: float) -> str:
    return f"{count / TERA:.2g}"


def _measured(name: str) -> str:
    row = rf"^\| (\w+) \| {name} \| (\d+) \| ok \| ([\d.]+) \| ([\d.]+) "
    found = re.findall(row, (REPORTS / "gpu.md").read_text(encoding="utf-8"), re.MULTILINE)
    words = {"step": "a step, language model frozen", "lora_step": "a step with adapters", "first_token": "first token"}
    rows = [(words[what], f"{int(tiles):,}", f"{float(ms):.0f}", memory) for what, tiles, ms, memory in found]
    return f"\n{table(('measured', 'tiles', 'ms', 'GiB at the peak'), rows)}\n" if rows else ""


def idea(name: str) -> str:
    """The picture of a method at work."""
    return f'<img src="ideas/{name}.png" width="720" alt="{called(name)}: {does(name)}; features left, slide right">'


def learnt(name: str) -> str:
    """How well a method had learnt what its picture was trained for."""
    row = pd.read_csv(IDEAS / "training.csv").set_index("method").loc[name]
    bags, steps = int(row["bags"]), int(row["steps"])
    return (
        f"*A made-up slide ([how](README.md)), the method trained on {bags} others like it, for {steps} steps, to tell "
        f"which of two findings is there: validation AUC {row['validation_auc']:.2f}. The picture shows what it "
        "does; how well is in the tables below.*"
    )


def every_idea() -> str:
    """All pictures, two in a row, by kind."""
    lines = []
    for kind, title in ((LEARNED, "Learnt"), (UNTRAINED, "Not learnt"), (FLOOR, "Floors")):
        names = [name for name in COMPRESSORS if shelf(name) == kind and (IDEAS / f"{name}.png").exists()]
        cells = [f'<a href="{_page(name)}"><b>{called(name)}</b></a>: {does(name)}<br>{_small(name)}' for name in names]
        rows = [cells[i : i + 2] for i in range(0, len(cells), 2)]
        body = "\n".join("<tr>" + "".join(f'<td width="50%">{cell}</td>' for cell in row) + "</tr>" for row in rows)
        lines.append(f"### {title}\n\n<table>\n{body}\n</table>")
    return "\n\n".join(lines)


def _small(name: str) -> str:
    return f'<img src="ideas/{name}.png" width="420" alt="{called(name)} at work">'


def _page(name: str) -> str:
    page = {UNTRAINED: "without_training.md", FLOOR: "floors_and_controls.md", EVERYTHING: "floors_and_controls.md"}
    return f"{page[shelf(name)]}#{name}" if shelf(name) in page else f"{name}.md"


def shelf(name: str) -> str:
    """Among which kind a method is shown: every n-th tile is a floor, and a rival that learns nothing."""
    return UNTRAINED if name == "linspace" else kind_of(name)


def finding() -> str:
    """The league in a sentence."""
    scores = pd.read_csv(SHORT / "over_seeds.csv")
    scores = scores[scores["group"] == "all"].set_index("method")["accuracy"]
    learned = scores[[name for name in scores.index if kind_of(name) == LEARNED]]
    rival = scores[[name for name in scores.index if kind_of(name) == UNTRAINED]].idxmax()
    told = pd.read_csv(SHORT / "best_rival.csv")
    told = told[(told["group"] == "all") & (told["matched_by"] == "k") & told["method"].isin(learned.index)]
    if not told["verdict"].eq("below").all():
        raise ValueError("the league: something learnt is no longer below its best rival; write this sentence anew")
    least, most = -100 * told["difference"].max(), -100 * told["difference"].min()
    auc = pd.read_csv(LONG / "scores.csv").query("metric == 'auroc'").set_index("model")["value"]
    return (
        f"**{called(rival).capitalize()}, of which nothing is learnt, answers {100 * scores[rival]:.0f} % of the "
        f"questions, all tokens {100 * scores['all']:.0f} %; everything that learns to compress is {least:.0f} to "
        f"{most:.0f} points below {called(rival)}.** {_at_length()} On one question of long bags learning to choose "
        f"pays: 8 of 1,000 tokens, kept by {called('sparselearn')}, tell a kidney's subtype at an AUC of "
        f"{auc['sparselearn']:.2f}; outliers are at {auc['outlier']:.2f}, k-means at {auc['kmeans']:.2f}, attention "
        f"over all at {auc['gated_abmil']:.2f}."
    )


def _at_length() -> str:
    """What becomes of it in bags of 1,000 tokens."""
    scores = pd.read_csv(THOUSAND / "over_seeds.csv").query("group == 'all'").set_index("method")["accuracy"]
    floors = pd.read_csv(THOUSAND / "best_floor.csv").query("group == 'all'")
    if (floors["verdict"] == "above").any() or set(floors["other"]) != {"mean"}:
        raise ValueError("the league at 1,000 tokens: one is above its best floor; write this sentence anew")
    told = ", ".join(f"{called(name)} {100 * scores[name]:.0f}" for name in ("tome", "kmeans", "tcssa", "sparselearn"))
    return (
        f"In bags of 1,000 tokens, in random order, nothing, learnt or not, is over all questions told apart above the "
        f"mean of the tokens ({100 * scores['mean']:.0f} %): {told}."
    )


def order() -> str:
    """What those who read the order of a bag lose where it is random."""
    joined, random = (
        100 * pd.read_csv(folder / "over_seeds.csv").query("group == 'all'").set_index("method")["accuracy"]
        for folder in (JOINED, THOUSAND)
    )
    told = " and ".join(
        f"{called(name)} from {joined[name]:.0f} % to {random[name]:.0f}" for name in ("grid", "linspace")
    )
    return f"Shuffling the bags of 1,000 tokens takes {told}."


def demo_cost() -> str:
    """What the demo takes, by its receipts."""
    stages = pd.read_csv(REPORTS / "demo.csv")
    first = stages["stage"].str.startswith(("01_", "02_"))
    longest = stages.loc[stages["peak_memory_mib"].idxmax()]
    return (
        f"{len(stages)} notebooks, {stages['seconds'].sum() / 60:.0f} minutes of their time together, two at a time "
        f"({stages.loc[first, 'seconds'].sum() / 60:.0f} of these for the toy's slides and language model, made once); "
        f"{longest['peak_memory_mib'] / 1024:.1f} GiB at the peak of the largest ([reports/demo.csv](reports/demo.csv))"
    )


MADE: dict[str, Callable[..., str]] = {
    "facts": facts,
    "departures": departures,
    "options": options,
    "league": league,
    "verdict": verdict,
    "long_bags": long_bags,
    "cost": cost,
    "idea": idea,
    "learnt": learnt,
    "every_idea": every_idea,
    "finding": finding,
    "order": order,
    "demo_cost": demo_cost,
}
