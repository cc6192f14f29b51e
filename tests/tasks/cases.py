"""What the tests of tasks share."""

import math

import numpy as np
import pytest

from minirnn.tasks import TASKS

PACKAGES = {"scikit-learn": "sklearn", "statsmodels": "statsmodels", "sktime": "sktime"}
"""The modules of the packages that tasks need."""


def built(name, **settings):
    """Build a task; skip the test where its package is missing."""
    needs = TASKS[name].needs
    if needs is not None:
        reason = f"{needs} is not installed: pip install -e '.[data]'"
        pytest.importorskip(PACKAGES[needs], reason=reason)
    return TASKS[name](**settings)


def assert_near(samples, expected, sigmas=4):
    """Assert that the mean of independent samples is what is expected, within its statistical error."""
    samples = np.asarray(samples, np.float64)
    error = samples.std() / math.sqrt(samples.size)
    assert samples.mean() == pytest.approx(expected, abs=sigmas * error + 1e-12)


def scores_of(ids, classes):
    """Return scores (…, C) whose largest is at the ids."""
    return np.eye(classes)[ids]
