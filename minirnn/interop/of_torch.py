"""Weights in and out of torch: what its modules call them, transposed, two biases for one."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop import parts
from minirnn.interop.parts import Arrays, InteropError, Report
from minirnn.layers import Embedding, Linear, RecurrentLayer, SequenceModel
from minirnn.layers.layer import Layer

_NAME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d{1,4}))?(_reverse)?")
_PLAIN = ({"weight"}, {"weight", "bias"})


def from_torch(
    source: Any,
    cell: str | None = None,
    *,
    activation: str = "tanh",
    reset_after: bool = True,
    prefix: str = "",
    batch_first: bool = False,
    readout: str | None = None,
) -> Any:
    """Make a model of a torch module's weights.

    Parameters
    ----------
    source : torch module, or dict of arrays or torch Tensors
        An RNN, LSTM, GRU or one of their cells, a Linear, an Embedding; or a module or state dict in which there is one
        recurrent part, at most one embedding before it and one head after it, which become a `SequenceModel`. How they
        are called one after the other is in the module's ``forward``, which is not read: the report says so.
    cell : "elman", "lstm" or "gru", optional
        To be sure: it follows from the arrays, 1, 4 or 3 blocks of rows.
    activation : "tanh" or "relu"
        Of an RNN, whose arrays do not say; a module does, and is believed.
    reset_after : bool
        As torch's GRU does; False is refused.
    prefix : str
        Only names that start so are read, such as ``"lstm."``; the report lists the others as left out.
    batch_first : bool
        Whether sequences are (N, T, D); a module's own ``batch_first`` is taken over.
    readout : "all" or "last", optional
        Of a whole model: whether its head reads every step or the last; "all" if left out. A Linear that may be the
        head, or stand before the recurrent part, is taken for the head if it is given, else refused.

    Returns
    -------
    Layer, Bidirectional, Stacked, Linear, Embedding or SequenceModel
        In evaluation as torch's ``eval()`` has it, with ``model.report``, a `Report`.

    Raises
    ------
    InteropError
        For arrays that are missing, left over, of another shape, not finite, or of something that minirnn has not.

    Notes
    -----
    b_h = bias_ih + bias_hh, but for a GRU's b_hn, which is bias_hh's block of n. No optimiser's moments are read.

    >>> import minirnn as mr
    >>> arrays = mr.interop.to_torch(mr.GRULayer(2, 3, rng=0))
    >>> {name: array.shape for name, array in arrays.items()}
    {'weight_ih_l0': (9, 2), 'weight_hh_l0': (9, 3), 'bias_ih_l0': (9,), 'bias_hh_l0': (9,)}
    >>> layer = from_torch(arrays)
    >>> print(layer.report)
    W_xh ← weight_ih_l0
    W_hh ← weight_hh_l0
    b_h ← bias_ih_l0 + bias_hh_l0
    b_hn ← bias_hh_l0[6:]
    summed: bias_ih_l0 and bias_hh_l0, but for the block of n
    """
    report = Report()
    state, modules = (source, {}) if isinstance(source, Mapping) else _of_module(source)
    arrays = Arrays(state, "from_torch", report)
    if not reset_after:
        arrays.refuse("reset_after=False: torch.nn.GRU resets after the product")
    outside = [name for name in arrays.given if not name.startswith(prefix)]
    report.left_out += [f"{name}, which does not start with {prefix!r}" for name in outside]
    groups: dict[str, list[str]] = {}
    for name in arrays.given:
        if name.startswith(prefix):
            of, _, own = name.rpartition(".")
            groups.setdefault(of, []).append(own)
    if not groups:
        arrays.refuse(f"no name starts with {prefix!r}: there are {parts.listed(arrays.given)}")
    settings = {"activation": activation, "batch_first": batch_first}
    model = _model(arrays, groups, modules, cell, settings, readout)
    _noted(report, modules, prefix)
    return report.closed(model)


def _of_module(source: Any) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return a module's state, and its modules by name: they are looked at, never called."""
    if not callable(getattr(source, "state_dict", None)) or not callable(getattr(source, "named_modules", None)):
        raise InteropError(f"from_torch: expected a torch module or a dict of arrays, got a {type(source).__name__}")
    return source.state_dict(), dict(source.named_modules())


def _noted(report: Report, modules: Any, prefix: str) -> None:
    """Note what a module holds beside its arrays: parts without any, and arrays that two parts share."""
    owner: dict[int, str] = {}
    for name, module in modules.items():
        kind, own = type(module).__name__, dict(module.named_parameters(recurse=False))
        if name.startswith(prefix) and not own and not any(True for _ in module.children()):
            why = "is for training only" if "Dropout" in kind else "holds no arrays and is not called here"
            report.left_out.append(f"{name} ({kind}), which {why}")
        for what, parameter in own.items():
            here = f"{name}.{what}".lstrip(".")
            if (first := owner.setdefault(id(parameter), here)) != here and here.startswith(prefix):
                report.assumed.append(f"{here} and {first} are one array there, and two here")


def _model(arrays: Arrays, groups: Any, modules: Any, cell: Any, settings: dict[str, Any], readout: Any) -> Any:
    recurrent = [of for of, names in groups.items() if any(_NAME.fullmatch(name) for name in names)]
    others = [of for of in groups if of not in recurrent]
    for of in others:
        if set(groups[of]) not in _PLAIN:
            inner = [name for name in groups[of] if isinstance(arrays.given.get(name), Mapping)] if not of else []
            hint = f": is the state dict its {inner[0]!r}?" if inner else ""
            arrays.refuse(f"{of or 'it'} holds {parts.listed(groups[of])}, and minirnn has no module of these{hint}")
    if len(recurrent) > 1:
        arrays.refuse(
            f"there are {len(recurrent)} recurrent parts, {parts.listed(recurrent)}: say by prefix= which to read"
        )
    if not recurrent:
        if len(others) > 1:
            arrays.refuse(f"there is no recurrent part among {parts.listed(others)}: say by prefix= which to read")
        return _plain_part(arrays, others[0], modules, None, len(groups[others[0]]) > 1)
    (of,) = recurrent
    model = _recurrent(arrays, of, groups[of], modules.get(of), cell, settings)
    if not others:
        if readout is not None:
            arrays.refuse(f"readout={readout!r} is of a whole model, and there is a recurrent part alone: leave it out")
        return model
    roles: dict[str, Any] = {}
    names = {"recurrent": of or "it"}
    for other in others:
        shape, alone = np.shape(arrays.given[f"{other}.weight" if other else "weight"]), len(groups[other]) == 1
        fits = [
            role
            for role, width in (("embedding", model.input_size), ("head", model.output_size))
            if shape[1:] == (width,) and (alone or role == "head")
        ]
        named = other.rpartition(".")[2] in fits  # as to_torch names them, in whatever order
        if shape[:1] == (model.input_size,) and not named:
            _none_before(arrays, other, of, fits, modules or groups, readout is not None)
        part = _plain_part(arrays, other, modules, fits == ["embedding"], len(fits) == 1) if fits else None
        role = "embedding" if isinstance(part, Embedding) else "head"
        if role in roles or role not in fits:
            why = f"neither an embedding before {of} nor a head after it, or a second one"
            arrays.refuse(f"{other} is {why}: say by prefix= which part to read")
        roles[role], names[role] = part, other
    if "head" not in roles:
        arrays.refuse(f"there is no head after {of}: say by prefix= which part to read")
    chain = " → ".join(names[role] for role in ("embedding", "recurrent", "head") if role in names)
    arrays.report.assumed.append(f"{chain}, the head on {readout or 'all'}: a module's forward is not read")
    return SequenceModel(model, roles["head"], readout or "all", embedding=roles.get("embedding"))


def _none_before(arrays: Arrays, other: str, of: str, fits: list[str], order: Mapping[str, Any], head: bool) -> None:
    """Refuse what may be a Linear that the recurrent part reads: it stands before it among the modules or the names."""
    known = not isinstance(order.get(other), list)  # a module, not the names of a dict
    linear = type(order.get(other)).__name__ == "Linear" if known else "head" in fits
    if linear and not head and [*order].index(other) < [*order].index(of):
        arrays.refuse(
            f"{other} stands before {of}, which could read what it gives, and minirnn has no Linear there: say by "
            "prefix= which part to read, or, if it is the head all the same, on which steps by readout="
        )
    if not known and fits == ["embedding"]:
        arrays.refuse(
            f"{other}.weight may be an Embedding, or a Linear without bias before {of}, which minirnn has not: give "
            "the module, or say by prefix= which part to read"
        )


def _plain_part(arrays: Arrays, of: str, modules: Any, embeds: bool | None, known: bool) -> Linear | Embedding:
    """Make a Linear or an Embedding, which a module's class tells apart, or its place in the model."""
    start = f"{of}." if of else ""
    name = f"{start}weight"
    if of in modules:
        kind = type(modules[of]).__name__
        if kind not in ("Linear", "Embedding"):
            arrays.refuse(f"{of or 'it'} is a {kind}, which minirnn has not")
        embeds = kind == "Embedding"
        for what in ("max_norm", "scale_grad_by_freq"):
            if getattr(modules[of], what, None):
                arrays.refuse(f"{of} is an Embedding with {what}, which minirnn has not")
    elif not known:
        arrays.refuse(f"{name} alone is an Embedding or a Linear without bias: give the module, or the whole model")
    elif embeds:
        arrays.report.assumed.append(
            f"{name} is an Embedding: its vectors are as wide as what the recurrent part reads"
        )
    weight = arrays.take(name, None, None)
    if embeds:
        made = parts.made_plain(arrays, Embedding, {"weight": (weight, name)})
        if (padding := getattr(modules.get(of), "padding_idx", None)) is not None:
            if weight[padding].any():
                arrays.report.left_out.append(f"padding_idx={padding} of {of or 'it'}, whose vector is not 0")
            else:
                made.padding_idx = padding
        return made  # type: ignore[no-any-return]
    found = {"weight": (weight.T, f"{name} transposed")}
    if arrays.has(f"{start}bias"):
        found["bias"] = arrays.take(f"{start}bias", weight.shape[0]), f"{start}bias"
    return parts.made_plain(arrays, Linear, found)  # type: ignore[no-any-return]


def _recurrent(arrays: Arrays, of: str, names: list[str], module: Any, cell: Any, settings: dict[str, Any]) -> Any:
    settings = _settings_of(arrays, module, settings)
    start, found = f"{of}." if of else "", [_NAME.fullmatch(name) for name in names]
    if unknown := [name for name, match in zip(names, found, strict=True) if match is None]:
        arrays.refuse(f"{of or 'it'} holds {parts.listed(unknown)} beside the weights of a recurrent module")
    places = {(match[2], match[3]) for match in found if match}
    layers, ways = sorted({int(k or 0) for k, _ in places}), sorted({way or "" for _, way in places})
    if ways == ["_reverse"] or layers != list(range(len(layers))) or len(places) != len(layers) * len(ways):
        arrays.refuse(f"{of or 'it'} has layers {layers} in directions {ways}: some are missing")
    suffixes = [f"_l{k}" for k in layers] if places != {(None, None)} else [""]
    kind = arrays.caller  # the first layer says
    levels: list[list[Layer]] = []
    for suffix in suffixes:
        level = []
        for way in ways:
            kind, layer = _layer(arrays, start, suffix + way, cell, settings, levels, bool(way))
            level.append(layer)
            cell = cell or kind
        levels.append(level)
    if kind == "elman" and module is None:
        arrays.report.assumed.append(f"activation {settings['activation']!r}, which the arrays do not say")
    parts.alike(levels, arrays.caller)
    return parts.assembled(levels)


def _settings_of(arrays: Arrays, module: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, those of a module in place of those given."""
    if module is None:
        return settings
    given, own = settings["activation"], getattr(module, "nonlinearity", None)
    if own and given not in ("tanh", own):
        arrays.refuse(f"activation={given!r}, and the module says {own!r}: leave it out")
    if p := getattr(module, "dropout", 0):
        arrays.report.left_out.append(f"dropout={p} between the layers, which is for training only")
    return {
        "activation": own or given,
        "batch_first": settings["batch_first"] or bool(getattr(module, "batch_first", False)),
    }


def _layer(
    arrays: Arrays, start: str, suffix: str, cell: Any, settings: dict[str, Any], levels: Any, reverse: bool
) -> tuple[str, Layer]:
    def name(what: str) -> str:
        return f"{start}{what}{suffix}"

    W_hh = arrays.take(name("weight_hh"), None, None)
    rows, H = W_hh.shape
    if projects := arrays.has(name("weight_hr")):
        W_hr = arrays.take(name("weight_hr"), H, rows // 4)
        H = W_hr.shape[1]
        if W_hr.shape[0] >= H:
            arrays.refuse(f"{name('weight_hr')} must have fewer rows than columns")
    kind = parts.cell_of(rows, H, cell, name("weight_hh"), arrays)
    below = sum(layer.output_size for layer in levels[-1]) if levels else None
    W_xh = arrays.take(name("weight_ih"), rows, below)
    found = {"W_xh": (W_xh.T, name("weight_ih")), "W_hh": (W_hh.T, name("weight_hh"))}
    found |= {"W_hr": (W_hr.T, name("weight_hr"))} if projects else {}
    if arrays.has(name("bias_ih")) or arrays.has(name("bias_hh")):
        of = f"{name('bias_ih')} + {name('bias_hh')}"
        b, b_hh = arrays.take(name("bias_ih"), rows), arrays.take(name("bias_hh"), rows)
        if kind == "gru":
            found["b_h"] = np.concatenate([b[: 2 * H] + b_hh[: 2 * H], b[2 * H :]]), of
            found["b_hn"] = b_hh[2 * H :], f"{name('bias_hh')}[{2 * H}:]"
        else:
            found["b_h"] = b + b_hh, of
        arrays.report.summed.append(of.replace(" + ", " and ") + ", but for the block of n" * (kind == "gru"))
    own = {k: v for k, v in settings.items() if k != "activation" or kind == "elman" or v != "tanh"}
    return kind, parts.made(arrays, kind, found, reverse=reverse, **own)


# --- out --------------------------------------------------------------------------------------------------------------


def to_torch(model: Any, prefix: str = "") -> dict[str, Array]:
    """Return a model's weights by the names that torch's modules give them, for ``load_state_dict``.

    Parameters
    ----------
    model : Layer, Bidirectional, Stacked, Linear, Embedding, SequenceModel or Sequential of these
        The layers of a stack must be alike in cell, width, bias and directions, as those of one torch module are. Of a
        whole model the names start with ``embedding.``, ``recurrent.`` and ``head.``.
    prefix : str
        What all names start with.

    Returns
    -------
    dict of arrays
        Copies, contiguous. b_h becomes ``bias_ih``, and ``bias_hh`` is 0 but for a GRU's block of n, b_hn.

    Raises
    ------
    InteropError
        For what torch has no module of: sigmoid or identity, ``reset_after=False``, ``reverse=True`` alone, a learned
        initial state, unlike layers, a cell of one's own. What is for training only is left out, with a warning, and
        another warning names the ``nonlinearity`` that an RNN must be told.
    """
    found: dict[str, Array] = {}
    for name, part in parts.parts_of(model, "to_torch"):
        start = prefix + (f"{name}." if name else "")
        if type(part) in (Linear, Embedding):
            weight = parts.weight_of(part)
            found[f"{start}weight"] = weight.T.copy("C") if isinstance(part, Linear) else weight
            if isinstance(part, Linear) and part.bias is not None:
                found[f"{start}bias"] = part.bias.data.copy()
        else:
            found |= {start + own: array for own, array in _names(part).items()}
    parts.left_for_training(model, "to_torch")
    parts.to_be_told(model, "torch", "to_torch", "nonlinearity")
    return found


def _names(model: Any) -> dict[str, Array]:
    levels = parts.levels_of(model, "to_torch")
    parts.alike(levels, "to_torch")
    if len({len(level) for level in levels}) > 1:
        raise InteropError("to_torch: some of the layers are Bidirectional, and others not: export them one by one")
    found = {}
    for k, level in enumerate(levels):
        for layer, suffix in zip(level, (f"_l{k}", f"_l{k}_reverse"), strict=False):
            _check(layer, len(level) > 1)
            H = layer.hidden_size
            found[f"weight_ih{suffix}"] = layer.W_xh.data.T.copy("C")
            found[f"weight_hh{suffix}"] = layer.W_hh.data.T.copy("C")
            if layer.output_size != H:
                found[f"weight_hr{suffix}"] = layer.W_hr.data.T.copy("C")
            if layer.b_h is not None:
                found[f"bias_ih{suffix}"] = layer.b_h.data.copy()
                found[f"bias_hh{suffix}"] = np.zeros_like(layer.b_h.data)
                if parts.kind_of(layer, "to_torch") == "gru" and layer.b_hn is not None:
                    found[f"bias_hh{suffix}"][2 * H :] = layer.b_hn.data
    return found


def _check(layer: Layer, paired: bool) -> None:
    """Refuse what no torch module computes."""
    fault = ""
    if isinstance(layer, RecurrentLayer) and layer.activation.name not in ("tanh", "relu"):
        fault = f"activation={layer.activation.name!r}: torch.nn.RNN has tanh and relu"
    elif not getattr(layer, "reset_after", True):
        fault = "reset_after=False: torch.nn.GRU resets after the product"
    elif layer.reverse and not paired:
        fault = "reverse=True alone: torch's modules go backward only beside a forward one; turn time round instead"
    elif layer.learn_initial_state:
        fault = "learn_initial_state=True: torch's modules have no such array; pass it to their call"
    if fault:
        raise InteropError(f"to_torch: {layer.name} has {fault}")
