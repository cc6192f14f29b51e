"""The settings that recurrent layers share are spelled once, and shown whole by every layer."""

import inspect

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.layers.settings import SETTINGS, Settings, filled

LAYERS = {
    mr.RecurrentLayer: ["activation", "cell", "init"],
    mr.LSTMLayer: ["forget_bias", "proj_size", "peepholes"],
    mr.GRULayer: ["reset_after"],
}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_shows_all_settings_in_its_signature_and_its_docstring(layer):
    parameters = inspect.signature(layer).parameters
    assert list(parameters) == ["input_size", "hidden_size", *LAYERS[layer], *SETTINGS]
    assert list(SETTINGS) == list(Settings.__annotations__)
    for name, setting in SETTINGS.items():
        assert parameters[name].default is setting.default
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"\n{name} : {setting.kind}\n    {setting.meaning.split()[0]} " in layer.__doc__
    assert "**settings" not in layer.__doc__
    assert max(map(len, layer.__doc__.splitlines())) <= 120
    assert 'backend: "fused" or "graph" = \'fused\'' in str(inspect.signature(layer))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_setting_that_is_not_known_is_refused_with_a_hint(layer):
    message = f"{layer.__name__}: got an unexpected keyword argument 'revers': did you mean 'reverse'?"
    with raises(TypeError, message):
        layer(3, 4, revers=True)
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'q': there are bias, backend, reverse, "):
        layer(3, 4, q=1)


def test_what_is_not_given_has_its_default_and_all_is_checked():
    settings = filled({"reverse": True, "rng": 0}, "Layer")
    for name, setting in SETTINGS.items():
        if name not in ("reverse", "rng"):
            assert getattr(settings, name) == setting.check(setting.default, name), name
    assert settings.reverse is True
    with raises(ValueError, "Layer: message_clip must be a positive number, got -1.0: try 1.0"):
        filled({"message_clip": -1.0}, "Layer")


def test_a_layer_of_ones_own_takes_them_too():
    class Mine(mr.LSTMLayer):
        pass

    assert inspect.signature(Mine) == inspect.signature(mr.LSTMLayer)
    assert Mine(2, 3, dtype=np.float64, batch_first=True).batch_first
