"""Training: `fit` makes updates and returns their `History`; `evaluate` and `sample` look at what was learnt.

A training loop is a few lines; `fit` adds what one wants every time: the state carried from batch to batch, truncated
BPTT(k1, k2), rows of unequal length, a schedule of the learning rate, the gradient's norm, a look at held-out data, a
bar, a stop at the first loss that is not finite, and Ctrl-C without losing the run. It takes a task as it is. `sweep`
makes many trainings, of settings × seeds.
"""

from minirnn.training import schedules
from minirnn.training.batches import detached
from minirnn.training.evaluation import accuracy, bits_per_character, evaluate, measure, sample
from minirnn.training.fitting import every, fit
from minirnn.training.history import History
from minirnn.training.predicting import forecast, predict
from minirnn.training.saving import Checkpointing
from minirnn.training.schedules import early_stopping, until_solved
from minirnn.training.sweeps import Between, EngineError, OneOf, Trial, sweep
from minirnn.training.updating import NonFiniteError
from minirnn.training.vectors import gradient_vector, parameters_to_vector, vector_to_parameters

__all__ = [
    "Between",
    "Checkpointing",
    "EngineError",
    "History",
    "NonFiniteError",
    "OneOf",
    "Trial",
    "accuracy",
    "bits_per_character",
    "detached",
    "early_stopping",
    "evaluate",
    "every",
    "fit",
    "forecast",
    "gradient_vector",
    "measure",
    "parameters_to_vector",
    "predict",
    "sample",
    "schedules",
    "sweep",
    "until_solved",
    "vector_to_parameters",
]
