"""What ``minirnn train`` and ``sweep`` ask of BLAS, which reads it once, as numpy loads: this comes before all else."""

import os
import sys

if sys.argv[1:2] in (["train"], ["sweep"]) and os.path.basename(sys.argv[0]) in ("minirnn", "minirnn.exe", "-m"):
    # A toy's products are too small to share, and on a busy machine BLAS's threads wait for each other; --threads,
    # which is 1 unless told otherwise, can raise the number where threadpoolctl is installed.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
