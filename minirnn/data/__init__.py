"""Your own data, arrays in and arrays out: windows of a series, ragged rows, mini-batches, parts, units, CSV files.

Everything is time-major, (T, N, D), unless ``batch_first=True`` says (N, T, D), as a layer that was made so reads it.
What has ``__array__``, such as a pandas frame, serves where an array does.
"""

from minirnn.data.batching import Batches, batches
from minirnn.data.parts import split
from minirnn.data.sequences import pad, unpad, windows
from minirnn.data.tables import read_csv
from minirnn.data.units import Standardizer, standardize

__all__ = ["Batches", "Standardizer", "batches", "pad", "read_csv", "split", "standardize", "unpad", "windows"]
