"""The Prefect server: a lab's, set up by docs/prefect.md's commands, lets nobody in; a dead one stops no experiment."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import prefect
import pytest
from prefect.settings import temporary_settings
from tiny_notebooks import write_notebook

from flows import server
from flows.experiment import conduct
from flows.plan.stages import Stage
from flows.run.processes import kill_tagged
from slidesieve.provenance.files import ROOT

TAG = "SLIDESIEVE_TEST"
FILES = ("flows", "lib", "notebooks", "automations.yaml", "prefect.yaml")


def page_commands() -> list[str]:
    """The commands of docs/prefect.md that set up a lab's server, each on its line, in their order."""
    page = (ROOT / "docs/prefect.md").read_text()
    credential, setup = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)[:2]
    return [*credential.splitlines(), *setup.splitlines()]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def bare_environment(**given: str) -> dict[str, str]:
    """This process's environment without what Prefect reads, and with our own interpreter first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | given


class Lab:
    """A fresh checkout on which the page's commands were pasted one after the other, the server on a free port."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.tag = folder, free_port(), uuid.uuid4().hex
        for name in FILES:
            (folder / name).symlink_to(ROOT / name)
        (folder / "prefect.toml").write_text((ROOT / "prefect.toml").read_text().replace("4200", str(self.port)))
        *before, self.worker = [line.replace("4200", str(self.port)) for line in page_commands()]
        self.shell("\n".join(before).replace("prefect server start", f"prefect server start --port {self.port}"))
        lines = (folder / ".env").read_text().splitlines()
        self.given = dict(line.partition("=")[::2] for line in lines)
        self.url = self.given["PREFECT_API_URL"]

    def shell(self, text: str) -> str:
        environment = bare_environment(**{TAG: self.tag})
        done = subprocess.run(
            ["bash", "-ec", text], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        user, _, password = self.given["PREFECT_API_AUTH_STRING"].partition(":")
        return httpx.request(method, f"{self.url}{path}", auth=(user, password), timeout=60, **options)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    made = Lab.__new__(Lab)
    try:
        made.__init__(folder)
        yield made
    finally:
        kill_tagged(TAG, made.tag)


@pytest.mark.slow
def test_without_the_credential_nobody_is_let_in(lab):
    assert oct((lab.folder / ".env").stat().st_mode)[-3:] == "600"
    assert lab.given["PREFECT_API_AUTH_STRING"] == lab.given["PREFECT_SERVER_API_AUTH_STRING"] and len(lab.given) == 3
    asked = [("POST", "/flow_runs/filter"), ("POST", "/deployments/filter"), ("GET", "/admin/version")]
    for method, path in asked:
        body = {"json": {}} if method == "POST" else {}
        assert httpx.request(method, lab.url + path, **body).status_code == 401
        assert httpx.request(method, lab.url + path, auth=("lab", "guess"), **body).status_code == 401
        assert lab.ask(method, path, **body).status_code == 200


@pytest.mark.slow
def test_a_page_from_elsewhere_gets_no_permission(lab):
    def allowed(origin):
        wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        before = httpx.options(f"{lab.url}/flow_runs/filter", headers={"Origin": origin, **wanted})
        after = lab.ask("GET", "/admin/version", headers={"Origin": origin})
        return [answer.headers.get("access-control-allow-origin") for answer in (before, after)]

    for origin in ("https://elsewhere.example", "null", f"http://localhost:{lab.port + 1}"):
        assert allowed(origin) == [None, None]
    assert allowed(own := f"http://localhost:{lab.port}") == [own, own]


@pytest.mark.slow
def test_a_run_may_not_bring_its_own_command_environment_or_folder(lab):
    (deployment,) = [d for d in lab.ask("POST", "/deployments/filter", json={}).json() if d["name"] == "notebook"]
    for name, value in {"command": "touch taken", "env": {"A": "1"}, "working_dir": "/tmp"}.items():
        run = {"job_variables": {name: value}, "state": {"type": "SCHEDULED"}}
        answer = lab.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", json=run)
        assert answer.status_code == 422 and f"'{name}' was unexpected" in answer.text


@pytest.mark.slow
def test_a_schedule_that_is_awake_makes_runs(lab):
    """With another version of SQLAlchemy the scheduler fails at each turn, in the server's log alone."""
    (deployment,) = [d for d in lab.ask("POST", "/deployments/filter", json={}).json() if d["name"] == "rerun"]
    (own,) = deployment["schedules"]
    assert own["active"] is False
    lab.ask("PATCH", f"/deployments/{deployment['id']}/schedules/{own['id']}", json={"active": True})
    asked = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    for _ in range(150):  # the scheduler looks once a minute
        if made := lab.ask("POST", "/flow_runs/filter", json=asked).json():
            break
        time.sleep(1)
    lab.ask("PATCH", f"/deployments/{deployment['id']}/schedules/{own['id']}", json={"active": False})
    assert made and {run["state"]["type"] for run in made} == {"SCHEDULED"}


@pytest.mark.slow
def test_the_page_s_worker_refuses_a_notebook_from_elsewhere(lab, tmp_path):
    write_notebook(tmp_path / "10_other.ipynb", body=f"open({str(tmp_path / 'taken')!r}, 'w')")
    (deployment,) = [d for d in lab.ask("POST", "/deployments/filter", json={}).json() if d["name"] == "notebook"]
    given = {"path": str(tmp_path / "10_other.ipynb"), "out": str(tmp_path / "out")}
    for _ in range(5):  # SQLite may be locked for a moment
        made = lab.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": given})
        if made.status_code < 500:
            break
        time.sleep(2)
    assert made.is_success, made.text
    run = made.json()
    lab.shell(f"{lab.worker.partition('  #')[0]} --run-once")
    state = lab.ask("GET", f"/flow_runs/{run['id']}").json()["state"]
    assert state["type"] == "FAILED" and "10_other.ipynb" in state["message"] and "notebooks/" in state["message"]
    assert not (tmp_path / "taken").exists() and not (tmp_path / "out").exists()


class Refuses(BaseHTTPRequestHandler):
    status = 401

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(json.dumps(prefect.__version__).encode())

    def log_message(self, *words):
        pass


class LetsAnyoneIn(Refuses):
    status = 200


@contextmanager
def answering(kind: str):
    """A port at which nothing listens, a server takes calls and never answers, answers 401, or tells its version."""
    if kind == "nothing listens":
        yield free_port()
    elif kind == "hangs":
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            yield deaf.getsockname()[1]
    else:
        with HTTPServer(("127.0.0.1", 0), Refuses if kind == "refuses" else LetsAnyoneIn) as answers:
            threading.Thread(target=answers.serve_forever, daemon=True).start()
            yield answers.server_port
            answers.shutdown()


def stage_at(folder: Path, *, boom: bool = False) -> list[Stage]:
    """A stage; it fails with `boom`."""
    body = "if boom:\n    raise RuntimeError('bad luck')\n(stage.out_dir / 'a.txt').write_text('1')"
    parameters = "boom: bool = False  # run: fail\n"
    notebook = write_notebook(folder / "50_tiny.ipynb", parameters=parameters, body=body, outputs='["a.txt"]')
    return [Stage("a", notebook, f"{folder}/runs/a", {"boom": boom})]


FAULTS = [("nothing listens", "refused"), ("refuses", "401 Unauthorized"), ("hangs", "timed out")]


@pytest.mark.parametrize(
    ("asked", "kind", "why"),
    [(who, *fault) for who in ("find", "check") for fault in FAULTS] + [("check", "open", "lets in whoever asks")],
)
def test_a_server_that_cannot_be_used_is_named_with_the_reason(asked, kind, why, monkeypatch):
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.5)
    with (
        answering(kind) as port,
        temporary_settings({"api.url": f"http://lab:secret@127.0.0.1:{port}/api"}),
        pytest.raises(server.Unusable, match=why) as told,
    ):
        server.find() if asked == "find" else server.check()
    assert f"PREFECT_API_URL http://127.0.0.1:{port}/api: " in str(told.value) and "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_worker_without_a_server_is_told_so_at_once(capsys):
    with temporary_settings({"api.url": None}), pytest.raises(SystemExit) as end:
        server.main()
    assert end.value.code == 2 and capsys.readouterr().out.startswith("error: no PREFECT_API_URL; docs/prefect.md")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "why", "boom", "ends"),
    [
        ("nothing listens", "PREFECT_API_URL http://127", True, "failed"),
        ("fails later", "its server failed: ", False, "ran"),
    ],
)
def test_with_a_dead_server_an_experiment_runs_to_its_report(kind, why, boom, ends, tmp_path, capsys):
    with answering(kind) as port, temporary_settings({"api.url": f"http://127.0.0.1:{port}/api"}):
        code = conduct(stage_at(tmp_path, boom=boom), f"{tmp_path}/runs", title="tiny", workers=2)
    said = capsys.readouterr().out
    assert code == int(boom) and said.count(f"without Prefect: {why}") == 1
    assert ("RuntimeError: bad luck" in said) is boom
    rows = json.loads((tmp_path / "runs" / "report" / "stages.json").read_text())
    assert [(row["id"], row["status"]) for row in rows] == [("a", ends)]


@pytest.mark.slow
def test_a_state_of_another_version_ends_the_temporary_server_by_name(tmp_path):
    with sqlite3.connect(tmp_path / "prefect.db") as database:
        database.execute("create table alembic_version (version_num varchar(32))")
        database.execute("insert into alembic_version values ('a0b1c2d3e4f5')")
    done = subprocess.run(
        [sys.executable, "-c", "from flows.server import find; find()"],
        cwd=ROOT,
        env=bare_environment(PREFECT_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    line = done.stderr.strip().splitlines()[-1]
    assert "Unusable: a temporary server ended with code" in line
    assert "a0b1c2d3e4f5" in line and str(tmp_path) in line
