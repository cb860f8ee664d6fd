"""The Prefect server that shows an experiment: the one named by PREFECT_API_URL, else a temporary one of our own.

Prefect shows and never decides: where no server can be used, `Unusable` says why, and an experiment goes on without.
Prefect's own temporary server lets in whoever reaches its port, and is started again for ever if it cannot start.
Before a worker, `python -m flows.server` says at once whether the server that is named is fit for one.
"""

import atexit
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from typing import IO

from slidesieve.provenance.files import ROOT

PREFECT = {
    "PREFECT_HOME": str(ROOT / ".prefect"),
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200,http://localhost:4200",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # the board speaks on the terminal itself
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # events that find no server once a run is interrupted
}
ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.2
FAULT = re.compile(r"^[\w.]*(?:Error|Exception)\b.*")
USER = re.compile(r"//[^/\s]*@")


class Unusable(Exception):
    """No Prefect server can be used; the message says which, and why."""


def find() -> None:
    """Make sure that a server answers which takes our credential, and start a temporary one if none is named.

    Raises Unusable if that fails; a server has ANSWER_SECONDS to answer. In a deployment's run the worker has its own.
    """
    os.environ.update({name: value for name, value in PREFECT.items() if name not in os.environ})
    try:
        from prefect.context import FlowRunContext
        from prefect.settings import get_current_settings

        settings = get_current_settings()
    except Exception as error:  # packages that do not fit together, or a home that another version wrote
        raise Unusable(
            f"Prefect cannot be loaded: {reason(error)}; its state is in {os.environ['PREFECT_HOME']}"
        ) from error
    if FlowRunContext.get():
        return
    _ask(settings.api.url or _start_temporary(settings.server.ephemeral.startup_timeout_seconds))


def check() -> None:
    """Raise Unusable unless a server is named that takes our credential and lets in nobody without: one for workers."""
    import httpx
    from prefect.settings import get_current_settings

    if not (url := get_current_settings().api.url):
        raise Unusable("no PREFECT_API_URL; docs/prefect.md says where to put it")
    _ask(url)
    answer = httpx.get(f"{url}/admin/version", timeout=ANSWER_SECONDS)
    if answer.status_code not in (401, 403):
        raise Unusable(
            f"PREFECT_API_URL {USER.sub('//', url)}: lets in whoever asks, and would let them run things here; "
            "start it again with PREFECT_SERVER_API_AUTH_STRING set"
        )


def reason(error: BaseException) -> str:
    """Say in a line what went wrong, with the cause that Prefect wraps, and no password of an address."""
    lines = [(str(e).strip().splitlines() or [""])[0] or type(e).__name__ for e in (error, error.__cause__) if e]
    text = ": ".join(dict.fromkeys(line.partition(" - For more information")[0] for line in lines))
    return USER.sub("//", text) + ("; PREFECT_API_AUTH_STRING must be the server's" if "401" in text else "")


def _ask(url: str) -> None:
    """Ask a server for its version with our credential, once."""
    from prefect.client.orchestration import get_client
    from prefect.settings import temporary_settings

    try:
        with (
            temporary_settings({"client.max_retries": 0}),
            get_client(sync_client=True, httpx_settings={"timeout": ANSWER_SECONDS}) as client,
        ):
            client.raise_for_api_version_mismatch()
    except Exception as error:
        raise Unusable(f"PREFECT_API_URL {USER.sub('//', url)}: {reason(error)}") from error


def _start_temporary(limit_s: float) -> str:
    """Start a server on 127.0.0.1 that lives as long as this process, name it in the environment, return its address.

    Whoever asks it for anything must know a random string, which it and our children get in their environment only.
    """
    from prefect.context import refresh_global_settings_context

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    credential, log = f"slidesieve:{secrets.token_urlsafe(32)}", tempfile.TemporaryFile()  # noqa: SIM115
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.server:application"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--lifespan", "on", "--log-level", "error"],
        cwd=ROOT,
        env=os.environ
        | {"PREFECT_SERVER_API_AUTH_STRING": credential, "PREFECT_SERVER_UI_ENABLED": "false"}
        | {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},  # as Prefect starts its own
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    atexit.register(_stop, server)
    if not _comes_up(server, port, limit_s=limit_s):
        how = f"gave no answer in {limit_s:g} s" if server.poll() is None else f"ended with code {server.returncode}"
        _stop(server)
        home = os.environ["PREFECT_HOME"]
        raise Unusable(f"a temporary server {how}: {_last_fault(log)}; its state is in {home}, which may be moved away")
    os.environ |= {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_API_AUTH_STRING": credential}
    refresh_global_settings_context()
    return os.environ["PREFECT_API_URL"]


def application() -> object:
    """Make what the temporary server serves: Prefect's own, without what `flows` keeps from being imported."""
    from prefect.server.api.server import create_app

    return create_app()


def _comes_up(server: subprocess.Popen, port: int, *, limit_s: float) -> bool:
    """Wait until a server answers; False if it ends before, or time runs out."""
    deadline = time.monotonic() + limit_s
    while server.poll() is None and time.monotonic() < deadline:
        asked = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        try:
            asked.request("GET", "/api/health")
            return asked.getresponse().status == 200
        except (OSError, HTTPException):
            time.sleep(POLL_SECONDS)
        finally:
            asked.close()
    return False


def _last_fault(log: IO[bytes]) -> str:
    """Find the last error that a server's log names."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return ([line for line in lines if FAULT.match(line)] or lines or ["it said nothing"])[-1]


def _stop(server: subprocess.Popen) -> None:
    server.terminate()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def main() -> None:
    """Exit 2 with a line if no worker should be started for the server that is named."""
    try:
        check()
    except Unusable as fault:
        print(f"error: {fault}", flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
