"""Write back-propagation through time yourself, and be told which mistake you made.

`EXERCISES` has the exercises in order; ``print(EXERCISES["bptt"])`` shows a stub with shapes in letters, the equation
and its source, and ``EXERCISES["bptt"].hints`` has three hints. `check` says whether a function of yours is right, and
where it is not, which of the mistakes that people make it has. On the command line: ``minirnn exercise``.
"""

from minirnn.exercises.checking import check
from minirnn.exercises.result import Result
from minirnn.exercises.texts import EXERCISES, MISTAKES, Exercise

__all__ = ["EXERCISES", "MISTAKES", "Exercise", "Result", "check"]
