"""Real-time recurrent learning: forward in time, and the same gradients."""

import numpy as np
import pytest
from bptt_cases import KINDS, LENGTHS, WAYS, make, worst
from error_texts import raises

import minirnn as mr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_it_equals_bptt(kind, way, lengths):
    case = make(kind, lengths=lengths, **WAYS[way])
    found = mr.bptt.rtrl(case.layer, case.x, case.loss, case.state, lengths)
    assert worst(found, case.true_gradients()) < 1e-10


def test_it_goes_forward_only(monkeypatch):
    """It makes each step's Jacobian once, in the order of the steps, and never goes back over two."""
    from minirnn.bptt.unrolled import Unrolled

    case, seen = make("lstm"), []
    back = Unrolled.back
    monkeypatch.setattr(Unrolled, "back", lambda self, k, d: seen.append(k) or back(self, k, d))
    mr.bptt.rtrl(case.layer, case.x, case.loss, case.state)
    assert seen == list(range(7))


def test_influences_that_would_not_fit_are_refused_with_the_bytes():
    layer = mr.RecurrentLayer(2, 1000, rng=0)
    x = np.ones((2, 1, 2), np.float32)
    with raises(
        MemoryError,
        "rtrl: the influences of the parameters on the state would take 8,048,000,000 bytes, more than 1,073,741,824: "
        "take fewer neurons or rows; trace gives the same gradients",
    ):
        mr.bptt.rtrl(layer, x, lambda outputs: outputs.sum())


def test_clipped_messages_are_refused():
    case = make("elman", message_clip=0.5)
    with raises(
        ValueError,
        "rtrl: the layer has message_clip=0.5, with which gradients do not add up: set it to None on the layer, or "
        "make one without",
    ):
        mr.bptt.rtrl(case.layer, case.x, case.loss)
