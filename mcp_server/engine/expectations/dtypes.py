"""Column types under the names that Great Expectations' pandas engine gives them, had pandas read the same values."""

from typing import Final

import numpy as np
import polars as pl

_NATIVE: Final = {"str": "str", "int": "int64", "long": "int64", "Float": "float64"}
_MOMENTS: Final = {"Timestamp", "datetime", "datetime64", "Datetime"}
_DATES: Final = {"date", "Date"}
_PYTHON: Final = {"bool", "int", "long"}  # what a flag is an instance of
_OBJECTS: Final = _PYTHON | {"object", "object_", "O"}


def pandas_name(dtype: pl.DataType, *, has_gaps: bool = False) -> str:
    """Return the type's name, such as `int64`, `float64`, `str`, `bool`, `datetime64`.

    Dates are `str`, as pandas reads them from a file. Whole numbers with gaps are `float64`, flags with gaps
    `object_`: pandas has no room for a gap in them. Text without any value has gaps in this sense, and is `float64`.
    """
    if dtype in (pl.String, pl.Date):
        return "float64" if has_gaps else "str"
    if dtype == pl.Boolean:
        return "object_" if has_gaps else "bool"
    if isinstance(dtype, pl.Datetime):
        return "datetime64"
    if dtype == pl.Null or (has_gaps and dtype.is_integer()):
        return "float64"
    return str(dtype).lower() if dtype.is_integer() or dtype.is_float() else str(dtype.base_type())


def type_matches(dtype: pl.DataType, wanted: str, *, has_gaps: bool = False, listed: bool = False) -> bool:
    """Return True when a column of `dtype` is of the type that `wanted` names.

    Args:
        dtype: the column's type.
        wanted: a name of NumPy's, pandas' or Python's.
        has_gaps: a value of the column is missing.
        listed: `wanted` is a member of a type list. Great Expectations 1.24 finds pandas' text type in no such list.

    Source: Great Expectations 1.24, `_validate_pandas`: NumPy's reading of the name, then Python's own types.
    """
    actual = pandas_name(dtype, has_gaps=has_gaps)
    if isinstance(dtype, pl.Datetime) and wanted in _MOMENTS:
        return True
    if dtype == pl.Date and wanted in _DATES:
        return True
    if actual == "object_":
        return wanted in (_PYTHON if listed else _OBJECTS)
    if actual == "str":
        return wanted == "str" and not listed
    if wanted == actual or _NATIVE.get(wanted) == actual:
        return wanted != "Float" or listed
    try:
        return np.dtype(wanted).type.__name__ == actual
    except (TypeError, ValueError, SyntaxError):
        return False
