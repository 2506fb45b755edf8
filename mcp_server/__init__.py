"""nba-mcp: the whole life of a machine-learning model, as tools of one MCP server."""

import os

# Polars' build gives freed memory back after half a second, and a server that answers again after that pays for every
# page anew: a tenth to a fifth of a validation's time. Ten seconds are the allocator's own default. Read once, when
# Polars is loaded, which is never before this line.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000")

__version__ = "0.1.0"
