"""Cleaning: steps that are learned from a table, counted, written down, and repeatable on other tables."""
