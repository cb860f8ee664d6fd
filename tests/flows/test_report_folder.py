"""The report's folder: other people's files stay, a kill leaves a whole page, and scores are those of this run."""

import json
import os
import signal
from datetime import datetime
from pathlib import Path

import pytest

from flows.plan.stages import Stage
from flows.report.folder import check_report
from flows.report.index import write_report
from flows.run.board import Outcome
from slidesieve.provenance.files import MARK, files_under

SCORES = "method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high\n"
FINISHED = "2026-11-20T12:34:56+00:00"
RAN = {"10_tiles": Outcome("ran"), "80_compare": Outcome("ran")}


@pytest.fixture
def stages(tmp_path) -> list[Stage]:
    made = [Stage(id, Path(f"{id}.ipynb"), str(tmp_path / "runs" / id), {}) for id in ("10_tiles", "80_compare")]
    for stage in made:
        Path(stage.out_dir).mkdir(parents=True)
        (Path(stage.out_dir) / f"{stage.id}.html").write_text(f"<p>{stage.id}</p>")
        (Path(stage.out_dir) / "ledger.csv").write_text("slide_id,status,error,message\na,failed,OSError,broken\n")
    scored(made, 0.84, "a.png")
    return made


def scored(stages: list[Stage], accuracy: float, figure: str) -> None:
    """Let the comparison have this accuracy and this one figure."""
    last = Path(stages[-1].out_dir)
    for old in last.glob("*.png"):
        old.unlink()
    (last / "scores.csv").write_text(f"{SCORES}sparselearn,8,0,all,300,128,1.0,{accuracy},0.7,0.9\n")
    (last / figure).write_bytes(str(accuracy).encode())
    told = {"seconds": 7.5, "digest": "c0ffee", "finished": FINISHED}
    (last / "receipt.json").write_text(json.dumps(told))


def report(stages: list[Stage], outcomes=RAN) -> Path:
    return write_report(stages, outcomes, Path(stages[0].out_dir).parent, title="tiny")


def test_others_files_stay_and_what_is_no_longer_written_goes(stages):
    folder = report(stages).parent
    assert (folder / MARK).read_text().splitlines()[0] == "report" and (folder / "a.png").exists()
    (folder / "note.md").write_text("mine")
    (folder / "notebooks" / "note.md").write_text("mine")
    (folder / "b.png").write_text("mine")
    (folder / "b.png.kept").write_text("kept before")
    scored(stages, 0.91, "b.png")
    for _ in range(2):
        page = report(stages).read_text()
        assert "91.0</strong>" in page and "84.0</strong>" not in page and not (folder / "a.png").exists()
        assert (folder / "note.md").read_text() == (folder / "notebooks" / "note.md").read_text() == "mine"
        assert (folder / "b.png").read_bytes() == b"0.91" and (folder / "b.png.kept1").read_text() == "mine"
        assert (folder / "b.png.kept").read_text() == "kept before"
    assert not list(folder.parent.glob(".report*"))


def test_a_folder_that_is_no_report_of_ours_is_refused(stages, tmp_path):
    folder = tmp_path / "runs" / "report"
    folder.mkdir()
    (folder / "note.md").write_text("mine")
    for act in (check_report, lambda folder: report(stages)):
        with pytest.raises(ValueError, match=r"report: holds what slidesieve did not write: note\.md; .*a new one"):
            act(folder)
    assert [*folder.iterdir()] == [folder / "note.md"]


def test_a_report_of_an_earlier_version_is_ours(stages):
    folder = report(stages).parent
    (folder / MARK).unlink()
    (folder / "note.md").write_text("mine")
    scored(stages, 0.91, "b.png")
    assert "91.0</strong>" in report(stages).read_text() and (folder / "note.md").read_text() == "mine"


def test_an_error_in_the_writing_leaves_the_report_as_it_was(stages, monkeypatch):
    index = report(stages)
    before = {name: (index.parent / name).read_bytes() for name in files_under(index.parent)}
    scored(stages, 0.91, "b.png")
    (Path(stages[-1].out_dir) / "scores.csv").write_text("method,group\nx,y\n")
    with pytest.raises(KeyError):
        report(stages)
    assert {name: (index.parent / name).read_bytes() for name in files_under(index.parent)} == before


def test_a_kill_at_any_moment_leaves_the_old_page_or_the_new_one(stages, monkeypatch):
    index = report(stages)
    (index.parent / "note.md").write_text("mine")
    old, replace, unlink, seen = index.read_text(), Path.replace, Path.unlink, []
    scored(stages, 0.91, "b.png")
    for moment in range(100):
        pid = os.fork()
        if not pid:
            calls = iter(range(1000))

            def deadly(real, calls=calls, moment=moment):
                def act(*given, **named):
                    if next(calls) == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*given, **named)

                return act

            Path.replace, Path.unlink = deadly(replace), deadly(unlink)
            report(stages)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        page = index.read_text()
        seen.append("old" if page == old else "new")
        assert page.endswith("</html>") and ("91.0</strong>" in page) == (page != old)
        assert (index.parent / "note.md").read_text() == "mine"
        if not code:
            break
        assert code == -signal.SIGKILL
    assert code == 0 and moment > 9 and seen == sorted(seen, reverse=True) and set(seen) == {"old", "new"}
    assert not (index.parent / "a.png").exists()


@pytest.mark.parametrize(
    ("status", "said"), [("failed", "failed"), ("interrupted", "was interrupted"), ("not run", "did not run")]
)
def test_without_a_comparison_there_are_no_scores_but_where_the_earlier_ones_lie(stages, status, said):
    report(stages)
    page = report(stages, RAN | {"80_compare": Outcome(status)}).read_text()
    when = datetime.fromisoformat(FINISHED).astimezone().strftime("%d %B %Y, %H:%M %Z")
    where = f"Those of an earlier run, of {when}, lie in {stages[-1].out_dir}."
    assert f"No scores of this run: 80_compare {said}. {where}" in page
    assert "84.0</strong>" not in page and "<img" not in page and "c0ffee" not in page
    copied = files_under(Path(stages[0].out_dir).parent / "report")
    assert not {"scores.csv", "a.png", "notebooks/80_compare.html"} & set(copied)
    assert ("ledger_80_compare.csv" in page) == (status != "not run")
    assert f"1 ran, 1 {status}" in " ".join(page.split())


def test_a_receipt_that_is_damaged_shows_no_scores_and_stops_no_report(stages):
    (Path(stages[-1].out_dir) / "receipt.json").write_text("{")
    page = report(stages, {"10_tiles": Outcome("ran"), "80_compare": Outcome("failed")}).read_text()
    assert "No scores of this run: 80_compare failed. Those of an earlier run, of " in page


POOLED = "method,k,seeds,group,n_seeds,n_questions,n_slides,coverage,accuracy,ci_low,ci_high\n"
BEST = "matched_by,method,k,other,other_k,group,difference,ci_low,ci_high,verdict\n"


def test_several_seeds_stand_in_one_row_with_their_verdicts_and_the_tuning(stages):
    last = Path(stages[-1].out_dir)
    (last / "over_seeds.csv").write_text(f"{POOLED}sparselearn,8,0,all,1,300,128,1.0,0.61,0.5,0.7\n")
    assert "84.0</strong>" in report(stages).read_text()  # one seed: its own row
    (last / "over_seeds.csv").write_text(
        f"{POOLED}sparselearn,8,0+1+2+3+4,all,5,300,128,1.0,0.62,0.5,0.7\nmajority,0,0,all,1,300,128,1.0,0.33,0.3,0.4\n"
    )
    (last / "best_rival.csv").write_text(
        f"{BEST}k,sparselearn,8,kmeans,8,all,-0.1234,-0.2,-0.05,below\n"
        "operations,sparselearn,8,kmeans,8,all,-0.1234,-0.2,-0.05,below\noperations,tcssa,8,fps,32,all,0.01,,,\n"
        "k,sparselearn,8,fps,8,evidence,0.02,-0.01,0.05,not told apart\n"
    )
    out = Path(stages[0].out_dir).parent
    page = write_report(stages, RAN, out, title="tiny", tuning="Of two recipes the better.").read_text()
    assert "84.0</strong>" not in page and "62.0</strong>" in page and ">5</td>" in page and "33.0</strong>" in page
    assert page.count("-12.3 (-20.0 to -5.0)") == 1 and "the same k, and no more operations" in page
    assert all(
        word in page for word in ("below", "farthest points, k = 32", "not told apart", "Of two recipes the better.")
    )
    assert page.index("not told apart") < page.index("-12.3")  # evidence first
    shown = page.index("Learned, beside the best rival")
    assert shown < page.index("<h2>Stages") and (out / "report" / "best_rival.csv").exists()
