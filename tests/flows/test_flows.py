"""Stages side by side: order, workers, what a failure stops, the Prefect flow end to end, and the report it leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import httpx
import psutil
import pytest
from tiny_notebooks import write_notebook

from flows import server
from flows.experiment import conduct
from flows.plan.stages import Stage, with_needs
from flows.report.index import write_report
from flows.report.tables import readable, score_groups
from flows.run.board import Board, Outcome, drive, pending
from flows.server import PREFECT
from slidesieve.provenance.files import ROOT

PARAMETERS = "k: int = 8  # tokens kept\nsources: list[str] = []  # in: folders\nboom: bool = False  # run: fail\n"
BODY = """
import time
print("working")
while (stage.out_dir.parent / "hold").exists():
    time.sleep(0.1)
if boom:
    raise RuntimeError("bad luck")
text = str(k) + "".join((p / "a.txt").read_text() for p in stage.paths("sources"))
(stage.out_dir / "a.txt").write_text(text)
"""


def stage(id: str, *needs: str) -> Stage:
    return Stage(id, Path("x.ipynb"), f"runs/{id}", {}, needs)


def driven(stages, *, fails=(), workers=2):
    """Drive stages whose work is a short sleep; return the board, the order of starts and the most at a time."""
    board, started, now, most = Board(say=lambda text: None), [], [0], [0]
    lock = threading.Lock()

    def work(stage):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.03)
        with lock:
            now[0] -= 1
        board.record(stage.id, Outcome("failed" if stage.id in fails else "ran"))

    with ThreadPoolExecutor(max_workers=11) as pool:

        def start(stage):
            started.append(stage.id)
            return pool.submit(work, stage)

        drive(stages, start, board, workers=workers)
    return board, started, most[0]


def test_stages_start_in_the_order_given_once_their_needs_are_there():
    stages = [stage("a"), stage("b", "a"), stage("c", "b"), stage("d"), stage("e"), stage("f", "c", "d", "e")]
    board, started, most = driven(stages, workers=2)
    assert started[:2] == ["a", "d"] and started[-1] == "f"
    assert started.index("b") < started.index("c")
    assert most == 2 and {o.status for o in board.outcomes.values()} == {"ran"}


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_no_more_than_the_workers_run_at_a_time(workers):
    _, started, most = driven([stage(f"s{i}") for i in range(11)], workers=workers)
    assert most == workers and len(started) == 11


def test_a_failure_stops_its_dependents_and_nothing_else():
    stages = [stage("a"), stage("b", "a"), stage("c", "b"), stage("d"), stage("e", "d")]
    board, started, _ = driven(stages, fails=("a",))
    assert {id: o.status for id, o in board.outcomes.items()} == {
        "a": "failed",
        "b": "not run",
        "c": "not run",
        "d": "ran",
        "e": "ran",
    }
    assert board.outcomes["b"].error == board.outcomes["c"].error == "a failed"
    assert "b" not in started


def test_a_task_that_ends_without_an_account_is_a_failure():
    with ThreadPoolExecutor() as pool:
        board = Board(say=lambda text: None)
        drive([stage("a"), stage("b", "a")], lambda s: pool.submit(lambda: None), board, workers=1)
    assert board.outcomes["a"].status == "failed" and board.outcomes["b"].status == "not run"


def test_live_lines_are_throttled():
    said = []
    board = Board(say=said.append)
    for i in range(5):
        board.live("a", f"step {i}")
        board.live("b", f"step {i}")
    assert [line.split("] ")[1].strip() for line in said] == ["a: step 0", "b: step 0"]


@pytest.fixture
def graph(tmp_path):
    """Five stages a, b -> c(a), d(b) -> e(c, d), as real notebooks; `graph(k=, boom=)` sets those of a and c."""
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body=BODY, outputs='["a.txt"]')
    out = str(tmp_path / "runs")

    def make(*, k=8, boom=False):
        def one(id, *sources, **given):
            return Stage(id, notebook, f"{out}/{id}", {"sources": [f"{out}/{s}" for s in sources]} | given)

        parts = [one("a", k=k), one("b"), one("c", "a", boom=boom), one("d", "b"), one("e", "c", "d")]
        return with_needs(parts)

    return make


def test_before_anything_ran_all_is_pending_with_the_reason(graph):
    assert pending(graph()) == {
        "a": ["never ran"],
        "b": ["never ran"],
        "c": ["after a"],
        "d": ["after b"],
        "e": ["after c", "after d"],
    }


@pytest.fixture
def no_server(tmp_path, monkeypatch):
    """No server is named; what a temporary one puts into the environment is taken back."""
    from prefect.context import refresh_global_settings_context

    named = {name for name in os.environ if name.startswith("PREFECT")}
    for name in named | {*PREFECT, "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}:
        monkeypatch.setenv(name, "")  # notes what was there, if anything was
        monkeypatch.delenv(name)
    monkeypatch.setattr(server, "PREFECT", PREFECT | {"PREFECT_HOME": str(tmp_path / "prefect")})
    refresh_global_settings_context()
    yield
    monkeypatch.undo()
    refresh_global_settings_context()


def artifacts(key):
    """What the server keeps under a key, the first one first."""
    url, credential = os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
    asked = {"artifacts": {"key": {"any_": [key]}}}
    found = httpx.post(f"{url}/artifacts/filter", json=asked, auth=tuple(credential.split(":"))).json()
    return sorted(found, key=lambda artifact: artifact["created"])


def lets_in_nobody_but_the_experiment(names):
    url, credential = os.environ["PREFECT_API_URL"], os.environ["PREFECT_API_AUTH_STRING"]
    ask = lambda **who: httpx.post(f"{url}/flow_runs/filter", json={}, **who)  # noqa: E731
    assert ask().status_code == 401
    assert sorted((run["name"], run["state_type"]) for run in ask(auth=tuple(credential.split(":"))).json()) == names
    elsewhere = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{url}/flows/", headers=elsewhere).headers
    (process,) = [p for p in psutil.Process().children() if "uvicorn" in p.cmdline()]
    assert credential.split(":")[1] not in " ".join(process.cmdline())
    assert {c.laddr.ip for c in process.net_connections()} == {"127.0.0.1"}
    process.terminate()


@pytest.mark.slow
def test_an_experiment_end_to_end(no_server, graph, tmp_path, capsys):
    out = str(tmp_path / "runs")

    def go(stages):
        code = conduct(stages, out, title="tiny", workers=2)
        rows = json.loads((tmp_path / "runs" / "report" / "stages.json").read_text())
        return code, {row["id"]: (row["status"], row["why"]) for row in rows}, capsys.readouterr().out

    code, told, text = go(graph(boom=True))
    assert code == 1 and "without Prefect" not in text
    assert [told[id][0] for id in "abcde"] == ["ran", "ran", "failed", "ran", "not run"]
    assert told["c"][1] == "code cell 5 of 6: import time RuntimeError: bad luck"
    assert told["e"][1] == "c failed"
    assert "c: failed in" in text and "RuntimeError: bad luck" in text and "e: not run: c failed" in text
    assert (tmp_path / "runs" / "report" / "notebooks" / "c.html").exists()

    code, told, _ = go(graph())
    assert code == 0
    assert told["c"] == ("ran", "did not finish last time") and told["e"] == ("ran", "first run")
    assert all(told[id] == ("skipped", "up to date") for id in "abd")

    code, told, text = go(graph())
    assert code == 0 and {status for status, _ in told.values()} == {"skipped"}
    assert "all 5 stages are up to date: nothing to run" in text
    assert text.strip().endswith("report/index.html")

    assert (tmp_path / "runs" / "e" / "a.txt").read_text() == "88888"
    assert pending(graph(k=4)) == {"a": ["k 8 -> 4"], "c": ["after a"], "e": ["after c"]}
    assert [(found["data"], found["description"]) for found in artifacts("progress")] == [
        (80.0, "stage 4 of 5"), (100.0, "stage 5 of 5"),
    ]  # fmt: skip
    lets_in_nobody_but_the_experiment([("tiny", "COMPLETED"), ("tiny", "FAILED")])


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from flows import server
from flows.experiment import conduct
from flows.plan.stages import Stage
stages = [Stage("a", Path({notebook!r}), {out!r} + "/a", {{}})]
sys.exit(conduct(stages, {out!r}, title="killed", workers=1))
"""


@pytest.mark.slow
def test_a_killed_driver_takes_its_server_and_kernels_with_it(tmp_path):
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body=BODY, outputs='["a.txt"]')
    (tmp_path / "hold").touch()
    script = SCRIPT.format(tests=str(ROOT / "tests"), notebook=str(notebook), out=str(tmp_path))
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "a" / "log.txt").exists() or "working" not in (tmp_path / "a" / "log.txt").read_text():
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.5)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert any("uvicorn" in " ".join(p.cmdline()) for p in family) and len(family) >= 4
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


SCORES = """method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high
sparselearn,8,0,evidence,300,128,1.0,0.84,0.80,0.88
random,8,0,evidence,300,128,1.0,0.31,0.26,0.36
majority,,,evidence,300,128,1.0,0.27,0.22,0.31
sparselearn,8,0,all,400,128,0.99,0.80,0.76,0.83
sparselearn,8,0,composition,100,128,1.0,0.60,0.5,0.7
"""


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_the_report_is_whole_wherever_it_is_copied(tmp_path):
    for name in ("10_tiles", "80_compare"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    tiles, compare = tmp_path / "runs" / "10_tiles", tmp_path / "runs" / "80_compare"
    (compare / "scores.csv").write_text(SCORES)
    (compare / "selection.csv").write_text("method,recall,chance\nsparselearn,0.81234,0.0625\n")
    (compare / "receipt.json").write_text('{"seconds": 7.5, "peak_memory_mib": 512.0, "digest": "c0ffee"}')
    (compare / "accuracy.png").write_bytes(b"png")
    (compare / "80.html").write_text("<p>80</p>")
    ledger = "slide_id,status,error,message\na,failed,OSError,broken\na,ok,,\nb,failed,MissingMpp,no <mpp>; set it\n"
    (tiles / "ledger.csv").write_text(ledger)
    stages = [
        Stage("10_tiles", Path("10.ipynb"), str(tiles), {}),
        Stage("80_compare", Path("80.ipynb"), str(compare), {}),
    ]
    outcomes = {
        "10_tiles": Outcome("failed", error="code cell 2\nOSError: <disk>\nlast log lines:\n    hm"),
        "80_compare": Outcome("ran", ["k 8 -> 4"], 9.0, compare / "80.html"),
    }
    index = write_report(stages, outcomes, tmp_path / "runs", title="tiny")
    shutil.move(index.parent, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "runs")
    page = (tmp_path / "elsewhere" / "index.html").read_text()
    links = Links()
    links.feed(page)
    assert len(links.found) >= 5
    assert all((tmp_path / "elsewhere" / link).is_file() for link in links.found)
    assert not re.search(r"https?://|src=\"//", page)
    assert "84.0</strong>" in page and "81.2 %" in page and "80.0 to 88.0" in page
    assert page.index(">evidence</strong>") < page.index(">all</strong>") < page.index(">composition</strong>")
    assert "1 ok, 1 failed" in page and "no &lt;mpp&gt;; set it" in page
    assert "code cell 2 OSError: &lt;disk&gt;" in page and "k 8 -&gt; 4" in page


def test_scores_are_ordered_and_floors_marked():
    rows = [dict(zip(SCORES.splitlines()[0].split(","), line.split(","), strict=True)) for line in SCORES.split()[1:]]
    groups = score_groups(rows)
    assert [g["name"] for g in groups] == ["evidence", "all", "composition"]
    assert [(part["kind"], [row["method"] for row in part["rows"]]) for part in groups[0]["kinds"]] == [
        ("learned", ["sparselearn"]),
        ("floor", ["random", "majority"]),
    ]


def test_a_control_stands_apart_from_its_method():
    lines = [line.replace("majority", "sparselearn_wrong_slide") for line in SCORES.split()[1:]]
    rows = [dict(zip(SCORES.splitlines()[0].split(","), line.split(","), strict=True)) for line in lines]
    kinds = {row["method"]: part["kind"] for g in score_groups(rows) for part in g["kinds"] for row in part["rows"]}
    assert kinds == {"sparselearn": "learned", "random": "floor", "sparselearn_wrong_slide": "control"}


def test_numbers_are_rounded_and_words_left():
    assert [readable(t) for t in ("0.81234", "8", "-3", "sparselearn", "")] == ["0.812", "8", "-3", "sparselearn", ""]
