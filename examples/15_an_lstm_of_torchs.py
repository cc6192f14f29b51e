# %% [markdown]
# # Chapter 15: an LSTM that torch trained and saved, looked into here, and handed on to onnxruntime
#
# A layer is its arrays and the order they stand in. torch's are transposed, with two biases that are only ever added up
# and gates i, f, g, o; ONNX has i, o, f, c. The chapter needs torch, safetensors, onnx and onnxruntime: `pip install
# 'minirnn[bench]'`. Without them it prints the commands, and what they would do.

# %%
import os
import tempfile
import warnings

import numpy as np

import minirnn as mr
from minirnn.cli import main

T, N, H, UPDATES = 10, 32, 16, 500
task = mr.tasks.AddingTask(T=T)

missing = ""
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what they warn of while they are imported is not our subject
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        missing = str(error.name)
if missing:
    print(f"{missing} is not installed. What the chapter does, as commands:\n")
    print("minirnn import lstm.safetensors --from torch --readout last -o lstm.npz     # torch's file, read")
    print("minirnn inspect lstm.npz --task adding --steps-in-time 10                   # where its gradient goes")
    print("minirnn export lstm.npz --to onnx -o lstm.onnx                              # for onnxruntime")
    print("\nand what becomes of the arrays of torch.nn.LSTM(2, 16):\n")
    theirs = mr.interop.to_torch(mr.LSTMLayer(2, H, rng=0))
    print(*(f"{name} {array.shape}" for name, array in theirs.items()), sep="\n")
    print(mr.interop.from_torch(theirs).report)

# %% [markdown]
# ## Trained by torch
# The adding problem with ten steps, in torch's own words.

# %%
if not missing:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    theirs = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(2, H), "head": torch.nn.Linear(H, 1)})
    batches, adam = task.batches(N, np.random.default_rng(0)), torch.optim.Adam(theirs.parameters(), 0.02)

    def predicted(x):
        return theirs["head"](theirs["lstm"](torch.from_numpy(x))[0][-1])

    for _, (x, y) in zip(range(UPDATES), batches, strict=False):
        loss = torch.nn.functional.mse_loss(predicted(x), torch.from_numpy(y))
        adam.zero_grad()
        loss.backward()
        adam.step()
    print(f"torch: {UPDATES} updates, loss {loss.item():.4f} (baseline {task.baseline:.4f})")

# %% [markdown]
# ## Read here, looked into, handed on
# Three commands of `minirnn`, called as functions; the report says what was made of which array, and what was added up.
# At the end onnxruntime gives the numbers that torch gives.

# %%
if not missing:
    with tempfile.TemporaryDirectory() as folder:
        saved, npz, exported = (os.path.join(folder, name) for name in ("lstm.safetensors", "lstm.npz", "lstm.onnx"))
        save_file(theirs.state_dict(), saved)
        assert main(["import", saved, "--from", "torch", "--readout", "last", "-o", npz]) == 0
        print()
        assert main(["inspect", npz, "--task", "adding", "--steps-in-time", str(T)]) == 0
        assert main(["export", npz, "--to", "onnx", "-o", exported]) == 0
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        zeros, (x, _) = np.zeros((N, H), np.float32), next(batches)
        given = {"x": x, "lengths": np.full(N, T, np.int32), "initial_h": zeros, "initial_c": zeros}
        far = np.abs(session.run(["predictions"], given)[0] - predicted(x).detach().numpy()).max()
    print(f"\nonnxruntime on a new mini-batch: within {far:.0e} of torch")
    assert far < 1e-5

# %% [markdown]
# ## Now you
# With the gates in another library's order this exercise fails, and the check says in which.

# %%
print(mr.exercises.EXERCISES["lstm_step"])
