"""Loaded by the process that children are forked from: it runs one small query, so that theirs start warm.

A first connection reads the time zones and sets up the functions, about 25 ms, which a forked child then has already.
With one thread the connection starts no other, so nothing is lost in the fork; none of it is kept.
"""

import duckdb


def warm_up() -> None:
    """Open a connection, run what every query runs, and close it."""
    connection = duckdb.connect(":memory:", config={"threads": "1"})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        duckdb.tokenize("SELECT 1")
        answer = connection.sql("SELECT 'a' AS t, count(*) AS n, avg(range) AS a FROM range(10) GROUP BY 1 ORDER BY 2")
        answer.project("left(#1, 10), #2, #3").limit(2).fetchall()
    finally:
        connection.close()


warm_up()
