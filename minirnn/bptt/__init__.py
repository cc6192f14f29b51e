"""See inside back-propagation through time: which loss reached which step, through which weights, and how much is left.

`trace` runs a layer and keeps what flows at every step; the rest is made of that.
"""

from minirnn.bptt.credit import Credit
from minirnn.bptt.gradients import rtrl, truncated_gradient
from minirnn.bptt.tracing import Trace, trace

__all__ = ["Credit", "Trace", "rtrl", "trace", "truncated_gradient"]
