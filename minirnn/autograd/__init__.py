"""The tiny core: what makes Tensors and their gradients. Read op.py, tape.py and record.py first: they are the idea."""

from minirnn.autograd import tensor as tensor  # completes what stands below it
