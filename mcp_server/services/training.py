"""Training: from a dataset to a registered model, in parts that a durable job records one by one."""

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    LifecycleError,
    ResourceExhaustedError,
    UnavailableError,
)
from mcp_server.results.training import (
    DataCheckResult,
    EvaluationResult,
    ExplanationResult,
    ModelComparison,
    TrainingResult,
)
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import Progress
from mcp_server.runtime.search_progress import search_progress
from mcp_server.runtime.warm_children import WarmChildren
from mcp_server.services.training_search import SearchRecords
from mcp_server.settings import DaskSettings, LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.models import ModelRegistry
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.studies import StudyStore

if TYPE_CHECKING:
    from mcp_server.services.model_rows import ModelRows

_TRIAL = "mcp_server.engine.training:run_trial_in_child"
_IDLE_S = 20.0  # a child that fits waits so long for the next trial, with its data
_FINISH = "mcp_server.engine.final_fit:finish_in_child"

SuiteCheck = Callable[[str, str], tuple[bool, str, str]]


class TrainingService:
    """Trains, checks, scores, explains and compares models. Thread-safe.

    A training is `plan_training`, rounds of `ask_trials` and `run_trial`, and `finish_training`. All pass plain JSON,
    and each may run twice: the same plan and history always give the same model.
    """

    def __init__(
        self,
        *,
        datasets: DatasetStore,
        models: ModelRegistry,
        reports: ReportStore,
        artifacts: ArtifactStore,
        studies: StudyStore,
        clock: Clock,
        limits: LimitSettings,
        check_suite: SuiteCheck,
        dask: DaskSettings | None = None,
    ) -> None:
        """Hold the parts.

        Args:
            check_suite: validates a dataset against a suite; gives whether it passed, a sentence, and the
                suite's version as `name@1`.
            dask: the cluster that large fits go to, where its scheduler is set.
        """
        self._datasets = datasets
        self._models = models
        self._reports = reports
        self._artifacts = artifacts
        self._searches = SearchRecords(studies)
        self._clock = clock
        self._limits = limits
        self._check_suite = check_suite
        self._dask = dask
        self._children = WarmChildren(threads=1, keep=os.cpu_count() or 1, idle_s=_IDLE_S)

    def close(self) -> None:
        """End the children that wait for a trial."""
        self._children.close()

    def train_model(self, *, caller: Caller, progress: Progress, **arguments: Any) -> TrainingResult:
        """Run a whole training here and now; a worker runs the same parts as a durable job."""
        job_id = f"inline-{uuid.uuid4().hex}"
        plan = self.plan_training(caller=caller, job_id=job_id, **arguments)
        history: list[dict[str, Any]] = []
        for index in range(plan["n_rounds"]):
            trials = self.ask_trials(plan, index, list(history))
            if not trials:
                break
            for trial in trials:
                history.append(trial.get("known") or self.run_trial(plan, trial, progress.cancelled))
                self.record_trial(plan, history[-1])
                progress(*search_progress(plan, history, self._clock.now().timestamp()))
        return self.finish_training(caller=caller, job_id=job_id, plan=plan, history=history, progress=progress)

    def plan_training(self, *, caller: Caller, job_id: str, **arguments: Any) -> dict[str, Any]:
        """Check everything `train_model` was given and return the plan.

        Raises:
            InvalidArgumentError: an argument does not fit the data or another argument.
            NotFoundError: no such dataset or suite.
            AlreadyExistsError: the name belongs to a model of another kind.
            FailedPreconditionError: a leak, data unfit for training, or a suite that does not pass.
            ResourceExhaustedError: more data than the limit.
        """
        from mcp_server.engine.search import n_rounds
        from mcp_server.services import training_planning as planning

        request = planning.parse_request(arguments)
        version = self._datasets.resolve(request.dataset)
        frame, n_unlabelled = planning.read_labelled(
            lambda: self._datasets.read(version.ref),
            version,
            request.target,
            request.missing_target,
            self._limits.max_training_cells,
        )
        spec, rows, estimators, notes = planning.settle(request, frame)
        latest = self._models.latest(request.name)
        planning.refuse_other_task(request.name, None if latest is None else latest.task, spec.task)
        search = planning.make_search(request, spec, estimators)
        suite = self._require_suite(version.ref, request.suite)
        findings, _ = planning.find(spec, rows, request.allow_features)
        planning.refuse_blocking(findings)
        recipe = planning.make_recipe(request, spec, search, version, suite)
        plan: dict[str, Any] = {
            "job_id": job_id,
            "name": request.name,
            "dataset": version.ref,
            "spec": spec.to_document(),
            "search": search.to_document(),
            "recipe": recipe.model_dump(mode="json"),
            "lineage": planning.make_lineage(version, suite, request.seed, search.families).model_dump(mode="json"),
            "warnings": planning.warnings_of(findings, [*notes, *planning.search_notes(request, search)]),
            "rows_unlabelled": n_unlabelled,
            "n_trials": search.trials,
            "n_rounds": n_rounds(search),
            "time_budget_seconds": request.time_budget_seconds,
        }
        found = self._searches.begin(job_id, plan)
        notes = [f"{len(found)} trials of an unfinished training with this recipe were taken over."] if found else []
        warnings = [*plan["warnings"], *notes]
        return plan | {"found_before": found, "warnings": warnings, "search_from": self._clock.now().timestamp()}

    def _require_suite(self, dataset: str, suite: str | None) -> str | None:
        """Return the version of the suite that the dataset meets."""
        if suite is None:
            return None
        passed, sentence, checked = self._check_suite(dataset, suite)
        if not passed:
            raise FailedPreconditionError(
                f"{dataset} does not pass suite {suite}, so nothing was trained: {sentence}",
                hint="See validate_dataset for the failures and clean_dataset for repairs.",
            )
        return checked

    def ask_trials(
        self, plan: Mapping[str, Any], round_index: int, history: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the next round of trials; none when the search is over. The same history gives the same trials.

        The time budget counts from the end of the plan. Once it has ended there are no more, unless none has a score.
        A trial that an unfinished training of the same recipe has made carries its result as `known`.

        Raises:
            UnavailableError: the database does not answer.
        """
        from mcp_server.engine.search import Search, ask_documents

        time_is_up = round_index > 0 and self._left_s(plan) <= 0
        search = Search.from_document(plan["search"])
        return self._searches.with_known(plan, ask_documents(search, history, time_is_up=time_is_up))

    def run_trial(
        self, plan: Mapping[str, Any], trial: Mapping[str, Any], cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        """Cross-validate one trial in a child process; one that cannot be fitted answers with its error.

        Raises:
            CancelledError: the job was cancelled.
            UnavailableError: the database, or the cluster, does not answer.
        """
        arguments = {"spec": plan["spec"], "trial": {key: trial[key] for key in trial if key != "uncut"}}
        uncut = bool(trial.get("uncut"))
        left_s = math.inf if uncut else self._left_s(plan)
        timeout_s = min(left_s, self._limits.trial_timeout_s)
        try:
            if left_s <= 0:
                raise ResourceExhaustedError("The time budget ended.", details={"limit": "time"})
            answer: dict[str, Any] = self._children.run(
                _TRIAL,
                self._with_data(plan["dataset"], arguments),
                subject=plan["dataset"],
                memory_bytes=self._limits.child_memory_bytes,
                timeout_s=timeout_s,
                cancelled=cancelled,
            )
        except (CancelledError, UnavailableError):
            raise
        except LifecycleError as refusal:
            cut = refusal.details.get("limit") == "time" and timeout_s == left_s
            answer = {
                **{key: trial[key] for key in ("number", "estimator", "params", "members", "share")},
                "cut": cut,
                "score": None,
                "score_std": None,
                "fold_scores": [],
                "notes": [],
                "error": "The time budget ended." if cut else refusal.message,
                "duration_s": 0.0,
            }
        answer["late"] = uncut and self._left_s(plan) < 0
        return answer

    def record_trial(self, plan: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Record what `run_trial` returned in the study; the same trial again changes nothing.

        Raises:
            UnavailableError: the database does not answer.
        """
        self._searches.record(plan, result)

    def _left_s(self, plan: Mapping[str, Any]) -> float:
        """Return the seconds left of the time budget; infinite without one."""
        budget_s = plan["time_budget_seconds"]
        return math.inf if budget_s is None else plan["search_from"] + budget_s - self._clock.now().timestamp()

    def found(self, job_id: str) -> list[dict[str, Any]]:
        """Return the trials of a training that have ended, by number; each as `run_trial` answered."""
        return self._searches.results(job_id)

    def findings(self, job_id: str) -> dict[str, Any] | None:
        """Return what a cancelled training had found: `message`, `hint`, `details`; None for any other job."""
        return self._searches.findings(job_id)

    def _with_data(self, dataset: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"path": str(self._datasets.resolve(dataset).path), "cluster": self._cluster(), **arguments}

    def _cluster(self) -> dict[str, Any] | None:
        """Return the cluster for large fits; told to a child only, as its address may hold a password."""
        if self._dask is None or self._dask.scheduler is None:
            return None
        return {"scheduler": self._dask.scheduler.get_secret_value(), "timeout_s": self._dask.connect_timeout_s}

    def finish_training(
        self,
        *,
        caller: Caller,
        job_id: str,
        plan: Mapping[str, Any],
        history: Sequence[Mapping[str, Any]],
        progress: Progress,
    ) -> TrainingResult:
        """Refit the winner on the training part, score it once on the held-out part, and register it.

        Raises:
            FailedPreconditionError: no trial succeeded.
            CancelledError: the job was cancelled.
            UnavailableError: the registry does not answer; nothing is registered.
        """
        from mcp_server.services import model_card
        from mcp_server.services import training_outcome as outcome

        winner = outcome.choose(plan, history)
        progress(0.82, f"refitting {winner['estimator']} on the whole training part")
        with ExitStack() as stack:
            paths = {
                name: stack.enter_context(self._artifacts.temporary_path(suffix))
                for name, suffix in (("model", ".skops"), ("reference", ".parquet"), ("held_out", ".parquet"))
            }
            trial = {key: winner[key] for key in ("number", "estimator", "params", "members")}
            arguments = {
                "spec": plan["spec"],
                "trial": trial,
                "patience_s": self._limits.trial_timeout_s / 2,
                **{f"{name}_path": str(path) for name, path in paths.items()},
            }
            scores = run_in_child(
                _FINISH,
                self._with_data(plan["dataset"], arguments),
                memory_bytes=self._limits.child_memory_bytes,
                timeout_s=self._limits.trial_timeout_s,
                threads=1,
                cancelled=progress.cancelled,
            )
            progress(0.92, "writing the model card and registering")
            seconds = self._clock.now().timestamp() - float(plan["search_from"])
            result = outcome.make_result(plan, history, winner, scores, seconds)
            report = model_card.make_card(plan, history, result, scores, paths["held_out"])
            registered = self._models.register(
                job_id=job_id,
                name=plan["name"],
                task=plan["spec"]["task"],
                recipe=plan["recipe"],
                training_result=result.model_dump(mode="json"),
                signature=outcome.make_signature(plan, winner, scores),
                model_bytes=paths["model"].read_bytes(),
                reference_parquet=paths["reference"].read_bytes(),
                lineage=plan["lineage"],
                card=model_card.render_card(report),
                metrics=outcome.metrics_to_log(plan, winner, scores),
                params=outcome.params_to_log(plan, winner),
                caller=caller,
                files={"training/trials.json": json.dumps(list(history)).encode()},
                series=outcome.series_to_log(plan, history),
                waiting=lambda message: progress(0.92, message),
            )
        report_id = self._reports.save(model_card.numbered(report, registered.version), "train_model", registered.ref)
        self._searches.finish(job_id)
        progress(0.99, f"registered {registered.ref}")
        return TrainingResult.model_validate(dict(registered.result) | {"card_report_uri": f"report://{report_id}"})

    def check_training_data(
        self,
        *,
        progress: Progress,
        dataset: str,
        target: str,
        split: dict[str, Any] | None = None,
        features: list[str] | None = None,
        model: str | None = None,
    ) -> DataCheckResult:
        """Make the leakage and readiness checks of a training without a fit.

        Raises:
            InvalidArgumentError: the target or a feature cannot be used at all.
            NotFoundError: no such dataset or model.
        """
        from mcp_server.services.training_check import check

        version = self._datasets.resolve(dataset)
        known = None if model is None else self._models.resolve(model)
        progress(0.1, f"reading {version.ref}")
        return check(self._datasets, self._limits, version, target, split, features, known, progress)

    def evaluate_model(self, *, progress: Progress, model: str, dataset: str) -> EvaluationResult:
        """Score a model on the labelled rows of a dataset, beside the baselines of its training.

        Raises:
            NotFoundError: no such model or dataset.
            InvalidArgumentError: the dataset lacks the target or a feature, or no outcome is known.
        """
        from mcp_server.services.model_evaluation import evaluate

        return evaluate(self._rows(), self._reports, progress, model, dataset)

    def explain_model(
        self,
        *,
        progress: Progress,
        model: str,
        dataset: str | None = None,
        rows: list[Any] | None = None,
        method: str = "shap",
    ) -> ExplanationResult:
        """Say what a model looks at, over all rows and for single ones.

        Raises:
            NotFoundError: no such model or dataset.
            InvalidArgumentError: rows that do not exist or do not fit.
            FailedPreconditionError: the model has no exact explanation, or a package is missing.
        """
        from mcp_server.services.model_explanation import explain

        return explain(self._rows(), self._reports, progress, model, dataset, rows, method)

    def compare_models(self, *, progress: Progress, models: list[str], dataset: str | None = None) -> ModelComparison:
        """Rank models on the same rows and say which differences are more than chance.

        Raises:
            NotFoundError: no such model or dataset.
            InvalidArgumentError: fewer than two, or models of different targets.
        """
        from mcp_server.services.model_comparison import compare

        return compare(self._rows(), progress, models, dataset)

    def _rows(self) -> "ModelRows":
        from mcp_server.services.model_rows import ModelRows

        return ModelRows(self._datasets, self._models)
