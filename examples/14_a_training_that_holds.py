# %% [markdown]
# # Chapter 14: a training that holds
#
# A training is a few lines, until it is interrupted, is to be judged by data it has not seen, or goes wrong. Here is
# what `mr.training.fit` does about each: held-out data, a stop when the task is solved, a machine that is switched off
# and the same bits afterwards, and what the history of a training has to say.

# %%
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import minirnn as mr
from minirnn.training.saving import history_of

# %% [markdown]
# ## Judged by data that it has not seen
# The task: bits come in, and at every step the bit of three steps before is asked for. `held_out=True` draws a batch
# aside, `evaluate_every` says how often it is looked at, and `stop` ends the training when the task's own rule is met.

# %%
T, H, SEED = 15, 24, 3
task = mr.tasks.EchoTask(T, delay=3)
model = mr.SequenceModel(
    mr.GRULayer(task.input_size, H, rng=SEED), mr.Linear(H, task.output_size, rng=SEED + 1), readout="all"
)
adam = mr.optim.Adam(model.parameters(), lr=1e-2)
print(f"{task!r}: {task.description}\nsolved: {task.rule}\n")
history = mr.training.fit(
    model,
    task,
    optimizer=adam,
    max_updates=1000,
    stop=mr.training.until_solved(task),
    rng=SEED + 2,
    batch=16,
    clip_norm=1.0,
    progress=False,
    held_out=True,
    evaluate_every=25,
)
print("updates  held-out loss  share of steps wrong")
for loss, figure in zip(history.evaluations["held-out loss"], history.evaluations["held-out"], strict=True):
    print(f"{loss.update:7}  {loss.value:13.4f}  {figure.value:20.4f}")
print(f"solved after {history.updates} updates; accuracy of the last 10: {100 * history.recent(10, 'accuracy'):.1f} %")
assert task.solved(history.evaluations["held-out"][-1].value)
assert history.updates < 1000

# %%
print(history.chart(height=8, title="training loss, nats per target"))
history

# %% [markdown]
# ## The machine is switched off
# Another process trains, saves a checkpoint every 50 updates, and is killed by the operating system as soon as the
# first one is there. It has no time to say good-bye, nor to finish what it was writing.

# %%
train = [sys.executable, "-m", "minirnn", "train", "echo", "--steps-in-time", "15", "--delay", "3", "--no-progress"]
folder = tempfile.TemporaryDirectory()
run, resumed, unbroken = (Path(folder.name) / name for name in ("run", "resumed.npz", "unbroken.npz"))

checkpointed = [*train, "--checkpoint", str(run), "--checkpoint-every", "50"]
process = subprocess.Popen([*checkpointed, "--max-updates", "1000000", "--lr", "1e-5"], stdout=subprocess.DEVNULL)
checkpoints = mr.checkpoints.CheckpointDirectory(run)
while process.poll() is None and checkpoints.latest() is None:
    time.sleep(0.02)
process.kill()
ended = process.wait()
made = history_of(checkpoints.latest()).updates
print(f"killed (exit status {ended}); the newest checkpoint is that of update {made}")
assert ended != 0

# %% [markdown]
# The same command with `--resume` goes on from there. Beside it a run that nothing interrupts makes as many updates. Do
# they end with the same weights?

# %%
more = ["--max-updates", str(made + 100), "--lr", "1e-5"]
with_resume = [*checkpointed, *more, "--resume", "--save", str(resumed)]
subprocess.run(with_resume, stdout=subprocess.DEVNULL, check=False)  # its exit status 1 says: not solved yet
subprocess.run([*train, *more, "--save", str(unbroken)], stdout=subprocess.DEVNULL, check=False)
first, second = (mr.checkpoints.load_checkpoint(path) for path in (resumed, unbroken))
largest = max(np.abs(first.parameters[name] - second.parameters[name]).max() for name in second.parameters)
print(f"{made} updates, killed, and on to {history_of(first).updates}: largest difference in any weight {largest}")
assert history_of(first).updates == history_of(second).updates == made + 100
assert largest == 0
folder.cleanup()

# %% [markdown]
# In Python the same is `fit(…, checkpoint=mr.training.Checkpointing("run", every=50, resume=True))`.
#
# ## The doctor has read the history
# The doctor is asked about the model that solved the task. It judges the way back as far as the task asks, three steps:
# `delay=task.delay`. Over all 14 steps there are, next to nothing would be left, and rightly: who has to remember three
# bits does well to forget the fourth.

# %%
x, y = task.batch(16, rng=0)
trace = mr.bptt.trace(model, x, lambda predictions: mr.losses.cross_entropy(predictions, y))
report = mr.bptt.doctor(trace, history=history, delay=task.delay)
print(report)
over_all = mr.bptt.doctor(trace)
print(f"\nover all {over_all.figures['steps_back']} steps the verdict would be: {over_all.verdict}")
assert report.verdict == "healthy"
assert history.clipped == report.figures["clipped_share"]

# %% [markdown]
# Where does the credit go? To the steps from which a bit is still asked for, 0 to 3 before; then it drops:

# %%
credit = trace.credit().norms
shares = [np.diagonal(credit, -k).sum() / credit.sum() for k in range(8)]
print("used so many steps back:", *(f"{k}: {share:.0%}" for k, share in enumerate(shares)), sep="  ")
assert shares[3] > 2 * shares[4]
trace

# %% [markdown]
# ## Now you
# What does `clip_norm=1.0` do at an update whose gradient has the norm 4, and at one whose norm is 0.5?

# %%
print(mr.exercises.EXERCISES["clip"])
