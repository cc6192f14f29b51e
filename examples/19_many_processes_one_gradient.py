# %% [markdown]
# # Chapter 19: one training on many processes, with the gradient of one
#
# Every process has a replica of the model and a shard of the batch. A mean over the batch is a sum divided by a count,
# and sums can be added up: each step makes one buffer [Σ gradient, Σ loss, n], **one** Allreduce, and divides by the
# summed n. Then each replica clips and steps on its own. Run it by `mpiexec -n 3 python
# 19_many_processes_one_gradient.py`; it needs an MPI and mpi4py, `pip install "minirnn[mpi]"`. Without them it is one
# process, which has all rows.

# %%
import hashlib

import numpy as np

import minirnn as mr
from minirnn.losses import mse
from minirnn.training import gradient_vector, parameters_to_vector

try:
    from mpi4py import MPI
except (ImportError, RuntimeError):  # no mpi4py, or no MPI that it finds
    MPI = None
comm = MPI.COMM_WORLD if MPI else None
rank, size = (comm.rank, comm.size) if comm else (0, 1)
T, N, UPDATES, MAX_NORM = 6, 31, 50, 2.0

# %% [markdown]
# The batches are drawn by all processes alike. Rank r trains on its rows of them: 31 rows on three ranks are shards of
# 11, 10 and 10, and rows differ in length, so that shards differ in how many targets they have.


# %%
def batches():
    rng = np.random.default_rng(0)
    while True:
        x, lengths = rng.normal(size=(T, N, 2)), rng.integers(1, T + 1, size=N)
        yield x, np.cumsum(x[:, :, :1] - x[:, :, 1:], axis=0), lengths


def shard(batch):
    x, y, lengths = batch
    rows = np.array_split(np.arange(N), size)[rank]
    return x[:, rows], y[:, rows], lengths[rows]


def build():
    layer = mr.GRULayer(2, 8, dtype=np.float64, rng=1)
    return mr.SequenceModel(layer, mr.Linear(8, 1, dtype=np.float64, rng=2))


# %% [markdown]
# ## One buffer, one Allreduce
# `loss` is a sum, and notes itself and its count; `fit` goes back from it, and calls the hook before it clips.


# %%
class Shared:
    """A loss and a hook that all processes share."""

    def __init__(self):
        self.losses, self.norms, self.calls = [], [], 0

    def loss(self, predictions, y, lengths):
        """Sum over this process's rows."""
        total = mse(predictions, y, lengths, reduction="sum")
        self.noted = [total.item(), lengths.sum()]
        return total

    def reduce(self, parameters):
        """Put the gradient of the mean over all rows in the place of this process's sum."""
        buffer = np.concatenate([gradient_vector(parameters), self.noted])
        if comm:
            comm.Allreduce(MPI.IN_PLACE, buffer)
        self.calls += 1
        gradient, (total, n) = buffer[:-2], buffer[-2:]
        sizes = np.cumsum([p.data.size for p in parameters])[:-1]
        for p, part in zip(parameters, np.split(gradient / n, sizes), strict=True):
            p.grad = part.reshape(p.shape)
        self.losses.append(total / n)
        self.norms.append(np.linalg.norm(gradient / n))


# %% [markdown]
# ## The gradient of one process
# The mean over all rows, in one process, is what the shards must add up to.

# %%
whole, model, shared = build(), build(), Shared()
batch = next(batches())
alone = mse(whole(batch[0], lengths=batch[2]).predictions, batch[1], batch[2])
alone.backward()
expected = gradient_vector(whole.parameters())

x, y, lengths = shard(batch)
shared.loss(model(x, lengths=lengths).predictions, y, lengths).backward()
own = np.linalg.norm(gradient_vector(model.parameters()))
shared.reduce(model.parameters())
error = np.abs(gradient_vector(model.parameters()) - expected).max() / np.abs(expected).max()
assert error < 1e-12
assert abs(shared.losses[0] / alone.item() - 1) < 1e-12

# %% [markdown]
# ## Fifty updates, and replicas that are bit for bit the same
# Nothing ever sends the weights: they begin alike, and each update is the same sum, clipped and stepped on alike.

# %%
model, shared = build(), Shared()
adam = mr.optim.Adam(model.parameters(), lr=0.01)
settings = {"max_updates": UPDATES, "clip_norm": MAX_NORM, "progress": False}
mr.training.fit(model, map(shard, batches()), loss=shared.loss, optimizer=adam, gradient_hook=shared.reduce, **settings)
digest = hashlib.sha256(parameters_to_vector(model.parameters()).tobytes()).hexdigest()[:16]
reports = [(rank, len(lengths.tolist()), int(lengths.sum()), own, digest)]
reports = comm.gather(reports[0]) if comm else reports
clipped = np.mean(np.array(shared.norms) > MAX_NORM)
assert shared.calls == UPDATES
assert 0 < clipped < 1

# %% [markdown]
# What the first process prints for all of them: the last column is of all weights after the last update.

# %%
if rank == 0:
    print(f"{size} process{'es' * (size > 1)}, {N} rows, {UPDATES} updates, {shared.calls} calls of Allreduce")
    print(f"gradient against that of one process: relative error {error:.1e}")
    print("\nrank  rows  targets  norm of its own sum  SHA-256 of its replica")
    for number, rows, targets, norm, weights in reports:
        print(f"{number:4}  {rows:4}  {targets:7}  {norm:19.6f}  {weights}")
    print(f"\nclipped: {clipped:.0%} of the updates")
    means = np.reshape(shared.losses, (5, 10)).mean(axis=1)
    print("\nupdates  mean loss over all rows")
    print(*(f"{10 * k + 1:2} … {10 * k + 10}  {mean:23.6f}" for k, mean in enumerate(means)), sep="\n")
    assert len({weights for *_, weights in reports}) == 1
    assert means[-1] < means[0] / 2

# %% [markdown]
# ## Now you
# Why must clipping come after the Allreduce? Try each process clipping its own sum first, and look at the error.

# %%
if rank == 0:
    print(mr.exercises.EXERCISES["clip"])
