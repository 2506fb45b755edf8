"""How a tool reaches the parts behind it: the app, the caller, and the queue of jobs.

Light on purpose: this and the tool files are what a server imports before it shows its list of tools.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from mcp_server.results.base import Job
from mcp_server.settings import Role

if TYPE_CHECKING:
    from mcp_server.app import App
    from mcp_server.opening import Opening
    from mcp_server.runtime.identity import Caller

ResultT = TypeVar("ResultT", bound=BaseModel)

READ = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
WRITE_IDEMPOTENT = WRITE.model_copy(update={"idempotent_hint": True})
WRITE_OPEN_WORLD = WRITE.model_copy(update={"open_world_hint": True})
WRITE_IDEMPOTENT_OPEN_WORLD = WRITE_IDEMPOTENT.model_copy(update={"open_world_hint": True})
DESTROY = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool of the contract.

    Attributes:
        function: its signature, words, and one line of work; its name is the tool's.
        title: what a client shows a person.
        role: the least role that may call it.
        hints: MCP's annotations.
        job: True when the work runs in a worker; the service method of the same name does it.
        audited: whether a call that changes state leaves an audit event.
    """

    function: Callable[..., Any]
    title: str
    role: Role
    hints: ToolAnnotations
    job: bool = False
    audited: bool = True

    @property
    def name(self) -> str:
        """The tool's name in the contract."""
        return self.function.__name__

    @property
    def changes_state(self) -> bool:
        """True when a call leaves an audit event."""
        return self.audited and not self.hints.read_only_hint


def opening_of(ctx: Context[Any, Any]) -> Opening:
    """Return the app in the making, which the server's lifespan handed over."""
    opening: Opening = ctx.request_context.lifespan_context
    return opening


def app_of(ctx: Context[Any, Any]) -> App:
    """Return the app, waiting until it is open. For plain tools, which run on a thread of their own."""
    return opening_of(ctx).wait()


async def opened(ctx: Context[Any, Any]) -> App:
    """Return the app, waiting until it is open without holding the event loop."""
    return await opening_of(ctx).opened()


def caller_of(ctx: Context[Any, Any]) -> Caller:
    """Return who calls: the person at stdio, or the identity behind an HTTP request."""
    return opening_of(ctx).caller(ctx.request_context)


async def run_job(
    ctx: Context[Any, Any], kind: str, result_type: type[ResultT], wait_seconds: float, **arguments: object
) -> Job[ResultT]:
    """Run the service method named `kind`, here or in a worker, and return the job as it is after `wait_seconds`.

    Cancelling the call stops the waiting, never the work.

    Raises:
        LifecycleError: it failed in that time; `details` carries the `job_id` of what ran in a worker.
    """
    app = await opened(ctx)
    plain = {name: to_jsonable_python(value) for name, value in arguments.items()}
    job = await app.work.run(
        kind, plain, caller=caller_of(ctx), wait_seconds=wait_seconds, report_progress=ctx.report_progress
    )
    return Job[result_type].model_validate(job)  # type: ignore[valid-type]
