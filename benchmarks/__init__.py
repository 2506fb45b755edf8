"""What docs/BENCHMARKS.md quotes: one command each, always beside a peer or a floor."""

import mcp_server  # noqa: F401  before Polars, as in the server: it chooses how Polars' memory is kept
