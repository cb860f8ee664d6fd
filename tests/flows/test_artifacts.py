"""What a Prefect server shows beside a run, made from a report's folder."""

from pathlib import Path

from flows.report.artifacts import shown

HEAD = "method,k,seed,group,n_questions,n_slides,coverage,accuracy,ci_low,ci_high\n"


def test_findings_scores_best_first_and_failed_slides(tmp_path: Path):
    (tmp_path / "scores.csv").write_text(
        f"{HEAD}fps,8,0,all,300,128,1.0,0.5,0.4,0.6\nsparselearn,8,0,all,300,128,1.0,0.75,0.7,0.8\n"
        "fps,8,0,evidence,100,128,1.0,0.9,0.8,0.95\n"
    )
    (tmp_path / "ledger_10_tile_slides.csv").write_text(
        "slide_id,status,error,message\na,ok,,\nb,failed,NoTissue,of 9 tiles none\nc,skipped,,none\n"
    )
    found, scores, failed = shown(tmp_path)
    assert (
        found.startswith("- SparseLearn (k = 8) scored highest, in these runs, of the methods")
        and str(tmp_path / "index.html") in found
    )
    assert [(row["method"], row["accuracy"], row["95 %"]) for row in scores] == [
        ("SparseLearn", "75.0 %", "70.0 to 80.0"), ("farthest points", "50.0 %", "40.0 to 60.0"),
    ]  # fmt: skip
    assert failed == [
        {"stage": "10_tile_slides", "slide_id": "b", "error": "NoTissue", "message": "of 9 tiles none"}
    ]  # fmt: skip


def test_without_scores_it_says_so(tmp_path: Path):
    found, scores, failed = shown(tmp_path)
    assert found.startswith("- No scores of this run") and scores == failed == []
