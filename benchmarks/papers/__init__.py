"""The experiments of papers, run again: ours beside the published figures, with pass or fail.

``python -m benchmarks papers`` runs them. A paper is a module with a `Paper`: its jobs, one training with one seed
each, what the table says of their results, and the picture.
"""

from benchmarks.papers import hochreiter, irnn, pascanu, pham
from benchmarks.papers.base import Job, Line, Paper, Published, Result, Results

PAPERS: dict[str, Paper] = {paper.name: paper for paper in (irnn.PAPER, pascanu.PAPER, hochreiter.PAPER, pham.PAPER)}
"""Every paper by its name."""

__all__ = ["PAPERS", "Job", "Line", "Paper", "Published", "Result", "Results"]
