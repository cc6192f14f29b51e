"""Drawings as SVG text: recurrent modules, folded and unrolled, and graphs of ops. Knows nothing of either."""
