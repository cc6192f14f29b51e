"""`doctor`: what is wrong with a recurrent layer, in plain language, each sentence with the figures behind it."""

import json
import math
import textwrap
from typing import Any, NamedTuple

import numpy as np

from minirnn.arguments import as_size, describe
from minirnn.bptt.findings import ADVICE, FINDINGS, Finding, said
from minirnn.bptt.flow import flow_of
from minirnn.bptt.measures import EXPLODED, Figures, measure
from minirnn.bptt.run import Loss
from minirnn.bptt.training_record import IN_TRAINING, Record, advise_training, measure_training

VANISHED = 0.25
"""Vanishing: less of the gradient is carried on than this, two half-lives within one sequence."""
SATURATED = 0.5
"""Saturated: of the units that write into the state (h, g of an LSTM, n of a GRU) so many are, the better part."""
OFF = 0.9
"""Dead: ReLU is off at so many of all steps, rows and units. In a healthy layer it is about half."""

VERDICTS = {
    "not finite": "NaN or inf turned up",
    "dead": "nearly all rectifiers are off",
    "no gradient": "no gradient enters the layer at all",
    "exploding": "the gradient grows on its way back",
    "saturated": "most units stand where φ is flat",
    "vanishing": "the gradient shrinks on its way back",
    "too short": "there is no step to go back through",
    "healthy": "the gradient gets through",
}
"""Every verdict, and what it means. Where several would fit, the first of them is given."""


class Report(NamedTuple):
    """What `doctor` found, as sentences: what was measured, and what to try; ``str(report)`` is for a terminal.

    ``verdict`` is a key of `VERDICTS`. A Finding has its ``text`` and the names of the ``figures`` that stand in it.
    """

    verdict: str
    figures: Figures
    findings: list[Finding]
    advice: list[Finding]

    def __str__(self) -> str:
        parts = [f"verdict: {self.verdict} ({VERDICTS[self.verdict]})", "", *_items(self.findings)]
        if self.advice:
            parts += ["", "what to try", "", *_items(self.advice)]
        return "\n".join(parts)

    def __repr__(self) -> str:
        return f"<Report: {self.verdict}, {len(self.figures)} figures>"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain dicts, lists, strings and numbers; None stands for what is NaN or inf."""
        return {
            "verdict": self.verdict,
            "meaning": VERDICTS[self.verdict],
            "figures": _plain(self.figures),
            "findings": [_plain(f._asdict()) for f in self.findings],
            "advice": [_plain(f._asdict()) for f in self.advice],
        }

    def to_json(self) -> str:
        """Return `to_dict` as strict JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)


def doctor(
    model_or_trace: Any,
    x: Any = None,
    loss: Loss | None = None,
    initial_state: Any = None,
    lengths: Any = None,
    *,
    history: Record | None = None,
    delay: int | None = None,
) -> Report:
    """Examine how gradients flow back through a layer, and say in plain language what is wrong and what to try.

    Parameters
    ----------
    model_or_trace, x, loss, initial_state, lengths
        A Trace alone, or a model with x, loss and the rest, which `trace` takes, and whose errors these are.
    history : History, optional
        Of the training that made the layer what it is, as `fit` returns it. It adds figures and sentences on the
        gradient's norm over the updates and on clipping; the verdict is that on the trace.
    delay : int, optional
        How many steps back the task asks the gradient to reach, such as `minirnn.tasks.EchoTask.delay`: the way back
        is judged over these. A layer that has learnt to forget what nobody asks for is in good health. By default it
        is judged over all steps there are.

    Returns
    -------
    Report
        Its ``figures``, as far as there are any:

        - ``gradient_norms`` (T,): ‖dL/dh_t‖ over all rows and neurons, in time order; ``underflows``: at how many
          steps it is 0 only because the dtype has no number so small;
        - ``enters``: at how many steps a gradient enters; ``enters_at``: the last of them, if all rows share it;
        - ``left``: the factor by which that one gradient is multiplied on its way back, over ``steps_back`` steps, at
          most ``delay`` if that is given;
          ``first_factor``: that of its first step back, in which it loses what falls on units that are off, or, in an
          LSTM, what does not get into c; ``carried``: that of all other steps, by which it is judged; ``rate``: their
          geometric mean; ``half_life`` = ln 2 / −ln rate in steps, or ``doubling_time`` = ln 2 / ln rate; ``reach``:
          the steps after which a hundredth is left, ln 0.01 / ln rate;
        - ``spectral_radius``, ``spectral_norm``: ρ and σ₁ of W_hh, of a gated cell by gate; ``largest_slope``: max φ′;
          ``step_bound``: σ₁ · max φ′, above which no step multiplies a gradient (with recurrent_dropout it has the
          factor ``largest_mask`` too); ``mean_slope``: φ′ on average; ``identity``: whether W_hh = I;
        - ``saturation``: the share of units by gate, see `Trace.saturation`; for ReLU ``off``, the share of steps, rows
          and units, and ``dead_units``, those that are off throughout; ``kept``: the mean of the gate ``kept_by``,
          such as an LSTM's f or a GRU's z, whose block is ``kept_at``, and whose bias starts at ``kept_start``;
        - ``parameter_gradient_norm``: √Σ g² over the layer's parameters; ``clip``: the suggested threshold, between
          ``clip_from`` and ``clip_to``; in an exploding layer the ``clip_step_norm`` of ``clip_step``;
        - ``mean_pre_activation``: mean |z_t|, and those of its terms: ``mean_input_term`` of X_t W_xh, ``mean_bias`` of
          b_h, ``mean_recurrent_term`` of the rest; ``largest_input``: max |x_t|;
        - ``not_finite``: the ``pass`` (given, forward, loss, backward), ``what``, ``step`` and ``value`` (NaN, inf) of
          the first that is computed; ``message_clip``, ``loss``, ``layer``, ``states``, ``dtype``, ``T``, ``N``, ``H``.

        With a history of so many ``updates`` further, "first" and "last" of a tenth of them, norms before clipping:

        - ``loss_first``, ``loss_last``, ``gradient_norm_first``, ``gradient_norm_last``: medians;
          ``gradient_norm_drift``: last over first; ``gradient_norm_mean``, ``gradient_norm_median``: over all;
        - ``gradient_norm_largest``, at the update ``largest_at``, from 1; ``spike``: how many times the median it is;
        - ``clip_norm``, if there was one; ``clip_ratio``: clip_norm over the mean norm; ``clipped_share``,
          ``clipped_share_last``: the share of updates whose norm was above it.

    Notes
    -----
    What is measured is measured of this batch and these weights. That a gradient vanishes where σ₁ · max φ′ < 1 is a
    theorem (Pascanu, Mikolov & Bengio 2013, section 2.1), that it may explode only where it is > 1 is another; what ρ
    and the mean of a gate say is a rule of thumb, and is called one.

    >>> import minirnn as mr
    >>> layer = mr.RecurrentLayer(3, 8, recurrent_initializer=mr.init.spectral(0.3), rng=0)
    >>> x = np.random.default_rng(1).normal(size=(20, 4, 3))
    >>> report = mr.bptt.doctor(layer, x, lambda outputs: (outputs[-1] ** 2).sum())
    >>> report
    <Report: vanishing, ...>
    >>> round(report.figures["half_life"], 2)  # steps
    0.43
    """
    if history is not None and not isinstance(history, Record):
        raise TypeError(f"doctor: history must be a History, got {describe(history)}: pass what fit returned")
    steps = None if delay is None else as_size(delay, "doctor: delay")
    with np.errstate(all="ignore"):  # what overflows is told in the report
        figures = measure(flow_of(model_or_trace, x, loss, initial_state, lengths, "doctor"), steps)
    verdict = judge(figures)
    findings, advice = FINDINGS, ADVICE[verdict]
    if history is not None:
        figures |= measure_training(history)
        findings, advice = (*findings, *IN_TRAINING), (*advice, advise_training)
    return Report(verdict, figures, [*said(findings, figures)], [*said(advice, figures)])


def judge(figures: Figures) -> str:
    """Return the verdict on these figures: the first that fits, in the order of `VERDICTS`."""
    carried, saturation = figures.get("carried", 1.0), figures.get("saturation", {})
    fits = {
        "not finite": "not_finite" in figures,
        "dead": figures.get("off", 0.0) >= OFF,
        "no gradient": not figures["enters"],
        "exploding": carried > EXPLODED,
        "saturated": max(saturation.get(gate, 0.0) for gate in ("h", "g", "n")) >= SATURATED,
        "vanishing": carried < VANISHED,
        "too short": "carried" not in figures,
        "healthy": True,
    }
    return next(verdict for verdict in VERDICTS if fits[verdict])


def _items(findings: list[Finding]) -> list[str]:
    return [textwrap.fill(f.text, 80, initial_indent="- ", subsequent_indent="  ") for f in findings]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
