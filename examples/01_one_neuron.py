# %% [markdown]
# # Chapter 1: one recurrent neuron, and what it means to unroll it through time
#
# A feed-forward network sees one input and forgets it. A *recurrent* neuron also hears its own last output:
#
#     h_t = φ(⟨x_t, w_x⟩ + h_{t-1} w_h + b)
#
# x_t is the input at step t, h_t the output, and h_{t-1} all the memory that the neuron has.
#
# **Sources and letters.** These chapters follow two notes. *Note 003*, "Recurrent neurons (p. 381)", explains page 381
# of A. Géron, *Hands-On Machine Learning with Scikit-Learn and TensorFlow* (O'Reilly 2017), chapter 14; its equations
# and figures 14-1 and 14-2 are that book's. *Note 000*, "Understanding RNN parameter calculation", is about a course's
# exam. The notes differ in their letters. Here they are once; from now on we keep the left column.
#
# | | here | note 003 | note 000 |
# |---|---|---|---|
# | steps | T | | T |
# | sequences side by side | N | m | |
# | inputs | D | k | m |
# | recurrent neurons | H | l | n |
# | outputs of the network | P | | p |
# | what a neuron gives at step t | h_t | y_(t) | H_t |
# | weights | W_xh, W_hh, b_h | W_x, W_y, b | W_xh, W_hh, b_h |

# %%
import numpy as np

import minirnn as mr
from minirnn import textbook

# %% [markdown]
# ## One step at a time
# D = 2 inputs over T = 6 steps: a tap on the first input, then silence. φ is tanh, and w_h = 0.9.

# %%
x = np.zeros((6, 2))
x[0] = [1.0, 0.0]
w_x, w_h, b, h_0 = np.array([1.0, -0.5]), 0.9, 0.0, 0.0

h, by_hand = h_0, []
for t, x_t in enumerate(x, start=1):
    z = np.inner(x_t, w_x) + h * w_h + b
    print(f"t={t}  ⟨x_t, w_x⟩ = {np.inner(x_t, w_x):4.1f}   h_(t-1) w_h = {h * w_h:5.3f}   h_t = {np.tanh(z):5.3f}")
    h = np.tanh(z)
    by_hand.append(h)

# %% [markdown]
# ## Unrolling
# The loop above is what is called *unrolling the network through time*: the same w_x, w_h and b at every step (figure
# 14-1, right). How long does the neuron know of the tap? That depends on w_h.

# %%
for weight in (0.0, 0.5, 0.9, -0.9):
    outputs = textbook.unroll(textbook.neuron_step, x, h_0, w_x, weight, b)
    print(f"w_h = {weight:4.1f}   h = {np.array2string(outputs, precision=3, suppress_small=True, floatmode='fixed')}")
    if weight == 0.0:
        assert (outputs[1:] == 0.0).all()  # without the connection back, the tap is forgotten at once
    if weight == 0.9:
        assert np.abs(outputs - by_hand).max() < 1e-12
        assert (np.diff(outputs) < 0.0).all()
        assert outputs[-1] > 0.25  # five steps later the neuron still knows of the tap
    if weight < 0.0:
        assert (outputs[:-1] * outputs[1:] < 0.0).all()
print("w_h = 0 has no memory, 0.9 forgets slowly, a negative w_h remembers with alternating sign.")

# %% [markdown]
# ## The same as a layer of one
# A layer takes x as (T, N, D): steps, sequences side by side, inputs. Here is one sequence, so N = 1: `x[:, None]`.
# It hands back the outputs of all steps, and its final state, which is the output of the last one.

# %%
layer = mr.RecurrentLayer(input_size=2, hidden_size=1, activation="tanh", dtype=np.float64)
layer.load_state_dict({"W_xh": w_x[:, None], "W_hh": [[w_h]], "b_h": [b]})
outputs, final_state = layer(x[:, None])
print(f"outputs {outputs.shape}: {np.array2string(outputs.numpy().ravel(), precision=3, floatmode='fixed')}")
print(f"final_state {final_state.shape}: {final_state.item():.3f}, the output of the last step")
assert np.abs(outputs.numpy()[:, 0, 0] - by_hand).max() < 1e-12
assert final_state.item() == outputs.numpy()[-1, 0, 0]

# %% [markdown]
# Four numbers are all it learns, however long the sequence. A notebook draws a layer: on the left the neuron that
# hears itself, on the right the same neuron unrolled.

# %%
print("parameters:", *(f"{p.name} {p.shape}" for p in layer.parameters()), f"{layer.count_params()} numbers", sep="  ")
assert layer.count_params() == 4
layer

# %% [markdown]
# ## Now you
# Every chapter ends with exercises. Write the function, and let it be checked: not only whether it is right, but which
# mistake it has. `minirnn exercise` lists all of them; this is the first.

# %%
print(mr.exercises.EXERCISES["neuron"])

# %% [markdown]
# Here is a function with a mistake in it, and what the check says. Mend it.


# %%
def neuron(x_t, y_prev, w_x, w_y, b):
    return np.tanh(x_t @ w_x) + y_prev * w_y + b


result = mr.exercises.check("neuron", neuron)
print(result.mistake)
assert not result.passed
result
