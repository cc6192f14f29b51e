"""What the tests of interop share."""

import copy


def holds(state):
    """List the Tensors of a state, whatever it is nested in."""
    return [t for part in state for t in holds(part)] if isinstance(state, tuple | list) else [state]


def grads_as(writer, model):
    """Return the gradients of a model as a writer of weights would name them."""
    like = copy.deepcopy(model)
    for p, q in zip(like.parameters(), model.parameters(), strict=True):
        p.data = q.grad
    return writer(like)
