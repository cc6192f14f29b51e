"""``minirnn forecast PATH``: let a model of a series, which ``minirnn train csv`` saved, go on with it by itself."""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.cli.options import AS_JSON, COLUMNS, Options, add_parser, check_writable, expanded, line_on, number
from minirnn.cli.saved import SAVED, Saved, load, same_series
from minirnn.cli.train import counted
from minirnn.drawing.axes import matplotlib_for
from minirnn.drawing.charts import curve
from minirnn.layers.threads import set_num_threads
from minirnn.tasks import SeriesTask
from minirnn.training import forecast

WIDTH, HEIGHT = 64, 12
"""Of a chart, in characters."""
BEFORE = 30
"""Steps of the series that are shown at least; as many as are forecast, if those are more."""


def add_command(commands: Any) -> None:
    """Add ``forecast`` to the command line."""
    options: Options = {
        "--steps": number("K", "steps to forecast", 50),
        "--out": {"type": expanded, "metavar": "PATH", "help": "write the forecast there, as a CSV file"},
        "--plot": {
            "type": expanded,
            "metavar": "PATH",
            "help": "draw it there, such as forecast.png; needs matplotlib",
        },
        "--json": AS_JSON,
    }
    add_parser(
        commands,
        "forecast",
        run,
        SAVED | options,
        help="let a saved model of a series go on with it",
        description="Read a series, all of it, and let a model that minirnn train csv saved go on: each prediction is "
        "its next input. Exit status: 0, or 2 for an error.",
        epilog="example: minirnn forecast model.npz --steps 50 --file newer.csv --plot forecast.png",
    )


def run(arguments: argparse.Namespace) -> int:
    """Forecast, write what is to be written, and print; return 0."""
    for option in ("out", "plot"):
        check_writable(f"--{option}", getattr(arguments, option))
    figure = _figure(arguments.plot) if arguments.plot else None
    file, encoding = arguments.file, arguments.encoding
    saved = load(arguments.path, file=file, encoding=encoding, T=1, only=SeriesTask, caller="forecast")
    set_num_threads(saved.arguments.threads)
    task, steps = saved.task, arguments.steps
    values = task.units.inverse(forecast(saved.model, task.units(task.values), steps).astype(np.float64))
    if not (finite := np.isfinite(values).all(axis=1)).all():
        raise ValueError(
            f"forecast: the predictions must be finite, got none from step {finite.argmin() + 1} on: the model does "
            "not come to rest when it reads its own; train it longer, or with a smaller --lr"
        )
    if arguments.out:
        np.savetxt(arguments.out, values, "%.9g", ",", header=_header(task.columns), comments="", encoding="utf-8")
    if figure:
        _draw(figure, task, values)
        figure.savefig(arguments.plot)
    written = {name: path for name in ("out", "plot") if (path := getattr(arguments, name))}
    print((_json if arguments.json else _text)(saved, values, written))
    return 0


def _header(columns: tuple[str, ...]) -> str:
    """Write the line of names, as a CSV file has it."""
    quoted = ('"' + name.replace('"', '""') + '"' if any(c in name for c in '",;\t|\n') else name for name in columns)
    return ",".join(quoted)


def _json(saved: Saved, values: Array, written: dict[str, Path]) -> str:
    task = saved.task
    head = {"path": str(saved.checkpoint.path), "read": len(task.values), "same_series": same_series(saved)}
    columns = {"forecast": dict(zip(task.columns, values.T.tolist(), strict=True))}
    named = {name: str(path) for name, path in written.items()}
    return json.dumps(head | {"steps": len(values)} | columns | named, indent=1, ensure_ascii=False)


def _text(saved: Saved, values: Array, written: dict[str, Path]) -> str:
    task, S = saved.task, len(saved.task.values)
    where = "the default series" if saved.arguments.file is None else repr(saved.arguments.file)
    since = "" if same_series(saved) else ", which is not as it was at the training"
    head = f"read {counted(S, 'step')} of {where}{since}; {counted(len(values), 'step')} of forecast"
    line = f"csv: {line_on(saved.arguments, saved.model)}, {saved.after}"
    charts = [_chart(name, task.values[:, d], values[:, d]) for d, name in enumerate(task.columns)]
    names = [name if name.isprintable() else repr(name) for name in task.columns]
    widths = [max(len(name), 12) for name in names]
    rows = [["step", *names], *([str(S + 1 + k), *(f"{value:.6g}" for value in row)] for k, row in enumerate(values))]
    table = [
        "  ".join([f"{row[0]:>7}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))])
        for row in rows
    ]
    wrapped = [textwrap.fill(part, COLUMNS, subsequent_indent="  ") for part in (line, head)]
    return "\n".join(
        [
            *wrapped,
            *(f"\n{chart}" for chart in charts),
            "",
            *table,
            *(f"\nwritten: {path}" for path in written.values()),
        ]
    )


def _chart(name: str, known: Array, values: Array) -> str:
    """Draw the last steps of a column and its forecast; below the axis stands where that begins."""
    shown = known[-max(len(values), BEFORE) :]
    joined = np.concatenate([shown, values])
    ends = (f"step {len(known) - len(shown) + 1}", f"{len(known) + len(values)}")
    lines = curve(joined, WIDTH, HEIGHT, f"{name}, and its forecast", ends=ends, unit="steps").splitlines()
    axis = lines[-2]
    first = axis.index("└") + 1
    at = first + round(len(shown) / len(joined) * (len(axis) - first))
    lines[-2] = f"{axis[:at]}┴{axis[at + 1 :]}"
    mark = "forecast ▸"
    lines.append(" " * at + mark if at + len(mark) <= COLUMNS else f"{'forecast ▴':>{at + 1}}")
    return "\n".join(lines)


def _figure(path: Path) -> Any:
    """Return an empty figure of matplotlib that can be saved there."""
    figure = matplotlib_for("--plot").figure.Figure(layout="constrained")
    if path.suffix.lower().removeprefix(".") not in (kinds := figure.canvas.get_supported_filetypes()):
        raise ValueError(f"--plot: expected a file whose name ends in one of {', '.join(kinds)}, got {str(path)!r}")
    return figure


def _draw(figure: Any, task: SeriesTask, values: Array) -> None:
    """Draw a panel for each column: the last steps of the series, and the forecast joined to them."""
    D, S, K = len(task.columns), len(task.values), len(values)
    first = max(0, S - max(2 * K, BEFORE))
    figure.set_size_inches(8.0, 1.0 + 2.5 * D)
    panels = np.ravel(figure.subplots(D, sharex=True))
    for ax, name, known, ahead in zip(panels, task.columns, task.values.T, values.T, strict=True):
        ax.plot(range(first + 1, S + 1), known[first:], color="#000000", linewidth=1, label="series")
        ax.plot(range(S, S + K + 1), [known[-1], *ahead], color="#d55e00", linewidth=1.5, label="forecast")
        ax.axvline(S, color="#999999", linewidth=0.8)
        ax.set(ylabel=name)
    panels[0].legend(loc="upper left")
    panels[-1].set(xlabel="step")
