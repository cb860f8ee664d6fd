"""The cohort of the benchmark is whole: every file, label and question meets."""

from benchmarks import gather


def test_a_small_one_is_gathered_whole(tmp_path, capsys):
    gather.write(tmp_path, 32)
    made = {}
    for name, step in gather.steps(tmp_path).items():
        made[name] = step(made)
    assert len(made["look through"].features) == 32 and not made["look through"].faults
    table = made["manifest"].table
    assert set(table["label_type"]) == {"IDC", "ILC"} and set(table["split"]) == {"train", "val", "test"}
    assert len(made["read again"]) == 320 and len(made["ledger"]) == 32 and made["audit"][3].empty
    found = gather.main(16)
    assert found.columns.tolist() == [2, 4, 8, 16, "exponent"] and (found[16] > 0).all()
    assert "16 asked for, 16 found" in capsys.readouterr().out
