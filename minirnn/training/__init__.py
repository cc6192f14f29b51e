"""Training: `fit` makes updates and returns their `History`; `evaluate` and `sample` look at what was learnt.

A training loop is a few lines; `fit` adds what one wants every time: the state carried from batch to batch, truncated
BPTT(k1, k2), rows of unequal length, a schedule of the learning rate, the gradient's norm, a look at held-out data, a
bar, a stop at the first loss that is not finite, and Ctrl-C without losing the run. It takes a task as it is.
"""

from minirnn.training import schedules
from minirnn.training.batches import detached
from minirnn.training.evaluation import accuracy, bits_per_character, evaluate, measure, sample
from minirnn.training.fitting import NonFiniteError, every, fit
from minirnn.training.history import History
from minirnn.training.saving import Checkpointing
from minirnn.training.schedules import early_stopping, until_solved

__all__ = [
    "Checkpointing",
    "History",
    "NonFiniteError",
    "accuracy",
    "bits_per_character",
    "detached",
    "early_stopping",
    "evaluate",
    "every",
    "fit",
    "measure",
    "sample",
    "schedules",
    "until_solved",
]
