"""What a Prefect server is told about: prefect.yaml, prefect.toml and automations.yaml name what exists, and a
deployment's run answers as the command line does. No server is started here."""

import asyncio
import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import Settings
from prefect.states import Completed
from prefect.workers.process import ProcessJobConfiguration
from tiny_notebooks import write_notebook

from flows import deployments
from flows.experiment import faults_explained, main
from flows.server import PREFECT
from slidesieve.provenance.files import ROOT

PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {d["name"]: d for d in PROJECT["deployments"]}
POOL = json.loads((ROOT / "flows" / "pool.json").read_text())
AUTOMATIONS = yaml.safe_load((ROOT / "automations.yaml").read_text())["automations"]


@pytest.mark.parametrize("name", ["experiment", "notebook", "rerun"])
def test_a_deployment_names_a_flow_that_exists_and_its_parameters(name):
    file, _, function = DEPLOYMENTS[name]["entrypoint"].partition(":")
    assert ROOT / file == Path(deployments.__file__)
    flow = getattr(deployments, function)
    assert flow.name == "slidesieve"
    flow.validate_parameters(DEPLOYMENTS[name]["parameters"])


def test_the_schedule_is_weekly_and_sleeps():
    assert [name for name, d in DEPLOYMENTS.items() if "schedules" in d] == ["rerun"]
    (schedule,) = DEPLOYMENTS["rerun"]["schedules"]
    assert schedule["active"] is False and schedule["slug"] == "weekly"
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert minute.isdigit() and hour.isdigit() and weekday.isdigit() and (day, month) == ("*", "*")


def test_no_run_hangs_on_a_servers_lease_and_two_workers_may_share_one():
    """Prefect kills a run whose lease a restarted server does not know."""
    assert all(d["work_pool"]["name"] == "gpu" and "concurrency_limit" not in d for d in DEPLOYMENTS.values())


def test_a_scheduled_run_ends_at_once_while_its_last_is_at_work(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(deployments, "ROOT", tmp_path)
    monkeypatch.setattr(deployments, "run_experiment", lambda **options: ran.append(options) or Completed())
    options = {"out": "runs/weekly", "manifest": "m.csv"}
    hold = (
        "import sys, pathlib; from slidesieve.provenance.locks import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "runs/weekly" / deployments.RERUN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        state = deployments.run_again(**options)
        assert state.name == "Skipped" and f"process {other.pid} on" in state.message and not ran
        other.kill()
    assert deployments.run_again(**options).name == "Completed" and ran == [options]


def test_no_file_for_prefect_holds_a_machines_path():
    (step,) = PROJECT["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "."}}
    assert POOL["job_configuration"]["working_dir"] == "."
    for name in ("prefect.yaml", "prefect.toml", "automations.yaml", "flows/pool.json"):
        assert str(ROOT) not in (ROOT / name).read_text() and "/home" not in (ROOT / name).read_text()


def test_server_workers_and_flows_have_the_same_settings(monkeypatch):
    for name in PREFECT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)
    read = Settings()
    assert (ROOT / read.home).resolve() == Path(PREFECT["PREFECT_HOME"])
    assert str(read.server.analytics_enabled).lower() == PREFECT["PREFECT_SERVER_ANALYTICS_ENABLED"]
    assert str(read.server.ephemeral.enabled).lower() == PREFECT["PREFECT_SERVER_EPHEMERAL_ENABLED"]
    assert read.server.api.cors_allowed_origins == PREFECT["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "*" not in read.server.api.cors_allowed_origins
    startup = PREFECT["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"]
    assert read.server.ephemeral.startup_timeout_seconds == int(startup)
    assert "url" not in tomllib.loads((ROOT / "prefect.toml").read_text()).get("api", {})


def test_a_lost_heartbeat_crashes_a_run_and_that_very_crash_schedules_it_again(monkeypatch):
    monkeypatch.chdir(ROOT)
    notice, pick_up = (AutomationCore.model_validate(a) for a in AUTOMATIONS)
    assert (
        notice.trigger.after == {"prefect.flow-run.heartbeat"} and "prefect.flow-run.heartbeat" in notice.trigger.expect
    )
    assert notice.trigger.within.total_seconds() >= 3 * Settings().flows.heartbeat_frequency
    (crash,), (again,) = notice.actions, pick_up.actions
    assert (crash.state, again.state, again.name) == ("CRASHED", "SCHEDULED", "AwaitingRetry")
    assert pick_up.trigger.expect == {"prefect.flow-run.Crashed"}
    assert pick_up.trigger.match.root["prefect.state-message"] == crash.message


def test_the_command_line_needs_no_prefect_until_something_runs():
    code = "import sys; sys.modules['prefect'] = None; import flows.experiment, flows.notebook"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_an_experiments_parameters_are_the_commands_options():
    options = inspect.signature(main).parameters
    ours = inspect.signature(deployments.experiment.fn).parameters
    assert list(ours) == list(options)
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in options.items()}
    assert set(deployments.NUMBERS) < set(options)
    form = deployments.experiment.parameters.properties
    assert form["k"]["description"] == "tokens kept, comma-separated; empty: 8" and form["workers"]["type"] == "integer"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (0, "COMPLETED", None),
        (1, "FAILED", "failed: b, c; see {out}/report/index.html"),
        (130, "FAILED", "failed: b, c; see {out}/report/index.html"),
    ],
)
def test_an_exit_code_becomes_the_runs_state(monkeypatch, tmp_path, code, kind, message):
    seen = {}

    def command(**options: object) -> None:
        seen.update(options)
        raise typer.Exit(code)

    monkeypatch.setattr(deployments, "main", command)
    (tmp_path / "report").mkdir()
    rows = [
        {"id": id, "status": status} for id, status in zip("abcd", ["ran", "failed", "failed", "not run"], strict=True)
    ]
    (tmp_path / "report" / "stages.json").write_text(json.dumps(rows))
    state = deployments.experiment.fn(out=tmp_path, k="8,16", seeds=3)
    assert seen == {"out": tmp_path, "k": "8,16", "seeds": "3"}
    assert (state.type.value, state.message) == (kind, message and message.format(out=tmp_path))


def test_bad_options_fail_the_run_with_the_line_that_the_command_prints(tmp_path, capsys):
    given = {"manifest": tmp_path / "absent.csv", "questions": tmp_path / "q.csv", "out": tmp_path / "out"}
    state = deployments.experiment.fn(**deployments.experiment.validate_parameters(given))
    assert state.type.value == "FAILED" and "absent.csv" in state.message
    assert capsys.readouterr().out == f"{state.message}\n"
    with pytest.raises(typer.Exit) as end, faults_explained():
        raise ValueError("k = 0 is no number of tokens; give 1 or more")
    assert end.value.exit_code == 2 and isinstance(end.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "values",
    [
        {"command": "touch taken"},
        {"env": {"PYTHONPATH": "/elsewhere"}, "env.PREFECT_HOME": "/elsewhere"},
        {"working_dir": "/elsewhere", "name": "taken", "labels": {"a": "b"}, "stream_output": True},
    ],
)
def test_a_runs_job_variables_change_nothing_of_what_a_worker_runs(values):
    made = lambda given: asyncio.run(  # noqa: E731
        ProcessJobConfiguration.from_template_and_values(base_job_template=POOL, values=given, client=object())
    )
    assert made(values) == made({})
    assert made(values).model_dump(exclude_defaults=True) == {"working_dir": Path(), "stream_output": False}


def test_a_worker_runs_the_projects_own_notebooks_only(tmp_path, monkeypatch):
    own, other = tmp_path / "notebooks", write_notebook(tmp_path / "other" / "10_other.ipynb")
    write_notebook(own / "inner" / "10_inner.ipynb")
    (own / "20_link.ipynb").symlink_to(other)
    write_notebook(own / "10_own.ipynb")
    (tmp_path / "30_link.ipynb").symlink_to(own / "10_own.ipynb")
    monkeypatch.setattr(deployments, "ROOT", tmp_path)
    monkeypatch.setattr(deployments, "NOTEBOOKS", own)
    assert deployments.own_notebook("notebooks/10_own.ipynb") == deployments.own_notebook("30_link.ipynb")
    outside = ["notebooks/../other/10_other.ipynb", "notebooks/20_link.ipynb", "notebooks/inner/10_inner.ipynb"]
    for path in [str(other), *outside, "notebooks", ""]:
        state = deployments.notebook.fn(path, "out")
        assert state.type.value == "FAILED" and f"got {path!r}" in state.message and "notebooks/" in state.message
    assert not (tmp_path / "out").exists()


def test_one_notebook_runs_then_is_skipped_and_faults_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(deployments, "NOTEBOOKS", tmp_path)
    body = "if k == 3:\n    raise RuntimeError('bad luck')\n(stage.out_dir / 'a.txt').write_text(str(k))"
    notebook = write_notebook(
        tmp_path / "50_tiny.ipynb", parameters="k: int = 8  # kept\n", body=body, outputs='["a.txt"]'
    )
    run = lambda **given: deployments.notebook.fn(str(notebook), str(tmp_path / "out"), **given)  # noqa: E731
    told = [run(parameters={"k": 5}, threads=1), run(parameters={"k": 5}), run(parameters={"kk": 5})]
    assert [(s.name, s.message) for s in told[:2]] == [("Completed", "never ran"), ("Skipped", "up to date")]
    assert told[2].type.value == "FAILED" and "did you mean 'k'?" in told[2].message
    assert (tmp_path / "out" / "a.txt").read_text() == "5"
    failed = run(parameters={"k": 3}, threads=1)
    assert failed.type.value == "FAILED" and "RuntimeError: bad luck" in failed.message
