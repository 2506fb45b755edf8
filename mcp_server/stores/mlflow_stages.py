"""Stages of model versions: aliases in MLflow for the ones that name a version, a tag for `archived`."""

from collections.abc import Callable, Iterator
from typing import Any

from mcp_server.errors import ConflictError
from mcp_server.results.training import Stage
from mcp_server.stores.mlflow_errors import MISSING, passing_over
from mcp_server.stores.mlflow_runs import Tracking
from mcp_server.stores.model_versions import STAGES

_ARCHIVED_TAG = "nba_mcp.archived"
_REVISION_TAG = "nba_mcp.stage_revision"
_REASON_TAG = "nba_mcp.stage_reason"


class Stages:
    """Reads and moves stages. Thread-safe; who moves them keeps others from it meanwhile."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def aliases(self, name: str) -> dict[str, str]:
        """Return which MLflow version of `name` holds which stage."""

        def read(client: Any) -> dict[str, str]:
            with passing_over(MISSING):
                return {alias: str(v) for alias, v in client.get_registered_model(name).aliases.items()}
            return {}

        return self._tracking.once(read)

    def held(self, name: str | None = None) -> list[tuple[str, str, Stage]]:
        """Return (model, MLflow version, stage) of every version that has a stage."""

        def read(client: Any) -> list[tuple[str, str, Stage]]:
            of_model = f"name = '{name}'" if name else ""
            archived = " and ".join(part for part in (of_model, f"tags.`{_ARCHIVED_TAG}` = 'true'") if part)
            found: list[tuple[str, str, Stage]] = [
                (version.name, str(version.version), "archived")
                for version in _all_pages(client.search_model_versions, archived)
            ]
            for model in _all_pages(client.search_registered_models, of_model):
                held = model.aliases
                found += [(model.name, str(held[stage]), stage) for stage in STAGES if stage in held]
            return found

        return self._tracking.once(read)

    def move(
        self, name: str, mlflow_version: str, stage: Stage, reason: str | None, expected_revision: int | None
    ) -> tuple[int, bool]:
        """Let a version hold `stage` and no other; cut off anywhere, the same call again brings it to its end.

        Returns:
            How often this model's stages have changed, and whether they did now.

        Raises:
            ConflictError: they have changed another number of times than `expected_revision`.
        """

        def move(client: Any) -> tuple[int, bool]:
            model = client.get_registered_model(name)
            tags = client.get_model_version(name, mlflow_version).tags
            revision = int(model.tags.get(_REVISION_TAG, "0"))
            if expected_revision not in (None, revision):
                raise ConflictError(
                    f"The stages of {name} have changed: revision {revision}, not {expected_revision}.",
                    hint="Look at list_models again, then repeat the call with the current revision.",
                    details={"revision": revision},
                )
            held = {alias for alias in STAGES if str(model.aliases.get(alias)) == mlflow_version}
            held |= {"archived"} if _ARCHIVED_TAG in tags else set()
            if held == ({stage} if stage != "none" else set()):
                return revision, False
            if stage in STAGES:  # first the new holder, in one step: the stage is never without one
                client.set_registered_model_alias(name, stage, mlflow_version)
            for other in held - {stage, "archived"}:
                client.delete_registered_model_alias(name, other)
            if stage == "archived":
                client.set_model_version_tag(name, mlflow_version, _ARCHIVED_TAG, "true")
            elif "archived" in held:
                client.delete_model_version_tag(name, mlflow_version, _ARCHIVED_TAG)
            client.set_model_version_tag(name, mlflow_version, _REASON_TAG, f"{stage}: {reason or ''}"[:500])
            client.set_registered_model_tag(name, _REVISION_TAG, str(revision + 1))
            return revision + 1, True

        return self._tracking.once(move)


def _all_pages(search: Callable[..., Any], wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(filter_string=wanted, max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
