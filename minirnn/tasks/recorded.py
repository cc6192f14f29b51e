"""Tasks whose sequences were recorded, not drawn: a train part to draw rows from, and a held-out part."""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minirnn.arguments import Array, as_size
from minirnn.tasks.base import Batch, Defaults, Ids, SequenceTask, TimeMajor


class RecordedTask(SequenceTask):
    """A task with two parts, ``train`` and ``held_out``: tuples of arrays (x, y) or (x, y, lengths), read-only.

    ``batch`` and ``batches`` draw rows of the train part, with replacement, so that any N will do;
    ``evaluation_batch(N)`` gives the first N rows of the held-out part, all of them if there are no more: there is only
    one, so that its seed is checked and not used. A subclass says where the rows are from, and how they are parted;
    ImportError where a package that it ``needs``, of the extra ``data``, is not installed.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    train: Batch
    held_out: Batch

    def __repr__(self) -> str:
        shown = "".join(f"{name}={getattr(self, name)!r}, " for name in self.settings)
        return f"<{type(self).__name__}: {shown}{rows(self.train)} to train on, {rows(self.held_out)} held out>"

    def _draw(self, N: int, rng: np.random.Generator) -> Batch:
        return take(self.train, rng.integers(rows(self.train), size=N))

    def _draw_held_out(self, N: int, seed: int) -> Batch:
        return take(self.held_out, np.arange(min(N, rows(self.held_out))))


def rows(part: Batch) -> int:
    """Count the rows of a part."""
    return int(part[0].shape[1])


def take(part: Batch, chosen: Ids) -> Batch:
    """Take some rows of a part, as new arrays; those of unequal length are cut at the longest of them."""
    x, y, *lengths = part
    if getattr(part, "every_step", False):
        return TimeMajor((x[:, chosen], y[:, chosen]))
    x, others = x[:, chosen], [array[chosen] for array in (y, *lengths)]
    return TimeMajor((x[: others[1].max()] if lengths else x, *others))


def package_folder(packages: tuple[str, ...], task: str, needs: str | None) -> Path:
    """Find the folder of the first of these packages that is installed, without importing it."""
    for name in packages:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            return Path(found.submodule_search_locations[0])
    raise _missing(task, needs)


def _imported(module: str, task: str, needs: str | None) -> Any:
    """Import a module with data, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise _missing(task, needs) from None


def _missing(task: str, needs: str | None) -> ImportError:
    return ImportError(f'{task}: its data are part of {needs}, which is not installed: try pip install "minirnn[data]"')


class DigitsTask(
    RecordedTask,
    name="digits",
    description="tell handwritten digits apart, read in 8 rows or in 64 single pixels",
    source="Alpaydin & Kaynak 1998, as shipped by scikit-learn",
    rule="fewer than 5 % of the 359 held-out images wrong (always saying 0: 92 %)",
    metric="share of images wrong",
    kind="classification",
    needs="scikit-learn",
    defaults=Defaults(hidden=64, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=8,
    output_size=10,
    baseline=331 / 359,
    goal=0.05,
):
    """1,797 images of handwritten digits, 8 × 8 pixels: tell the digit.

    An image is read in 8 steps, a row of 8 pixels each, or in 64 steps of one pixel, row by row. x (steps, N, 64/steps)
    is the brightness from 0 to 1; y (N,) is the digit.

    Judged by the share of images wrong among the 359 held out, a fifth: the first of a permutation drawn with seed 0.
    The same people may have written in both parts. Always saying 0, the most frequent digit of the train part, is wrong
    in 331 of 359, the ``baseline``.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI machine learning repository: the
    test part, as scikit-learn ships it. Pixel by pixel, after Le, Jaitly & Hinton 2015, who read the 784 pixels of
    larger images.
    """

    settings = ("steps",)

    def __init__(self, steps: int = 8) -> None:
        self.steps = as_size(steps, "DigitsTask: steps", 8)
        if steps not in (8, 64):
            raise ValueError(f"DigitsTask: steps must be 8, a row each, or 64, a pixel each, got {steps}")
        images, digits = _imported("sklearn.datasets", "DigitsTask", self.needs).load_digits(return_X_y=True)
        self.input_size = 64 // self.steps
        x = (images / 16).astype(np.float32).reshape(1797, self.steps, self.input_size).swapaxes(0, 1)
        held_out, train = np.split(np.random.default_rng(0).permutation(1797), [359])
        images, digits = x, digits.astype(np.int64)
        self._keep(train=take((images, digits), train), held_out=take((images, digits), held_out))


class SunspotsTask(
    RecordedTask,
    name="sunspots",
    description="predict next year's sunspot number from the years before",
    source="yearly numbers 1700–2008 as shipped by statsmodels; Yule 1927; Weigend et al. 1990",
    rule="mean squared error below 0.0419, which Yule's autoregression of two years has",
    metric="mean squared error, in (100 sunspots)²",
    needs="statsmodels",
    defaults=Defaults(hidden=16, batch=32, init="orthogonal", max_updates=5_000),
    input_size=1,
    output_size=1,
    baseline=0.0926,
    goal=0.0419,
):
    """Yearly sunspot numbers 1700 … 2008: predict next year's from those of the T years before.

    x (T, N, 1) and y (N, 1) are sunspot numbers divided by 100. The years up to 1920 are the train part; **the held-out
    targets are the 88 years from 1921 on**, which training never sees. (The first of them are predicted from years that
    it has seen, as a forecast would be.)

    Judged by the mean squared error in units of (100 sunspots)². Predicting this year's number again has an error of
    0.0926 over the held-out years, the ``baseline``. Yule's linear autoregression of two years with a constant, fitted
    to the train part by least squares, has 0.0419: to be solved is to be better than that.

    Source: yearly numbers of the National Geophysical Data Center, public domain, as statsmodels ships them. Yule 1927,
    "On a method of investigating periodicities in disturbed series", is where autoregression comes from; the cut at
    1920 is that of Weigend, Huberman & Rumelhart 1990, "Predicting the future: a connectionist approach". T is 1 … 200.
    """

    settings = ("T",)

    def __init__(self, T: int = 20) -> None:
        self.T = as_size(T, "SunspotsTask: T")
        if T > 200:
            raise ValueError(f"SunspotsTask: T must be at most 200, got {T}: there are 221 years to train on")
        yearly = _imported("statsmodels.datasets", "SunspotsTask", self.needs).sunspots.load_pandas().data
        series = (yearly["SUNACTIVITY"].to_numpy() / 100).astype(np.float32)
        cut = 1921 - 1700  # the first year that is held out, and the first of all
        self._keep(train=self._windows(series[:cut]), held_out=self._windows(series[cut - self.T :]))

    def _windows(self, series: Array) -> Batch:
        """Make every T consecutive years a row of x, and the year after them y."""
        windows = np.lib.stride_tricks.sliding_window_view(series, self.T + 1).T.copy()
        return TimeMajor((windows[:-1, :, None], windows[-1, :, None]))


class VowelsTask(
    RecordedTask,
    name="vowels",
    description="tell nine speakers apart by utterances of 7 to 29 steps",
    source="Kudo, Toyama & Shimbo 1999, as shipped by sktime",
    rule="fewer than 5 % of the 370 held-out utterances wrong (always the same speaker: 76 %)",
    metric="share of utterances wrong",
    kind="classification",
    needs="sktime",
    defaults=Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000),
    input_size=12,
    output_size=9,
    baseline=282 / 370,
    goal=0.05,
):
    """640 utterances of two Japanese vowels, by nine men: tell who is speaking.

    x (29 or fewer, N, 12) are the coefficients of a linear prediction analysis, each less its mean and divided by its
    standard deviation over the steps of the train part; rows are 7 to 29 steps long. y (N,) is the speaker, 0 … 8.

    The train part has 30 utterances of each speaker, 270; the 370 held out are the data's own test part. Judged by the
    share of utterances wrong. All speakers are equally frequent in the train part; always naming the one who speaks
    most in the held-out part is wrong in 282 of 370, the ``baseline``.

    Source: Kudo, Toyama & Shimbo 1999, "Multidimensional curve classification using passing-through regions": a file of
    sktime or aeon, neither of which is imported.
    """

    def __init__(self) -> None:
        # Both packages ship the same two files at the same place.
        package = package_folder(("sktime", "aeon"), "VowelsTask", self.needs)
        parts = [
            read_ts(package / f"datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST")
        ]
        steps = [np.concatenate(sequences) for sequences, _ in parts]
        mean, deviation = steps[0].mean(axis=0), steps[0].std(axis=0)
        train, held_out = (pad((each - mean) / deviation, *part) for each, part in zip(steps, parts, strict=True))
        self._keep(train=train, held_out=held_out)


def read_ts(path: Path) -> tuple[list[Array], Ids]:
    """Read a ``.ts`` file: sequences, float64 (L, D) each, and their classes, counted from 0.

    After the line ``@data`` a line is a sequence: its channels are separated by colons, the last field is the class,
    counted from 1, and the steps of a channel are separated by commas.
    """
    fields = [line.split(":") for line in path.read_text(encoding="utf-8").split("@data", 1)[1].split()]
    sequences = [np.array([channel.split(",") for channel in channels], float).T for *channels, _ in fields]
    return sequences, np.array([int(number) - 1 for *_, number in fields])


def pad(steps: Array, sequences: list[Array], classes: Ids) -> Batch:
    """Cut all the steps, one after the other, as the sequences are, and put them side by side, 0 past their ends."""
    lengths = np.array([len(sequence) for sequence in sequences])
    x = np.zeros((lengths.max(), len(lengths), steps.shape[1]), np.float32)
    for n, part in enumerate(np.split(steps, lengths.cumsum()[:-1])):
        x[: len(part), n] = part
    return TimeMajor((x, classes, lengths))
