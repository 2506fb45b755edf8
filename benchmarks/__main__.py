"""`python -m benchmarks` runs every benchmark, `python -m benchmarks NAME` one; `list` names them.

What follows a name with dashes is the benchmark's own: `python -m benchmarks training --budget 10`.
"""

import importlib
import itertools
import sys

BENCHMARKS = {
    "startup": "process start to the first list of tools, beside a bare server of the SDK; the list's price in tokens",
    "explanation": "explain_model on 1,000 rows of a forest of 200 trees in a worker, and the values alone beside shap",
    "imports": "files of 1M and 10M rows of 20 columns brought in, beside other readers; peak memory",
    "leakage": "the checks before a training on 100K and 1M rows of 50 columns; peak memory",
    "profile": "a profile of 100K, 1M and 10M rows of 20 columns with its report, beside a part in pandas; peak memory",
    "training": "estimators auto on seven tables, beside FLAML and scikit-learn's defaults; one budget, the same rows",
    "training_overhead": "a durable search of 200 short trials, beside a bare loop of cross_val_score over the same",
    "training_workers": "a search that two workers share, one of which is killed, beside what one worker would need",
    "validation": "22 expectations on 100K, 1M and 10M rows of 20 columns, beside Great Expectations; peak memory",
}


def main() -> int:
    """Run what the command line names; without a name, all of them."""
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), sys.argv[1:])) or ["all"]
    if names == ["list"]:
        for name, words in BENCHMARKS.items():
            print(f"{name:12} {words}")  # noqa: T201
        return 0
    unknown = [name for name in names if name not in (*BENCHMARKS, "all")]
    if unknown:
        print(f"No benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.", file=sys.stderr)  # noqa: T201
        return 2
    chosen = list(BENCHMARKS) if "all" in names else names
    codes: list[int] = [importlib.import_module(f"benchmarks.{name}").main() for name in chosen]
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
