"""How far a child process is with reading, told to its parent through a small file: the fraction, as text."""

import contextlib
import time
from pathlib import Path
from typing import Final

_EVERY_S: Final = 0.2


class Told:
    """The child's side. Without a path it tells nobody."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._next_s = 0.0

    def __call__(self, fraction: float) -> None:
        """Tell that `fraction`, from 0 to 1, is done; now and then."""
        if self._path is None or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _EVERY_S
        with contextlib.suppress(OSError):  # a full disk shows where it matters
            self._path.write_text(f"{fraction:.4f}")


def heard(path: Path) -> float | None:
    """Return the fraction that was told last, None while there is none."""
    try:
        return min(1.0, max(0.0, float(path.read_text())))
    except (OSError, ValueError):
        return None
