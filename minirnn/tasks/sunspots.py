"""Sunspots: the next year's number from those of the years before."""

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.tasks.base import Batch, Defaults
from minirnn.tasks.recorded import RecordedTask, missing

FIRST, LAST, FIRST_HELD_OUT = 1700, 2008, 1921
SCALE = 100.0


class SunspotsTask(RecordedTask):
    """Yearly sunspot numbers 1700 … 2008: predict next year's from those of the T years before.

    x (T, N, 1) and y (N, 1) are sunspot numbers divided by 100. The years up to 1920 are the train part; **the held-out
    targets are the 88 years from 1921 on**, which training never sees. (The first of them are predicted from years that
    it has seen, as a forecast would be.)

    Judged by the mean squared error in units of (100 sunspots)². Predicting this year's number again has an error of
    0.0926 over the held-out years, the ``baseline``. Yule's linear autoregression of two years with a constant, fitted
    to the train part by least squares, has 0.0419: to be solved is to be better than that.

    Parameters
    ----------
    T : int
        Years read, 1 … 200.

    Raises
    ------
    ImportError
        Where statsmodels is not installed; it is in the extra ``data``.

    Notes
    -----
    Source: yearly numbers of the National Geophysical Data Center, public domain, as statsmodels ships them. Yule 1927,
    "On a method of investigating periodicities in disturbed series", is where autoregression comes from; the cut at
    1920 is that of Weigend, Huberman & Rumelhart 1990, "Predicting the future: a connectionist approach".
    """

    name = "sunspots"
    description = "predict next year's sunspot number from the years before"
    source = "yearly numbers 1700–2008 as shipped by statsmodels; Yule 1927; Weigend et al. 1990"
    rule = "mean squared error below 0.0419, which Yule's autoregression of two years has"
    metric = "mean squared error, in (100 sunspots)²"
    needs = "statsmodels"
    defaults = Defaults(hidden=16, batch=32, init="orthogonal", max_updates=5_000)
    settings = ("T",)
    input_size, output_size, baseline, goal = 1, 1, 0.0926, 0.0419

    def __init__(self, T: int = 20) -> None:
        self.T = as_size(T, "SunspotsTask: T")
        if T > 200:
            raise ValueError(f"SunspotsTask: T must be at most 200, got {T}: there are 221 years to train on")
        try:
            from statsmodels.datasets import sunspots  # here: only this task needs it
        except ImportError:
            raise missing("SunspotsTask", self.needs) from None
        numbers = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
        series = (numbers / SCALE).astype(np.float32)
        cut = FIRST_HELD_OUT - FIRST
        self._part(self._windows(series[:cut]), self._windows(series[cut - self.T :]))

    def _windows(self, series: Array) -> Batch:
        """Return every T consecutive years as a row of x, and the year after them as y."""
        windows = np.lib.stride_tricks.sliding_window_view(series, self.T + 1).T.copy()
        return windows[:-1, :, None], windows[-1, :, None]
