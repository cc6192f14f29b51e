# %% [markdown]
# # Chapter 16: a series of your own, from a CSV file to a forecast
#
# The same by two commands: `minirnn train csv --file FILE --column value --save model.npz`, and `minirnn forecast
# model.npz`. Here is what they do.

# %%
import tempfile
from pathlib import Path

import numpy as np

import minirnn as mr

T, AHEAD = 40, 60
t = np.arange(800)
truth = 20 + 5 * np.sin(2 * np.pi * t / 24) + 2 * np.sin(2 * np.pi * t / 55)
measured = truth + np.random.default_rng(0).normal(scale=0.2, size=t.size)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "measured.csv"
    file.write_text("hour,value\n" + "".join(f"{k},{v:.3f}\n" for k, v in enumerate(measured[:-AHEAD])))
    series = mr.data.read_csv(file, ["value"])["value"]

# %% [markdown]
# ## Parted in time, then cut into windows
# A series is parted *before* windows are cut, and in time: otherwise a window of the held-out part overlaps one that
# was trained on, and the figure is too good to be true. The units are those of the training part, for the same reason.

# %%
train, held_out = mr.data.split(series, by="time")
units = mr.data.standardize(train)
x, y = mr.data.windows(units(train), T)
print(f"{series.size} values, {train.size} to train on: windows x {x.shape}, and y {y.shape}, one step later")

# %% [markdown]
# ## Trained, with the best weights kept

# %%
model = mr.SequenceModel(mr.GRULayer(1, 24, rng=0), mr.Linear(24, 1, rng=1))
adam = mr.optim.Adam(model.parameters(), lr=1e-2)
settings = {"loss": mr.losses.mse, "epochs": 25, "batch": 32, "clip_norm": 1.0, "rng": 2, "progress": False}
of_held_out = {"held_out": mr.data.windows(units(held_out), T), "evaluate_every": 50, "restore_best": True}
history = mr.training.fit(model, (x, y), optimizer=adam, **settings, **of_held_out)
print(f"{history.updates} updates, the best on held-out data after {history.restored}")
print(history.chart(height=8, title="training loss, squared error in standardized units"))
history

# %% [markdown]
# ## A forecast, held against the truth
# `forecast` feeds the model with its own predictions, 60 of them.

# %%
ahead = units.inverse(mr.training.forecast(model, units(series)[:, None], AHEAD)[:, 0])
print("hour  forecast  truth", *(f"{t[k]:4}  {ahead[k]:8.2f}  {truth[k]:5.2f}" for k in range(-AHEAD, 0, 6)), sep="\n")
error, unchanged = (np.abs(values - truth[-AHEAD:]).mean() for values in (ahead, series[-1]))
print(f"mean error {error:.2f}; of a forecast that nothing changes {unchanged:.2f}")
assert error < unchanged / 3

# %% [markdown]
# ## Now you
# A figure says nothing without what a model reaches that remembers nothing.

# %%
print(mr.exercises.EXERCISES["baseline"])
