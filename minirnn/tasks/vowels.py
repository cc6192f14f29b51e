"""Japanese vowels: who is speaking, from utterances of unequal length."""

from pathlib import Path

import numpy as np

from minirnn.arguments import Array
from minirnn.tasks.base import Batch, Defaults, Ids
from minirnn.tasks.recorded import RecordedTask, package_folder, standardised

PACKAGES = ("sktime", "aeon")
"""Packages that ship the same two files at the same place."""


class VowelsTask(RecordedTask):
    """640 utterances of two Japanese vowels, by nine men: tell who is speaking.

    x (29 or fewer, N, 12) are the coefficients of a linear prediction analysis, each less its mean and divided by its
    standard deviation over the steps of the train part; rows are 7 to 29 steps long. y (N,) is the speaker, 0 … 8.

    The train part has 30 utterances of each speaker, 270; the 370 held out are the data's own test part. Judged by the
    share of utterances wrong. All speakers are equally frequent in the train part; always naming the one who speaks
    most in the held-out part is wrong in 282 of 370, the ``baseline``.

    Raises
    ------
    ImportError
        Where neither sktime, which is in the extra ``data``, nor aeon is installed. Only a file of theirs is read;
        neither is imported.

    Notes
    -----
    Source: Kudo, Toyama & Shimbo 1999, "Multidimensional curve classification using passing-through regions".
    """

    name = "vowels"
    description = "tell nine speakers apart by utterances of 7 to 29 steps"
    source = "Kudo, Toyama & Shimbo 1999, as shipped by sktime"
    rule = "fewer than 5 % of the 370 held-out utterances wrong (always the same speaker: 76 %)"
    metric = "share of utterances wrong"
    kind = "classification"
    needs = "sktime"
    defaults = Defaults(cell="gru", hidden=32, batch=32, init="orthogonal", lr=3e-3, max_updates=5_000)
    input_size, output_size, baseline, goal = 12, 9, 282 / 370, 0.05

    def __init__(self) -> None:
        folder = package_folder(PACKAGES, "VowelsTask", self.needs) / "datasets" / "data" / "JapaneseVowels"
        train, held_out = (read_ts(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
        steps = standardised(np.concatenate(train[0]), np.concatenate(held_out[0]), axis=0)
        self._part(*(pad(all_steps, *part) for all_steps, part in zip(steps, (train, held_out), strict=True)))


def read_ts(path: Path) -> tuple[list[Array], Ids]:
    """Read a ``.ts`` file: sequences, float64 (L, D) each, and their classes, counted from 0.

    After the line ``@data`` a line is a sequence: its channels are separated by colons, the last field is the class,
    counted from 1, and the steps of a channel are separated by commas.
    """
    lines = path.read_text(encoding="utf-8").split("@data", 1)[1].split()
    fields = [line.split(":") for line in lines]
    sequences = [np.array([channel.split(",") for channel in channels], float).T for *channels, _ in fields]
    return sequences, np.array([int(number) - 1 for *_, number in fields])


def pad(steps: Array, sequences: list[Array], classes: Ids) -> Batch:
    """Cut all the steps, one after the other, as the sequences are, and put them side by side, 0 past their ends."""
    lengths = np.array([len(sequence) for sequence in sequences])
    x = np.zeros((lengths.max(), len(lengths), steps.shape[1]), np.float32)
    for n, part in enumerate(np.split(steps, lengths.cumsum()[:-1])):
        x[: len(part), n] = part
    return x, classes, lengths
