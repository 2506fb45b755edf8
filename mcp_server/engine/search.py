"""Which trials come next: a pure function of the search, the seed and the results so far.

Trials are asked in rounds of fixed size, so the same seed gives the same trials whatever the number of workers
that run them, and a search that was interrupted goes on with what is recorded.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mcp_server.engine.estimators import COLUMN_PREFIX, ENSEMBLES, FAMILIES, Choice, Parameter
from mcp_server.engine.metrics import Task
from mcp_server.engine.pipelines import Trial
from mcp_server.engine.sampling import FAMILY, make_study, prune_limits, suggest
from mcp_server.engine.search_space import overridden
from mcp_server.errors import InvalidArgumentError, shown

Method = Literal["none", "grid", "random", "bayesian"]
METHODS: tuple[Method, ...] = ("none", "grid", "random", "bayesian")
ROUND_SIZE = 4
_BLIND_ROUND_SIZE = 12  # of searches that do not learn from scores; only pruning waits for the end of a round
ENSEMBLE_MEMBERS = 3
MAX_TRIALS = 1000
_FINALISTS = 2
_CHEAPEST_FIRST = (
    "ridge",
    "logistic_regression",
    "naive_bayes",
    "dummy",
    "elastic_net",
    "lightgbm",
    "xgboost",
    "hist_gradient_boosting",
    "knn",
    "extra_trees",
    "random_forest",
)


@dataclass(frozen=True, slots=True)
class Search:
    """All that decides which trials are made.

    Attributes:
        families: what is tried, ensembles left out.
        ensembles: `voting`, `stacking`: one trial each, after all others.
        spaces: by family, the parameters that are searched.
        trials: how many trials there are in all.
        budgeted: a time budget may end it at any time; the cheapest families come first, and the first trial is
            never cut, so that there is a model however short the budget.
        halving: families compete on shares of the rows first, and only the best of them are searched.
    """

    method: Method
    families: list[str]
    ensembles: list[str]
    spaces: dict[str, list[Parameter]]
    trials: int
    seed: int
    higher_is_better: bool
    budgeted: bool = False
    halving: bool = False

    def to_document(self) -> dict[str, Any]:
        """Return the search as JSON."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Search":
        """Rebuild a search from `to_document`."""
        spaces = {
            family: [Parameter(**{**part, "grid": tuple(part["grid"])}) for part in parts]
            for family, parts in document["spaces"].items()
        }
        return cls(**{**document, "spaces": spaces})


def plan_search(
    method: str,
    estimators: Sequence[str],
    trials: int,
    overrides: Mapping[str, Any] | None,
    *,
    task: Task,
    seed: int,
    higher_is_better: bool,
    budgeted: bool = False,
) -> Search:
    """Return the search with its spaces resolved and its number of trials settled.

    Raises:
        InvalidArgumentError: unknown method, no trials, fewer trials than ensembles need, a bad search space.
    """
    if method not in METHODS:
        raise InvalidArgumentError(f"search {shown(method)} is unknown.", hint=f"Use {', '.join(METHODS)}.")
    if not 1 <= trials <= MAX_TRIALS:
        raise InvalidArgumentError(
            f"trials must be 1 to {MAX_TRIALS}, not {trials}.", hint="20 is a good start; search=none fits once."
        )
    families = [name for name in estimators if name not in ENSEMBLES]
    if budgeted:
        families.sort(key=_cost)
    ensembles = [name for name in estimators if name in ENSEMBLES]
    spaces = {name: list(FAMILIES[name].space) if name in FAMILIES else [] for name in families}
    spaces |= overridden(spaces, overrides, task)
    search = Search(method, families, ensembles, spaces, trials, seed, higher_is_better, budgeted)
    available = available_trials(search)
    total = available if method == "none" else min(trials, available)
    if total <= len(ensembles):
        raise InvalidArgumentError(
            f"{trials} trials are too few for {', '.join(ensembles)}: they are made of the best others.",
            hint=f"Use at least {len(ensembles) + len(families)} trials.",
        )
    competing = budgeted and method in ("random", "bayesian") and not ensembles and len(families) > _FINALISTS
    competing = competing and total > 1 + sum(size for size, _ in _stages(len(families)))
    return replace(search, trials=total, halving=competing)


def available_trials(search: Search) -> int:
    """Return how many different trials there are."""
    tunable = _tunable(search)
    if search.method == "none":
        singles = len(search.families)
    elif search.method == "grid":
        singles = sum(1 for _ in _grid(search))
    else:
        singles = MAX_TRIALS if tunable else len(search.families)
    return min(MAX_TRIALS, singles + len(search.ensembles))


def _cost(family: str) -> int:
    """Return the rank of a family by the time that a fit takes; a column costs nothing."""
    if family in _CHEAPEST_FIRST:
        return 1 + _CHEAPEST_FIRST.index(family)
    return 0 if family.startswith(COLUMN_PREFIX) else 1 + len(_CHEAPEST_FIRST)


def _round_size(search: Search) -> int:
    return ROUND_SIZE if search.method == "bayesian" else _BLIND_ROUND_SIZE


def _tunable(search: Search) -> list[str]:
    return [name for name in search.families if search.spaces[name]]


def ask(search: Search, history: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Return the next round of trials, or none when the search is over.

    Args:
        search: the plan.
        history: results of all trials asked so far: `number, estimator, params, score` (None without one), and `share`
            of those that competed on less than all rows.
    """
    first = len(history)
    singles = search.trials - len(search.ensembles)
    if first >= search.trials:
        return []
    if first >= singles:
        return _ensemble_trials(search, history)
    if search.halving:
        competing, _, finalists = _competition(search, history)
        if competing:
            return [*([] if history else [_default_trial(search, 0)]), *competing]
        return _sampled(search, range(first, min(first + _round_size(search), singles)), history, finalists)
    numbers = range(first, min(first + _round_size(search), singles))
    if search.method == "none":
        return [_default_trial(search, number) for number in numbers]
    if search.method == "grid":
        points = list(itertools.islice(_grid(search), numbers.start, numbers.stop))
        return [Trial(n, name, params) for n, (name, params) in zip(numbers, points, strict=True)]
    return _sampled(search, numbers, history, search.families)


def ask_documents(
    search: Search, history: Sequence[Mapping[str, Any]], *, time_is_up: bool = False
) -> list[dict[str, Any]]:
    """Return the next round as JSON: trials with a `share` of the rows, fold means to `prune_at`, and whether `uncut`.

    Only rounds that have ended decide what is pruned, so the number of workers does not. The first trial of a family
    and an ensemble are never pruned. The first trial of a search with a time budget is `uncut`: it may take longer.

    Args:
        time_is_up: the time budget has ended; only a search that has no score yet goes on, with one trial at a time.
    """
    trials = [] if time_is_up else ask(search, history)
    if not trials:
        cut_short = time_is_up or any(result.get("cut") for result in history)
        return _last_resort(search, history) if cut_short else []
    share = _competition(search, history)[1] if search.halving else 1.0
    limits = prune_limits(search, history)
    seen = {result["estimator"] for result in history}
    documents = []
    for trial in trials:
        opens = search.budgeted and trial.number == 0
        of_rows = 1.0 if opens else share
        prunable = of_rows == 1.0 and trial.estimator in seen and not trial.members
        further = {"share": of_rows, "prune_at": limits if prunable else None, "uncut": opens}
        documents.append(trial.to_document() | further)
    return documents


def _last_resort(search: Search, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a trial beyond the time budget, of the cheapest family that has not failed, while none has a score."""
    if best_first(search, history):
        return []
    failed = {result["estimator"] for result in history if result["score"] is None and not result.get("cut")}
    left = [name for name in search.families if name not in failed]
    if not left:
        return []
    trial = replace(_default_trial(search, search.families.index(left[0])), number=len(history))
    return [trial.to_document() | {"share": 1.0, "prune_at": None, "uncut": True}]


def n_rounds(search: Search) -> int:
    """Return how many rounds of trials a search has at most."""
    singles = search.trials - len(search.ensembles)
    stages = len(_stages(len(search.families))) if search.halving else 0
    last_resorts = len(search.families) if search.budgeted else 0
    return -(-singles // _round_size(search)) + stages + (1 if search.ensembles else 0) + last_resorts


def _stages(n_families: int) -> list[tuple[int, float]]:
    """Return (families, share of the rows) of each stage: half the families go on, with twice the rows.

    Source: successive halving, Jamieson and Talwalkar (2016), with the families as arms.
    """
    sizes = [n_families]
    while sizes[-1] > _FINALISTS:
        sizes.append(-(-sizes[-1] // 2))
    return [(size, 0.5 ** (len(sizes) - 1 - index)) for index, size in enumerate(sizes)]


def _competition(search: Search, history: Sequence[Mapping[str, Any]]) -> tuple[list[Trial], float, list[str]]:
    """Return the trials of the stage that is due and their share of the rows; when all are over, the finalists.

    The first trial of the search runs beside the first stage: the usual parameters of the cheapest family on all rows.
    So that family, when it gets to the last stage, has its trial already.
    """
    alive, done = list(search.families), 1
    for size, share in _stages(len(search.families)):
        going_on = alive[:size]
        asked = [name for name in going_on if share < 1.0 or name != search.families[0]]
        if asked and max(1, len(history)) == done:
            trials = [
                replace(_default_trial(search, search.families.index(name)), number=done + offset)
                for offset, name in enumerate(asked)
            ]
            return trials, share, []
        stage = [*(history[:1] if len(asked) < len(going_on) else []), *history[done : done + len(asked)]]
        alive = [result["estimator"] for result in best_first(search, stage, share)]
        done += len(asked)
    return [], 1.0, alive


def _default_trial(search: Search, number: int) -> Trial:
    name = search.families[number]
    return Trial(number, name, {part.name: part.default for part in search.spaces[name]})


def _grid(search: Search) -> Iterator[tuple[str, dict[str, Choice]]]:
    """Yield the points of all grids, one of each family in turn, so that a cut grid has tried every family."""
    points = {
        name: [
            (name, dict(zip([part.name for part in search.spaces[name]], values, strict=True)))
            for values in itertools.product(*(part.grid for part in search.spaces[name]))
        ]
        for name in search.families
    }
    for row in itertools.zip_longest(*points.values()):
        yield from (point for point in row if point is not None)


def _sampled(
    search: Search, numbers: range, history: Sequence[Mapping[str, Any]], families: Sequence[str]
) -> list[Trial]:
    """Every family once with its usual parameters, then what the sampler chooses among `families`."""
    tunable = [name for name in families if search.spaces[name]]
    if search.halving and not tunable:
        return []
    study = make_study(search, numbers.start, tunable, history)
    trials: list[Trial] = []
    for number in numbers:
        if number < len(search.families) and not search.halving:
            trials.append(_default_trial(search, number))
            continue
        asked = study.ask()
        if search.method == "random":
            name = tunable[number % len(tunable)]
        else:
            name = asked.suggest_categorical(FAMILY, tunable)
        params = {part.name: suggest(asked, f"{name}.{part.name}", part) for part in search.spaces[name]}
        trials.append(Trial(number, name, params))
    return trials


def best_first(search: Search, history: Sequence[Mapping[str, Any]], share: float = 1.0) -> list[Mapping[str, Any]]:
    """Return the trials that have a score on this share of the rows, the best first; the earlier one on a tie."""
    done = [result for result in history if result["score"] is not None and result.get("share", 1.0) == share]
    sign = -1.0 if search.higher_is_better else 1.0
    return sorted(done, key=lambda result: (sign * result["score"], result["number"]))


def _ensemble_trials(search: Search, history: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Return the ensembles over the best trial of each of the best families."""
    best: dict[str, Mapping[str, Any]] = {}
    for result in best_first(search, history):
        best.setdefault(result["estimator"], result)
    members = [
        {"estimator": result["estimator"], "params": dict(result["params"])}
        for name, result in best.items()
        if name in FAMILIES and name != "dummy"
    ][:ENSEMBLE_MEMBERS]
    done = {result["estimator"] for result in history}
    return [
        Trial(len(history) + offset, name, {}, members)
        for offset, name in enumerate(name for name in search.ensembles if name not in done)
    ]


def leaderboard(search: Search, history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the best of each family, best first, families without a score on all rows last."""
    rows: dict[str, dict[str, Any]] = {}
    for result in [*best_first(search, history), *history]:
        score = result["score"] if result.get("share", 1.0) == 1.0 else None
        rows.setdefault(
            result["estimator"], {"estimator": result["estimator"], "score": score, "params": dict(result["params"])}
        )
    for name, row in rows.items():
        of_family = [result for result in history if result["estimator"] == name]
        row["trials"] = len(of_family)
        row["pruned"] = sum(bool(result.get("pruned")) for result in of_family)
        row["cut"] = sum(bool(result.get("cut")) for result in of_family)
        row["failed"] = sum(result["score"] is None for result in of_family) - row["pruned"] - row["cut"]
    return list(rows.values())
