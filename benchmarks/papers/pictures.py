"""The picture of a paper's experiments. Needs matplotlib, the extra ``plot``."""

from pathlib import Path

from benchmarks.papers.base import Paper, Results
from minirnn.drawing.axes import matplotlib_for

_HEIGHT = 4.4  # in inches


def draw(paper: Paper, results: Results, path: Path) -> None:
    """Write the picture; its format is the file's ending. The same results give the same file.

    Raises
    ------
    ImportError
        Where matplotlib is not installed.
    """
    matplotlib = matplotlib_for("it")
    figure = matplotlib.figure.Figure(figsize=(paper.width * paper.panels, _HEIGHT), layout="constrained")
    axes = figure.subplots(1, paper.panels, squeeze=False)[0]
    paper.draw(axes, results)
    figure.suptitle(paper.title, fontsize=10)
    with matplotlib.rc_context({"svg.hashsalt": "minirnn"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
