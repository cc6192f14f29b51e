"""See inside back-propagation through time: which loss reached which step, through which weights, and how much is left.

`trace` runs a layer and keeps what flows at every step; the rest is made of that. Start with examples/06 and 11.
"""

from minirnn.bptt.credit import Credit, rtrl, truncated_gradient
from minirnn.bptt.diagnosis import Report, doctor
from minirnn.bptt.explaining import Explanation, explain, explanation
from minirnn.bptt.plots import plot_credit, plot_gradient_norms, plot_saturation, plot_singular_values
from minirnn.bptt.regulariser import Omega, omega
from minirnn.bptt.tracing import Trace, trace, training_to_html

__all__ = [
    "Credit",
    "Explanation",
    "Omega",
    "Report",
    "Trace",
    "doctor",
    "explain",
    "explanation",
    "omega",
    "plot_credit",
    "plot_gradient_norms",
    "plot_saturation",
    "plot_singular_values",
    "rtrl",
    "trace",
    "training_to_html",
    "truncated_gradient",
]
