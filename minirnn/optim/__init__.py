"""Optimisers, and clipping of the gradients, all together by their norm or each entry by its size.

Each optimiser takes the Parameters once, as a list or in groups with settings of their own; then ``step()`` changes
those that have a ``grad``. A change gives a Parameter a new array: arrays that were taken from it or given to it before
stay as they are, and a backward pass that still needs the old values notices.
"""

from minirnn.optim.gradients import clip_grad_norm, clip_grad_value
from minirnn.optim.optimizer import Group, Optimizer
from minirnn.optim.rules import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Group", "Optimizer", "RMSprop", "clip_grad_norm", "clip_grad_value"]
