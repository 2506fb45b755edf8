"""Integrity of tables: keys, references, rules on rows and sequences, rows told twice. All counts are exact."""
