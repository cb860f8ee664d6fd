"""What a GPU does with this code: one script, prepared, for whenever one is at hand. At most eight minutes.

    python -m benchmarks.gpu --out runs/gpu                       # on a GPU
    python -m benchmarks.gpu --out runs/gpu --device cpu --tiny   # the same code in small, here

Parts run in order of worth, each in a process of its own with its own time limit, and every finding is a line of JSON
the moment it is known (`OUT/gpu.jsonl`), so a run that is cut still tells something; `OUT/gpu.md` is the table, written
anew after each part. Weights and slides are noise (real ones with --bags and --labels): seconds and bytes do not
depend on them. Needs torch, transformers, peft, accelerate, h5py, scikit-learn and pytest alone: no OpenSlide, no
notebooks, no network, and no installed slidesieve.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS_S = {
    "tests": 75,
    "steps": 110,
    "answers": 60,
    "kernels": 45,
    "lengths": 45,
    "resume": 90,
    "tiles": 50,
    "bags": 90,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl and gpu.md")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="where to run")
    parser.add_argument("--tiny", action="store_true", help="everything in small, to try the script")
    parser.add_argument("--parts", default=",".join(LIMITS_S), help=f"some of {', '.join(LIMITS_S)}")
    parser.add_argument("--minutes", type=float, default=8.0, help="parts that do not fit any more are left out")
    parser.add_argument("--bags", default="", help="packed store of real slides, for the part bags")
    parser.add_argument("--labels", default="", help="its label table: case_id, slide_id, oncotree_code")
    args = parser.parse_args()
    unknown = [name for name in args.parts.split(",") if name not in LIMITS_S]
    if unknown:
        parser.error(f"part {unknown[0]!r}: expected some of {', '.join(LIMITS_S)}")
    args.out.mkdir(parents=True, exist_ok=True)
    end, rows = time.monotonic() + 60 * args.minutes, []
    with (args.out / "gpu.jsonl").open("w") as file:
        for part in args.parts.split(","):
            limit_s = LIMITS_S[part] * (1 if args.device == "cuda" else 5)  # a busy CPU starts processes slowly
            for row in run_part(part, args, limit_s=min(limit_s, end - time.monotonic())):
                rows.append({"part": part, **row})
                line = json.dumps(rows[-1])
                print(line, flush=True)
                file.write(line + "\n")
                file.flush()
            (args.out / "gpu.md").write_text(as_table(rows))
    print(f"{args.out / 'gpu.md'}", flush=True)


def run_part(part: str, args: argparse.Namespace, *, limit_s: float) -> Iterator[dict]:
    """Yield what a part finds, then how long it took and how it ended; past its limit its processes are killed."""
    if limit_s < 10:
        yield {"status": "left out: no time"}
        return
    words = [sys.executable, "-m", "benchmarks.gpu_parts", part, "--device", args.device]
    words += ["--tiny"] * args.tiny + [f"--bags={args.bags}", f"--labels={args.labels}"]
    start, log = time.monotonic(), args.out / f"{part}.log"
    with log.open("w") as errors:
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT)])},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        timer = threading.Timer(limit_s, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
        for line in child.stdout:
            if line.startswith("{"):
                yield json.loads(line)
            else:
                errors.write(line)
        code = child.wait()
        timer.cancel()
    ended = "ok" if code == 0 else f"cut after {limit_s:.0f} s" if code == -signal.SIGKILL else f"exit {code}"
    told = {} if code == 0 else {"last words": " | ".join(log.read_text().strip().splitlines()[-3:])[-600:]}
    yield {"status": ended, "seconds": round(time.monotonic() - start, 1), **told}


def as_table(rows: list[dict]) -> str:
    """One Markdown table a part, its columns those that occur in it."""
    text = []
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [{k: v for k, v in row.items() if k != "part"} for row in rows if row["part"] == part]
        found, ending = [row for row in own if "seconds" not in row], [row for row in own if "seconds" in row]
        text += [f"\n## {part}\n"]
        columns = list(dict.fromkeys(name for row in found for name in row))
        if columns:
            text += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
            text += ["| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |" for row in found]
        text += ["\n" + ", ".join(f"{name}: {_cell(value)}" for name, value in row.items()) for row in ending]
    return "\n".join(text).lstrip() + "\n"


def _cell(value: object) -> str:
    shown = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else value
    return (f"{shown:,.0f}" if isinstance(shown, float) else str(shown)).replace("|", "/")


if __name__ == "__main__":
    main()
