"""Data-parallel training: shards' gradients add up to that of the batch; the chapter on it, on several ranks."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from false_alarms import strict

import minirnn as mr
from minirnn.losses import cross_entropy, mse
from minirnn.training import gradient_vector

CHAPTER = Path(__file__).parents[2] / "examples" / "19_many_processes_one_gradient.py"
T, N, D, H = 5, 7, 3, 4


def gradients(model, loss, x, y, lengths, rows):
    """Return [Σ gradient, Σ loss, n] of some rows."""
    total = loss(model(x[:, rows], lengths=lengths[rows]).predictions, y[:, rows], lengths[rows], reduction="sum")
    model.zero_grad()
    total.backward()
    return np.array([*gradient_vector(model.parameters()), total.item(), lengths[rows].sum()])


@pytest.mark.parametrize("shards", [[7], [1, 6], [4, 1, 2]], ids=str)
@pytest.mark.parametrize(("loss", "P"), [(mse, 1), (cross_entropy, 4)], ids=["mse", "cross_entropy"])
def test_sums_over_uneven_shards_divided_by_all_targets_are_the_gradient_of_the_mean(loss, P, shards):
    rng = np.random.default_rng(0)
    x, lengths = rng.normal(size=(T, N, D)), rng.integers(1, T + 1, size=N)
    y = rng.normal(size=(T, N, P)) if loss is mse else rng.integers(P, size=(T, N))
    layer = mr.LSTMLayer(D, H, dtype=np.float64, rng=1)
    model = mr.SequenceModel(layer, mr.Linear(H, P, dtype=np.float64, rng=2))
    mean = loss(model(x, lengths=lengths).predictions, y, lengths)
    mean.backward()
    expected = gradient_vector(model.parameters())
    parts = np.split(rng.permutation(N), np.cumsum(shards)[:-1])
    *gradient, value, n = functools.reduce(np.add, (gradients(model, loss, x, y, lengths, rows) for rows in parts))
    assert np.abs(np.array(gradient) / n - expected).max() <= 1e-12 * np.abs(expected).max()
    assert abs(value / n / mean.item() - 1) < 1e-12


def mpi():
    """Return the mpiexec that runs mpi4py here, or skip, saying why not."""
    command = shutil.which("mpiexec")
    if command is None:
        pytest.skip("mpiexec is not installed: apt-get install openmpi-bin")
    there = subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, text=True)
    if there.returncode:
        pytest.skip(f"mpi4py finds no MPI: pip install -e '.[mpi]': {there.stderr.splitlines()[-1]}")
    return command


ALLOWED = {  # more ranks than CPUs, and Open MPI as root, as in a container
    **dict.fromkeys(
        ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"), "1"
    ),
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OPENBLAS_NUM_THREADS": "1",
}


@pytest.mark.peer
def test_the_chapter_on_one_two_and_three_ranks(tmp_path):
    command, losses = mpi(), []
    for ranks in (1, 2, 3):
        run = subprocess.run(
            [command, "-n", str(ranks), sys.executable, *strict(), str(CHAPTER)],
            env={**os.environ, **ALLOWED, "PYTHONUTF8": "1"}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        out = run.stdout
        assert out.startswith(f"{ranks} process{'es' * (ranks > 1)}, 31 rows, 50 updates, 50 calls of Allreduce\n")
        assert float(re.search(r"relative error (\S+)", out)[1]) < 1e-12
        replicas = re.findall(r"^ +\d +(\d+) +(\d+) +\d+\.\d+  ([0-9a-f]{16})$", out, re.M)
        assert len(replicas) == ranks
        assert sum(int(rows) for rows, *_ in replicas) == 31
        assert len({targets for _, targets, _ in replicas}) == ranks  # so that means would not add up
        assert len({digest for *_, digest in replicas}) == 1
        losses.append([float(text) for text in re.findall(r"^ ?\d+ … \d+ +(\d+\.\d+)$", out, re.M)])
        assert len(losses[-1]) == 5
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)
