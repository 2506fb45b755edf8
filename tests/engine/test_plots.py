"""Every plot is a PNG of at most 200 KB, whatever the data holds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest

from mcp_server.engine import plots

RNG = np.random.default_rng(7)
NAMES = ["$\\frac{1} & $x^", "_中文 \u202e😀", "x" * 300]

Draw = Callable[[str], bytes]
PLOTS: dict[str, Draw] = {
    "histogram": lambda name: plots.histogram(RNG.normal(size=5000), title=name, label=name),
    "bar_chart": lambda name: plots.bar_chart([name, "b"], [1, -2], title=name, errors=[0.1, 0.2], value_label=name),
    "heatmap": lambda name: plots.heatmap(
        [[1, np.nan], [-0.5, 0.2]], [name, "b"], ["a", name], title=name, diverging=True
    ),
}
EMPTY: dict[str, Callable[[], bytes]] = {
    "histogram": lambda: plots.histogram([], title="t"),
    "histogram of nothing finite": lambda: plots.histogram([np.nan, np.inf], title="t"),
    "bar_chart": lambda: plots.bar_chart([], [], title="t"),
    "heatmap": lambda: plots.heatmap([[np.nan]], ["a"], ["b"], title="t"),
}


def is_small_png(data: bytes) -> bool:
    height, width = matplotlib.image.imread(BytesIO(data)).shape[:2]
    return len(data) <= plots.MAX_BYTES and width > 300 and height > 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("plot", PLOTS)
def test_plot_is_a_small_png_whatever_its_names_hold(plot: str, name: str) -> None:
    assert is_small_png(PLOTS[plot](name))


@pytest.mark.parametrize("plot", EMPTY)
def test_plot_without_values_still_draws(plot: str) -> None:
    assert is_small_png(EMPTY[plot]())


def test_one_constant_value_is_drawn() -> None:
    assert is_small_png(plots.histogram([3.0] * 10, title="t"))
    assert is_small_png(plots.heatmap([[0.0]], ["a"], ["b"], title="t"))


def test_large_inputs_stay_below_the_limit() -> None:
    noise = RNG.uniform(size=(60, 60))
    labels = [f"column {i}" for i in range(60)]
    assert is_small_png(plots.heatmap(noise, labels, labels, title="t"))
    assert is_small_png(plots.bar_chart([str(i) for i in range(500)], np.arange(500), title="t"))


def test_the_same_data_gives_the_same_bytes() -> None:
    values = np.arange(50)
    assert plots.histogram(values, title="t") == plots.histogram(values, title="t")


def test_threads_draw_at_once() -> None:
    alone = plots.histogram(np.arange(50), title="t")
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: plots.histogram(np.arange(50), title="t"), range(12)))
    assert drawn == [alone] * 12
