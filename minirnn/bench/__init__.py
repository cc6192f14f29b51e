"""Measuring minirnn: what ``minirnn bench`` shows, and the tools that benchmarks share."""
