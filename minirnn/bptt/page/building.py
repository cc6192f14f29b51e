"""Putting the page together: the text, the style, the scripts and the numbers, in one file."""

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from minirnn.arguments import Array, as_unicode
from minirnn.bptt.flow import Flow
from minirnn.bptt.page.numbers import STEPS, collect
from minirnn.bptt.page.training import collect_training

SCRIPTS = (
    "format.js", "data.js", "colours.js", "state.js", "network.js", "arrows.js", "pictures.js", "credit.js",
    "charts.js", "equation.js", "controls.js", "run.js", "main.js",
)  # fmt: skip
"""In the order in which they need one another."""

HEIGHT = 900
"""Of the frame in a notebook, in CSS pixels."""


def page_of(trace: Flow, title: str | None, caller: str) -> str:
    """Return the page of a trace, a whole HTML document; ValueError for more than `STEPS` steps."""
    if trace.T > STEPS:
        raise ValueError(f"{caller}: {_too_long(trace)}")
    title = _title(trace, title)
    return _document(title, collect(trace, title))


def page_of_training(traces: Mapping[int, Flow], loss: Array, grad_norm: Array, title: str | None, caller: str) -> str:
    """Return the page of traces by their update, with the curves (K,) of their training; ValueError as `page_of`."""
    longest = max(traces.values(), key=lambda trace: trace.T)
    if longest.T > STEPS:
        raise ValueError(f"{caller}: {_too_long(longest)}")
    title = _title(longest, title)
    return _document(title, collect_training(traces, loss, grad_norm, title))


def _title(trace: Flow, title: str | None) -> str:
    return f"{type(trace.layer).__name__}, T={trace.T}" if title is None else as_unicode(str(title))


def _document(title: str, found: Any) -> str:
    data = json.dumps(found, allow_nan=False, separators=(",", ":"))  # strict: no NaN
    script = "\n".join(f"// --- {name}\n{_read(name)}" for name in SCRIPTS)
    parts = {
        "title": html.escape(title),
        "style": _read("page.css"),
        "script": f'(() => {{\n"use strict";\n{script}\n}})();',
        "data": data.replace("<", "\\u003c"),  # in a script element nothing may end it
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read("page.html"))  # braces in the parts stay


def frame_of(trace: Flow) -> str:
    """Return the page in a frame, so that its style and names meet nobody else's; or why there is none."""
    if trace.T > STEPS:
        return f"<p>{html.escape(f'{trace!r}: {_too_long(trace)}')}</p>"
    return (
        f'<iframe srcdoc="{html.escape(page_of(trace, None, "trace"))}" sandbox="allow-scripts" '
        f'title="minirnn: back-propagation through time" style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )


def _too_long(trace: Flow) -> str:
    return f"the page shows at most {STEPS} steps, got T={trace.T}: trace a shorter piece of the sequence"


def _read(name: str) -> str:
    return (resources.files("minirnn.bptt.page") / name).read_text(encoding="utf-8")
