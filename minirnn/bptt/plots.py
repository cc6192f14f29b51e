"""Pictures of a `Trace` with matplotlib, the extra ``plot``; all of them as it is said at `plot_gradient_norms`."""

from typing import Any

import numpy as np

from minirnn.arguments import Array, as_index
from minirnn.bptt.flow import Flow
from minirnn.drawing.axes import axes_for

_TOTAL, _LOCAL, _CARRIED = "#000000", "#0072b2", "#d55e00"
"""Colours that colour-blind people tell apart too (Okabe & Ito 2008)."""


def plot_gradient_norms(trace: Flow, ax: Any = None) -> Any:
    """Draw ‖dL/dh_t‖ against t on a logarithmic axis, with its two parts: entering at t, and carried.

    On the matplotlib Axes ``ax``, or a new figure's, which are returned; ImportError where matplotlib is not installed.
    Steps whose norm is 0 are left out: a logarithmic axis has no place for them.
    """
    ax = axes_for("plot_gradient_norms", ax)
    for label, gradient, colour, style in (
        ("total", trace.dL_dh, _TOTAL, "o-"),
        ("local", trace.dL_dh_local, _LOCAL, "s:"),
        ("carried", trace.dL_dh_carried, _CARRIED, "^--"),
    ):
        norms = _positive(np.sqrt(np.square(gradient).sum(axis=(1, 2))))
        ax.plot(range(trace.T), norms, style, color=colour, markersize=3, label=label)
    ax.set(title=f"{type(trace.layer).__name__}: gradient norm", xlabel="step t", ylabel="‖dL/dh_t‖", yscale="log")
    ax.legend()
    return ax


def plot_credit(trace: Flow, ax: Any = None) -> Any:
    """Draw `Trace.credit` as a heat map on a logarithmic scale: what enters at s, used at k. White: nothing."""
    ax = axes_for("plot_credit", ax)
    from matplotlib.colors import LogNorm

    norms = _positive(trace.credit().norms)
    found = norms[np.isfinite(norms)]
    high = found.max() if found.size else 1.0
    low = max(found.min(), 1e-12 * high) if found.size else 0.1
    scale = LogNorm(low if low < high else high / 10, high)
    image = ax.imshow(norms, norm=scale, cmap="cividis", origin="upper", interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="norm of the gradient of W_hh")
    ax.set(title="credit", xlabel="used at step k", ylabel="entered at step s")
    return ax


def plot_singular_values(trace: Flow, row: int = 0, ax: Any = None) -> Any:
    """Draw the singular values of each step's Jacobian ∂ state_t / ∂ state_{t−1}, of one row, logarithmically.

    ``row`` is which of the N. Where all of them are below 1, every step makes every gradient smaller.
    """
    row = as_index(row, "plot_singular_values: row", "a row", range(trace.N), f"there are N={trace.N}")
    ax = axes_for("plot_singular_values", ax)
    back = 1 if trace.layer.reverse else -1
    values = np.stack([trace.singular_values(t, t + back)[row] for t in range(trace.T)])
    ax.plot(range(trace.T), _positive(values), color=_LOCAL, linewidth=0.8, alpha=0.7)
    ax.axhline(1.0, color=_TOTAL, linewidth=1)
    ax.set(title=f"singular values, row {row}", xlabel="step t", ylabel="σ of ∂state_t/∂state_{t−1}", yscale="log")
    return ax


def plot_saturation(trace: Flow, ax: Any = None) -> Any:
    """Draw the share of saturated units against t, a line for each gate; see `Trace.saturation`."""
    shares = trace.saturation
    ax = axes_for("plot_saturation", ax)
    for name, share, style in zip(trace.gates, shares.T, ("-", "--", ":", "-."), strict=False):
        ax.plot(range(trace.T), 100 * share, style, label=name)
    ax.set(title="saturated units", xlabel="step t", ylabel="%", ylim=(-2, 102))
    ax.legend(title="gate")
    return ax


def _positive(a: Array) -> Array:
    """Return an array with NaN where a logarithmic axis has no place."""
    return np.where(a > 0, a, np.nan)
