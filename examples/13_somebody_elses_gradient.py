# %% [markdown]
# # Chapter 13: reading somebody else's gradient
#
# You are handed a function that computes a loss and its gradients, from a repository, a notebook, a colleague. Is it
# right? Four questions find out, in this order: does `gradcheck` pass; on inputs that can tell; if not, which of the
# inputs are wrong; and what do those have in common?

# %%
import numpy as np

import minirnn as mr

T, N, D, H = 4, 3, 2, 5  # all different, so that no transpose goes unseen

# %% [markdown]
# ## The code
# It trains a small recurrent layer in many a tutorial: a loss on every output, forward and back by hand. Read it once.
# Do you see what is wrong?


# %%
def loss_and_gradients(x, h_0, W_xh, W_hh, b_h, target):
    hs = [h_0]
    for t in range(len(x)):
        hs.append(np.tanh(x[t] @ W_xh + hs[-1] @ W_hh + b_h))
    loss = 0.5 * sum(((h - y) ** 2).sum() for h, y in zip(hs[1:], target, strict=True))

    dW_xh, dW_hh, db_h = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b_h)
    dx, carried = np.zeros_like(x), np.zeros_like(h_0)
    for t in reversed(range(len(x))):
        dz = (hs[t + 1] - target[t] + carried) * (1 - hs[t + 1] ** 2)
        dW_xh += x[t].T @ dz
        dW_hh += hs[t + 1].T @ dz
        db_h += dz.sum(axis=0)
        dx[t] = dz @ W_xh.T
        carried = dz @ W_hh.T
    return loss, [dx, carried, dW_xh, dW_hh, db_h]


# %% [markdown]
# ## Make it checkable
# `gradcheck` wants a function of Tensors, which has its gradient from autograd. To bring one with a gradient g of its
# own, add Σ g · (input − input.detach()) to the value: that is 0, and its derivative is g. Each input is asked by
# itself.

# %%
NAMES = ("x", "h_0", "W_xh", "W_hh", "b_h")


def drawn(rng, T=T):
    shapes = ((T, N, D), (N, H), (D, H), (H, H), (H,))
    return [rng.normal(size=shape) for shape in shapes], rng.uniform(-1, 1, (T, N, H))


def wrong_inputs(function, arrays, target):
    """Return the inputs whose gradient is wrong, each with what gradcheck says."""
    found = {}
    for i, name in enumerate(NAMES):
        tensors = [mr.Tensor(a, requires_grad=i == j) for j, a in enumerate(arrays)]

        def of_one(one, i=i, tensors=tensors):
            given = [one if j == i else a for j, a in enumerate(tensors)]
            value, gradients = function(*(a.numpy() for a in given), target)
            return value + (gradients[i] * (one - one.detach())).sum()

        try:
            mr.gradcheck(of_one, [tensors[i]], names=[name])
        except mr.GradcheckError as error:
            found[name] = str(error)
    return found


# %% [markdown]
# ## Which inputs are wrong?

# %%
arrays, target = drawn(np.random.default_rng(13))
wrong = wrong_inputs(loss_and_gradients, arrays, target)
print(*wrong.values(), sep="\n\n")
print("\nwrong:", *wrong, "   right:", *(name for name in NAMES if name not in wrong))
assert list(wrong) == ["W_hh"]

# %% [markdown]
# Only W_hh. That narrows it down. dx, dh_0 and the other weights' gradients all come from dz, so dz is right, and with
# it everything that is carried. What is left is the one line that makes dW_hh: it multiplies dz by hs[t + 1], which is
# H_t. W_hh was multiplied by H_{t-1}, `hs[t]`.


# %%
def mended(x, h_0, W_xh, W_hh, b_h, target):
    loss, gradients = loss_and_gradients(x, h_0, W_xh, W_hh, b_h, target)
    hs = [h_0]
    for t in range(len(x)):
        hs.append(np.tanh(x[t] @ W_xh + hs[-1] @ W_hh + b_h))
    dW_hh, carried = np.zeros_like(W_hh), np.zeros_like(h_0)
    for t in reversed(range(len(x))):
        dz = (hs[t + 1] - target[t] + carried) * (1 - hs[t + 1] ** 2)
        dW_hh += hs[t].T @ dz
        carried = dz @ W_hh.T
    return loss, [*gradients[:3], dW_hh, gradients[4]]


print("mended, wrong:", wrong_inputs(mended, arrays, target) or "none")
assert wrong_inputs(mended, arrays, target) == {}

# %% [markdown]
# ## Inputs that can tell
# A check is as good as its inputs. With h_0 = 0 and a single step every term that H_{t-1} stands in is 0; with W_hh
# symmetric W and Wᵀ are the same; with N = 1 a mean is a sum. Here is another common mistake, W_hh for W_hhᵀ on the way
# back, on three sets of inputs:


# %%
def untransposed(x, h_0, W_xh, W_hh, b_h, target):
    hs = [h_0]
    for t in range(len(x)):
        hs.append(np.tanh(x[t] @ W_xh + hs[-1] @ W_hh + b_h))
    loss = 0.5 * sum(((h - y) ** 2).sum() for h, y in zip(hs[1:], target, strict=True))
    total, carried = [np.zeros_like(a) for a in (x, h_0, W_xh, W_hh, b_h)], np.zeros_like(h_0)
    for t in reversed(range(len(x))):
        dz = (hs[t + 1] - target[t] + carried) * (1 - hs[t + 1] ** 2)
        total[0][t], carried = dz @ W_xh.T, dz @ W_hh
        for k, part in ((2, x[t].T @ dz), (3, hs[t].T @ dz), (4, dz.sum(axis=0))):
            total[k] += part
    total[1] = carried
    return loss, total


symmetric = [a + a.T if name == "W_hh" else a for name, a in zip(NAMES, arrays, strict=True)]
for label, (given, y) in {
    "one step": drawn(np.random.default_rng(14), T=1),
    "W_hh symmetric": (symmetric, target),
    "nothing special": (arrays, target),
}.items():
    found = wrong_inputs(untransposed, given, y)
    print(f"{label:<16} wrong: {', '.join(found) or 'none'}")
    assert (len(found) == 0) == (label == "W_hh symmetric")

# %% [markdown]
# With one step only h_0 shows it; with a symmetric W_hh nothing does, and the mistake passes. So: random inputs, a
# state that is not 0, several steps, sizes that all differ, and every input asked.
#
# ## Or ask the check that knows the mistakes
# `mr.exercises.check` draws such inputs itself, and says which mistake it is rather than where the numbers differ. Give
# it the gradients as a function of the exercise's arguments:


# %%
def bptt(x, h0, W_xh, W_hh, b, dhs):
    hs = [h0]
    for t in range(len(x)):
        hs.append(np.tanh(x[t] @ W_xh + hs[-1] @ W_hh + b))
    # 0.5 (h − target)² has the gradient h − target, so this target makes the loss of each step give dhs
    return tuple(loss_and_gradients(x, h0, W_xh, W_hh, b, np.stack(hs[1:]) - dhs)[1])


result = mr.exercises.check("bptt", bptt)
print(result.mistake)
assert not result.passed
result

# %% [markdown]
# ## Now you

# %%
print(mr.exercises.EXERCISES["tape"])
