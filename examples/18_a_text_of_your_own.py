# %% [markdown]
# # Chapter 18: a text of your own, learnt character by character, and gone on with
#
# From a file it is `TextTask(path="book.txt")`, or `minirnn train text --file book.txt --save writer.npz` and `minirnn
# sample writer.npz`. This text is made up, so that we know what can be known of it.

# %%
import numpy as np

import minirnn as mr

rng = np.random.default_rng(0)
WHO, DOES, WHERE = (
    ("the cat", "a dog", "my aunt"),
    ("sits", "sleeps", "sings"),
    ("on the mat", "by the door", "at home"),
)
text = "".join(f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHERE)}.\n" for _ in range(600))
task = mr.tasks.TextTask(text)
V = len(task.vocabulary)
print(f"{task!r}: {task.vocabulary!r}")
print(text[:150] + "…")

# %% [markdown]
# ## What is there to reach?
# Bits per character: how many yes-or-no questions a character costs. A model that knows pairs of characters alone, the
# bigram model, is easy to beat. Three choices among three stand in each line, and nothing foretells them: nobody can go
# below.

# %%
choice = 3 * np.log2(3) / np.mean([len(line) + 1 for line in text.splitlines()])
print(f"bits per character: the bigram model {task.bigram_bits:.3f}, the choices alone {choice:.3f}")

# %% [markdown]
# ## Learnt
# Characters are class ids, which an `Embedding` turns into vectors. The text is one long stream: the state is carried
# over from chunk to chunk, its gradient is not (truncated BPTT, chapter 11).

# %%
model = mr.SequenceModel(mr.GRULayer(8, 48, rng=1), mr.Linear(48, V, rng=2), embedding=mr.Embedding(V, 8, rng=3))
adam = mr.optim.Adam(model.parameters(), lr=1e-2)
settings = {"max_updates": 300, "batch": 16, "clip_norm": 1.0, "rng": 4, "progress": False}
history = mr.training.fit(model, task, optimizer=adam, held_out=True, evaluate_every=100, **settings)
print("updates  held-out bits")
print(*(f"{update:7}  {bits:13.3f}" for update, bits in history.evaluations["held-out"]), sep="\n")
bits = mr.training.bits_per_character(model, task)
print(f"{bits:.3f} in the end, where {choice:.3f} is the least")
assert bits < task.bigram_bits / 2
history

# %% [markdown]
# ## Gone on with
# A character is drawn from what the model thinks of the next one, and fed back. A temperature below 1 makes it bolder
# in what it knows.

# %%
print("my aunt " + mr.training.sample(model, task, 200, rng=5, temperature=0.8, prompt="my aunt "))

# %% [markdown]
# ## Now you

# %%
print(mr.exercises.EXERCISES["truncated"])
