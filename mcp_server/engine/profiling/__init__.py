"""Profiles of tables: what is in every column, how columns go together, and trouble by name."""
