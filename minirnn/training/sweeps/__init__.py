"""Sweeps: settings × seeds on one process, all cores or a cluster, resumed after anything, nothing lost.

`sweep` runs a function of one's own on every trial. dask says where, Optuna, if it is asked, what; the order of
reading is settings (who a trial is), trial, running (one of them), engine, study, results, sweeping (all of them).
"""

from minirnn.training.sweeps.engine import EngineError
from minirnn.training.sweeps.results import Results
from minirnn.training.sweeps.settings import Between, OneOf
from minirnn.training.sweeps.sweeping import sweep
from minirnn.training.sweeps.trial import Result, Trial

__all__ = ["Between", "EngineError", "OneOf", "Result", "Results", "Trial", "sweep"]
