"""What a client may read beside the tools: datasets, suites, model cards, reports and their pictures."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context

from mcp_server.errors import NotFoundError
from mcp_server.settings import Role
from mcp_server.tools.calling import app_of

_MAX_COLUMNS = 500


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One template of addresses, what reads it, and the least role that may."""

    uri_template: str
    function: Callable[..., str | bytes]
    title: str
    mime_type: str
    role: Role = "viewer"

    @property
    def scheme(self) -> str:
        """What the template's addresses begin with."""
        return self.uri_template.split("://")[0]


def read_dataset(ctx: Context[Any, Any], name: str) -> str:
    """Read what a dataset is: columns, rows, origin. name, or name@version."""
    version = app_of(ctx).datasets.resolve(name)
    return _json(
        {
            "name": version.name,
            "version": version.version,
            "rows": version.rows,
            "columns": [
                {"name": column.name, "dtype": column.dtype, "nullable": column.nullable}
                for column in version.columns[:_MAX_COLUMNS]
            ],
            "n_columns": len(version.columns),
            "content_hash": version.content_hash,
            "source": version.source,
            "lineage": dict(version.lineage),
            "created_at": version.created_at.isoformat(),
        }
    )


def read_cleaning_journal(ctx: Context[Any, Any], name: str) -> str:
    """Read what cleaning changed, cell by cell: the journal's first entries as JSON, and how many there are."""
    return app_of(ctx).cleaning.journal_head(name)


def read_cleaning_journal_file(ctx: Context[Any, Any], name: str) -> bytes:
    """Read a cleaning's whole journal as Parquet: step, action, row (of the input, from 0), column, before, after."""
    return app_of(ctx).cleaning.journal_file(name)


def read_suite(ctx: Context[Any, Any], name: str) -> str:
    """Read a suite as Great Expectations JSON. name, or name@version."""
    return _json(dict(app_of(ctx).suites.resolve(name).document))


def read_model_card(ctx: Context[Any, Any], name: str, version: str) -> str:
    """Read a model version's card as Markdown. version: 1.2.0, production or staging."""
    models = app_of(ctx).models
    return models.card(models.resolve(f"{name}@{version}")).markdown


def read_report(ctx: Context[Any, Any], id: str) -> str:
    """Read a report as one self-contained HTML page. As text: get_report."""
    return app_of(ctx).reports.html(id)


def read_report_image(ctx: Context[Any, Any], id: str) -> bytes:
    """Read a report's main plot as PNG."""
    image = app_of(ctx).reports.image(id)
    if image is None:
        raise NotFoundError("image of report", id, hint="This report has no plot; read the report itself.")
    return image


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, default=str)


RESOURCES = (
    ResourceSpec("dataset://{name}", read_dataset, "Dataset", "application/json"),
    ResourceSpec("dataset://{name}/journal", read_cleaning_journal, "Journal of a cleaning", "application/json"),
    ResourceSpec(
        "dataset://{name}/journal/parquet",
        read_cleaning_journal_file,
        "Journal of a cleaning, whole",
        "application/vnd.apache.parquet",
    ),
    ResourceSpec("suite://{name}", read_suite, "Suite of expectations", "application/json"),
    ResourceSpec("model://{name}/{version}/card", read_model_card, "Model card", "text/markdown"),
    ResourceSpec("report://{id}", read_report, "Report", "text/html"),
    ResourceSpec("report://{id}/image", read_report_image, "Main plot of a report", "image/png"),
)
