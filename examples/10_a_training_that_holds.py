"""Chapter 10: a training that holds.

A training is a few lines, until it is interrupted, is to be judged by data it has not seen, or goes wrong. Here is what
`mr.training.fit` does about each: held-out data, a stop when the task is solved, a crash and the same bits afterwards,
and what the history of a training has to say.
"""

import tempfile

import numpy as np

import minirnn as mr

T, H, SEED = 15, 24, 3
task = mr.tasks.EchoTask(T, delay=3)


def beginning():
    """Return a model and an optimiser as they are before the first update: the same at every call."""
    layer = mr.GRULayer(task.input_size, H, rng=SEED)
    model = mr.SequenceModel(layer, mr.Linear(H, task.output_size, rng=SEED + 1))
    return model, mr.optim.Adam(model.parameters(), lr=1e-2)


settings = {"rng": SEED + 2, "batch": 16, "clip_norm": 1.0, "progress": False, "held_out": True, "evaluate_every": 25}

model, adam = beginning()
print(f"{task!r}: {task.description}\nsolved: {task.rule}\n")
history = mr.training.fit(
    model, task, optimizer=adam, max_updates=1000, stop=mr.training.until_solved(task), **settings
)
print("updates  held-out loss  held-out figure")
for loss, figure in zip(history.evaluations["held-out loss"], history.evaluations["held-out"], strict=True):
    print(f"{loss.update:7}  {loss.value:13.4f}  {figure.value:15.4f}")
K = history.updates
print(f"solved after {K} updates; accuracy of the last 10: {100 * history.recent(10, 'accuracy'):.1f} %\n")
assert task.solved(history.evaluations["held-out"][-1].value)
assert K < 1000

print("Again, but the machine stops in the middle, and a new one goes on from the directory:")
with tempfile.TemporaryDirectory() as directory:
    run = mr.training.Checkpointing(directory, every=10, resume=True)
    other, adam = beginning()
    first = mr.training.fit(other, task, optimizer=adam, max_updates=K // 2, checkpoint=run, **settings)
    other, adam = beginning()  # all that was learnt is gone, but for what is in the directory
    second = mr.training.fit(other, task, optimizer=adam, max_updates=K, checkpoint=run, **settings)
print(f"  {first.updates} updates, a crash, and on to {second.updates}")
largest = max(np.abs(a.data - b.data).max() for a, b in zip(model.parameters(), other.parameters(), strict=True))
print(f"  largest difference to the weights of the unbroken run: {largest}\n")
assert largest == 0
assert np.array_equal(history.loss, second.loss)

print(history.chart(height=6, title="training loss, nats per target"))
x, y = task.batch(16, rng=0)
report = mr.bptt.doctor(mr.bptt.trace(model, x, lambda p: mr.losses.cross_entropy(p, y)), history=history)
print(f"\nThe doctor, who has read the history:\n{report}")
assert history.clipped == report.figures["clipped_share"]
