"""The table and the suite that both engines get: 20 columns made from a seed, 22 expectations of mixed kinds.

The table looks like a league's games: two keys, codes, dates, points, ratings, attendances with gaps. A few faults are
planted (a code that repeats, negative attendances, an unknown team), so that four expectations fail and their examples
have to be found.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

SEED: Final = 20_150_614
ROWS_PER_CHUNK: Final = 122_880
_TEAMS: Final = [f"{first}{second}{third}" for first in "ABCDE" for second in "LNR" for third in "ST"]
_ARENAS: Final = [f"Arena {'x' * (index % 9)}{index:03d} č" for index in range(400)]
_STATUSES: Final = ["final", "final/OT", "postponed", "forfeit"]


def _chunk(first: int, rows: int, total: int) -> pl.DataFrame:
    """Return rows `first` to `first + rows` of a table of `total` rows; the same for the same arguments."""
    random = np.random.default_rng([SEED, first])
    number = np.arange(first, first + rows)
    home, away = random.integers(0, len(_TEAMS), rows), random.integers(0, len(_TEAMS), rows)
    loser = random.integers(60, 120, rows)
    share = random.integers(35, 66, rows)
    attendance = pl.Series("attendance", random.normal(17_000, 2_000, rows).round()).set(
        pl.Series(random.random(rows) < 0.05), None
    )
    attendance[rows // 2] = -1.0
    code = np.where(number == total - 1, 0, number)  # the last row repeats the first code
    return pl.DataFrame(
        {
            "row_id": number,
            "game_code": pl.select(
                pl.format("G{}{}", pl.lit(pl.Series(code)).cast(pl.String).str.zfill(10), pl.lit("NBA"))
            ).to_series(),
            "season": 1950 + number * 70 // total,
            "game_number": number,
            "played_on": pl.Series(number * 25_000 // total).cast(pl.Int32).cast(pl.Date),
            "tip_off": pl.Series(number * 60_000_000 + 946_684_800_000_000).cast(pl.Datetime("us")),
            "home_team": pl.Series(_TEAMS).gather(home),
            "away_team": pl.Series([*_TEAMS[:-1], "???" if first == 0 else _TEAMS[-1]]).gather(away),
            "points_winner": loser + random.integers(1, 40, rows),
            "points_loser": loser,
            "possession_home": share,
            "possession_away": 100 - share,
            "elo_home": random.normal(1500, 100, rows),
            "elo_away": random.normal(1500, 100, rows),
            "attendance": attendance,
            "is_playoffs": random.random(rows) < 0.07,
            "player_id": random.integers(0, max(total // 2, 1), rows),
            "pace": random.gamma(90, 1.1, rows),
            "arena": pl.Series(_ARENAS).gather(random.integers(0, len(_ARENAS), rows)),
            "status": pl.Series(_STATUSES).gather(random.choice(4, rows, p=[0.9, 0.07, 0.02, 0.01])),
        }
    )


def write_table(path: Path, rows: int) -> None:
    """Write the table of `rows` rows as Parquet, which both engines read, in chunks of bounded memory."""
    writer: pq.ParquetWriter | None = None
    temporary = path.with_suffix(".part")
    for first in range(0, rows, ROWS_PER_CHUNK):
        chunk: pa.Table = _chunk(first, min(ROWS_PER_CHUNK, rows - first), rows).to_arrow(
            compat_level=pl.CompatLevel.oldest()
        )
        writer = writer or pq.ParquetWriter(temporary, chunk.schema, compression="zstd", compression_level=3)
        writer.write_table(chunk, row_group_size=ROWS_PER_CHUNK)
    if writer is not None:
        writer.close()
    temporary.rename(path)


def suite_of(rows: int) -> list[dict[str, Any]]:
    """Return the 22 expectations on a table of `rows` rows, in Great Expectations' form."""
    quantiles = {
        "quantiles": [0.05, 0.25, 0.5, 0.95],
        "value_ranges": [[1300, 1400], [1400, 1450], [1490, 1510], [1600, 1700]],
    }
    asked: list[tuple[str, dict[str, Any]]] = [
        ("table_row_count_to_equal", {"value": rows}),
        ("column_values_to_be_of_type", {"column": "elo_home", "type_": "float64"}),
        ("column_values_to_not_be_null", {"column": "attendance", "mostly": 0.9}),
        ("column_values_to_be_unique", {"column": "row_id"}),
        ("column_values_to_be_unique", {"column": "game_code"}),
        ("column_values_to_be_increasing", {"column": "row_id", "strictly": True}),
        ("column_values_to_match_regex", {"column": "game_code", "regex": r"^G\d{10}[A-Z]{3}$"}),
        ("column_values_to_be_between", {"column": "points_winner", "min_value": 0, "max_value": 200}),
        ("column_values_to_be_between", {"column": "attendance", "min_value": 0, "max_value": 30_000}),
        ("column_values_to_be_in_set", {"column": "home_team", "value_set": _TEAMS}),
        ("column_value_lengths_to_be_between", {"column": "arena", "min_value": 5, "max_value": 30}),
        ("column_value_z_scores_to_be_less_than", {"column": "pace", "threshold": 4, "double_sided": True}),
        ("column_mean_to_be_between", {"column": "elo_home", "min_value": 1490, "max_value": 1510}),
        ("column_median_to_be_between", {"column": "pace", "min_value": 90, "max_value": 110}),
        ("column_stdev_to_be_between", {"column": "elo_home", "min_value": 90, "max_value": 110}),
        ("column_quantile_values_to_be_between", {"column": "elo_away", "quantile_ranges": quantiles}),
        ("column_distinct_values_to_be_in_set", {"column": "away_team", "value_set": _TEAMS}),
        ("column_proportion_of_unique_values_to_be_between", {"column": "player_id", "min_value": 0.1}),
        ("column_most_common_value_to_be_in_set", {"column": "status", "value_set": ["final"]}),
        ("column_pair_values_a_to_be_greater_than_b", {"column_A": "points_winner", "column_B": "points_loser"}),
        ("compound_columns_to_be_unique", {"column_list": ["season", "game_number"]}),
        ("multicolumn_sum_to_equal", {"column_list": ["possession_home", "possession_away"], "sum_total": 100}),
    ]
    return [{"type": f"expect_{name}", "kwargs": kwargs} for name, kwargs in asked]
