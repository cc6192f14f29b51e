# %% [markdown]
# # Chapter 17: sequences of your own that differ in length, and what they are: classes
#
# A wave rises and falls 3, 4 or 5 times in 24 steps, and is cut off anywhere after 10. How often does it go up and
# down?

# %%
import numpy as np

import minirnn as mr

rng = np.random.default_rng(0)
kinds = rng.integers(3, size=400)
sequences = []
for kind in kinds:
    t = np.arange(rng.integers(10, 25))
    wave = np.sin(2 * np.pi * (kind + 3) * t / 24 + rng.uniform(0, 2 * np.pi))
    sequences.append(np.stack([10 + 4 * wave, rng.normal(size=t.size)], axis=1))  # (T_n, 2): the second one is noise

# %% [markdown]
# ## Padded, parted, standardized
# `pad` makes a box of them (chapter 9). `split` by row gives each part its share of every class, and the padding does
# not count in the units.

# %%
x, lengths = mr.data.pad(sequences)
print(f"{len(sequences)} sequences of {lengths.min()} to {lengths.max()} steps: x {x.shape}, lengths {lengths.shape}")
train, held_out = mr.data.split(x, kinds, lengths, by="row", rng=1)
units = mr.data.standardize(train[0], train[2])
train, held_out = ((units(x), y, lengths) for x, y, lengths in (train, held_out))

# %% [markdown]
# ## Learnt and predicted
# `readout="last"`: the head reads the last output of each row, its own last one.

# %%
model = mr.SequenceModel(mr.GRULayer(2, 24, rng=2), mr.Linear(24, 3, rng=3), readout="last")
adam = mr.optim.Adam(model.parameters(), lr=1e-2)
settings = {"loss": mr.losses.cross_entropy, "epochs": 25, "batch": 32, "clip_norm": 1.0, "rng": 4, "progress": False}
history = mr.training.fit(model, train, optimizer=adam, held_out=held_out, evaluate_every=25, **settings)
print("updates  held-out loss")
print(*(f"{update:7}  {loss:13.4f}" for update, loss in history.evaluations["held-out loss"]), sep="\n")

# %%
x, y, lengths = held_out
scores = mr.training.predict(model, x, lengths)
right = mr.training.accuracy(scores, y)
print("predicted/true:", *(f"{a}/{b}" for a, b in zip(scores.argmax(axis=-1)[:10] + 3, y[:10] + 3, strict=True)))
print(f"accuracy on {y.size} held-out sequences: {right:.3f}; chance is a third")
assert right > 0.9
model

# %% [markdown]
# ## Now you

# %%
print(mr.exercises.EXERCISES["masked_forward"])
