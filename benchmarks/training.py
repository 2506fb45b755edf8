"""What `estimators=["auto"]` finds in a time budget, beside FLAML and scikit-learn's defaults.

All learn from the same rows and are scored on the same held-out rows: log loss for classes, RMSE for values. Each
trainer is a process of its own, one after the other; ours is a job of a real worker. A difference on the held-out
rows counts as one only when its paired bootstrap interval leaves zero out. `--budget SECONDS`, `--only NAME`.
"""

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.training_data import GAMES, PROBLEMS
from mcp_server.engine.comparison import paired_bootstrap
from mcp_server.engine.metrics import METRICS, score

TRAINERS = ("ours", "flaml", "linear", "forest", "boosting")
BUDGET_S = 60.0
SHARE_WON = 0.5


def run(trainer: str, problem: str, budget_s: float, folder: Path) -> dict[str, Any]:
    """Return what a trainer's process said; `error` where it failed."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training_worker", trainer, problem, f"{budget_s:g}"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"error": f"exit {done.returncode}: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def compare(problem: str, budget_s: float, console: Console) -> bool:
    """Print the rows of a problem; True when ours scores as well as FLAML or better.

    Raises:
        RuntimeError: ours failed, so that there is nothing to compare with.
    """
    task = PROBLEMS[problem]().task
    first, second = ("rmse", "r2") if task == "regression" else ("log_loss", "accuracy")
    table = Table(title=f"{problem}, {budget_s:g} s each; differences are ours less theirs, less is better")
    for heading in ("trainer", "winner", "score", "also", "ours less theirs (95 %)", "ours is", "s"):
        table.add_column(heading)
    scores = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for trainer in TRAINERS:
            answer = run(trainer, problem, budget_s, folder)
            if "error" in answer and trainer == "ours":
                raise RuntimeError(f"ours failed on {problem}: {answer['error']}")
            if "error" in answer:
                table.add_row(trainer, f"failed: {answer['error']}", "", "", "", "", "")
                continue
            output, truth = np.load(folder / f"{trainer}.npy"), np.load(folder / "rows.npz")["truth"]
            scores[trainer] = score(METRICS[first], truth, output)
            paired = None
            if trainer != "ours":
                paired = paired_bootstrap(METRICS[first], truth, np.load(folder / "ours.npy"), output, 0)
            interval = (
                "" if paired is None else f"{paired.difference:+.4f} [{paired.ci_low:+.4f}, {paired.ci_high:+.4f}]"
            )
            table.add_row(
                trainer,
                str(answer["winner"]),
                f"{first} {scores[trainer]:.4f}",
                f"{second} {score(METRICS[second], truth, output):.4f}",
                interval,
                "" if paired is None else paired.verdict,
                f"{answer['seconds']:.1f}",
            )
    console.print(table)
    return "flaml" not in scores or float(scores["ours"] or 0) <= float(scores["flaml"] or 0)


def main() -> int:
    """Print the figures; 1 when fewer than half of the problems are as good as FLAML's or better."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks training")
    parser.add_argument("--budget", type=float, default=BUDGET_S)
    parser.add_argument("--only", choices=list(PROBLEMS), action="append")
    asked = parser.parse_args(list(itertools.dropwhile(lambda word: not word.startswith("-"), sys.argv[1:])))
    console = Console(width=150)
    if importlib.util.find_spec("flaml") is None:
        console.print("FLAML is not installed: skipped; `make bench-training` brings it.")
        return 0
    names = asked.only or list(PROBLEMS)
    if not GAMES.exists() and "games" in names:
        console.print("The games are not there (../shared/data): skipped.")
        names = [name for name in names if name != "games"]
    won = [compare(name, asked.budget, console) for name in names]
    console.print(f"As good as FLAML or better: {sum(won)} of {len(won)}. Load: {os.getloadavg()[0]:.1f}.")
    return int(sum(won) < SHARE_WON * len(won))


if __name__ == "__main__":
    raise SystemExit(main())
