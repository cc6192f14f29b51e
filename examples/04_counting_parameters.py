# %% [markdown]
# # Chapter 4: counting the parameters of a recurrent network
#
# The exam question of note 000: 10 inputs, 20 hidden neurons with ReLU, 5 outputs, no bias. Which sizes have W_xh, W_hh
# and W_hy, and how many parameters are there?
#
# In our letters D = 10, H = 20, P = 5. `mr.counting` writes its formulas as the note does, with m for our D, n for our
# H and p for our P, so that they can be held against it.

# %%
import numpy as np

import minirnn as mr
from minirnn import counting, textbook

exam = counting.elman(10, 20, 5, bias=False)
print(exam.table())
print(f"\n{exam.formula} = {exam.formula_numbers} = {exam.total}")
assert exam.total == 700

# %% [markdown]
# ## Two orientations
# The note's answer gives the shapes as (outputs, inputs), for column vectors: (20, 10), (20, 20), (5, 20). Its own
# formula, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), has row vectors, as Géron's book and minirnn have them: (10, 20),
# (20, 20), (20, 5). Neither is wrong, and the count is the same; say which one you mean.

# %%
for name in exam.shapes:
    print(f"{name}  row convention {exam.shapes[name]!s:<9} column convention {exam.shapes_column[name]}")
assert exam.shapes_column == {"W_xh": (20, 10), "W_hh": (20, 20), "W_hy": (5, 20)}

# %% [markdown]
# ## The network itself
# φ has no parameters, so sigmoid, tanh and ReLU count the same.

# %%
for activation in ("sigmoid", "tanh", "relu"):
    layer = mr.RecurrentLayer(10, 20, activation=activation, bias=False, dtype=np.float64, rng=4)
    network = mr.SequenceModel(layer, mr.Linear(20, 5, bias=False, dtype=np.float64, rng=5))
    print(f"{activation:<8}", *(f"{name} {p.shape}" for name, p in network.named_parameters()), network.count_params())
    assert network.count_params() == sum(p.size for p in network.parameters()) == exam.total
network

# %% [markdown]
# ## The length does not count
# The same 700 numbers serve a sequence of any length: every step uses the same arrays.

# %%
W_xh, W_hh, W_hy = (p.numpy() for p in network.parameters())
for T in (1, 50):
    x = np.random.default_rng(T).normal(size=(T, 2, 10))
    predictions, _ = network(x)
    outputs = textbook.unroll(
        textbook.layer_step_batch, x, np.zeros((2, 20)), W_xh, W_hh, np.zeros(20), activation="relu"
    )
    difference = np.abs(predictions.numpy() - textbook.head(outputs, W_hy, np.zeros(5))).max()
    print(f"T = {T:<2}: predictions {predictions.shape}, difference from the textbook's equations {difference:.0e}")
    assert difference < 1e-12

# %% [markdown]
# ## With biases, and elsewhere
# Each neuron has one bias, as in the textbook: H more, and P more for the head. Other libraries count differently,
# because some keep two biases that are only ever added up.

# %%
biased = counting.elman(10, 20, 5)
print(f"with biases: {biased.formula} = {biased.formula_numbers} = {biased.total}")
assert biased.total == mr.SequenceModel(mr.RecurrentLayer(10, 20), mr.Linear(20, 5)).count_params() == 725
print("the same recurrent layer in other libraries:", *biased.reconciliation(), sep="\n  ")

# %% [markdown]
# ## Gated cells
# They come in chapter 8; for counting it is enough that they are made of more blocks of the same size: a GRU has three,
# an LSTM four.

# %%
for cell, blocks in ((counting.elman, 1), (counting.gru, 3), (counting.lstm, 4)):
    count = cell(10, 20)
    print(f"{count.cell:<5}  {count.total:>4} = {count.formula}")
    assert count.shapes["W_xh"] == (10, blocks * 20)

# %% [markdown]
# On the command line: `minirnn count --inputs 10 --hidden 20 --outputs 5 --no-bias`.
#
# ## Now you

# %%
print(mr.exercises.EXERCISES["count"])
