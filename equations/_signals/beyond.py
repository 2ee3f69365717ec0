"""Losses that ask for more than their example: what to do instead, by the error that they raise."""

import traceback
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


def beyond_one_example(error: Exception) -> str | None:
    """What to do where a loss asks for more than its example: by the layer of Equinox, the missing argument of the loss
    itself or the unbound axis that the error comes from; None for all others."""
    text = str(error)
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    layers = {
        name for name in ("_dropout", "_batch_norm", "_stateful") if any(f"equinox/nn/{name}.py" in f for f in files)
    }
    missing = isinstance(error, TypeError) and "missing" in text and "argument" in text
    itself = missing and files and files[-1].startswith(_PACKAGE)  # the call of the loss failed, not one within it
    if layers & {"_batch_norm", "_stateful"} or (missing and "'state'" in text and "BatchNorm" in text):
        return (
            "(BatchNorm mixes the examples of a batch and keeps a state between steps: eqx.nn.inference_mode(model) with a "
            "copy of the state made in the loss, jax.tree.map(lambda x: x, state), is a function of one example, as "
            "LayerNorm and GroupNorm are.)"
        )
    if "_dropout" in layers or (itself and "'key'" in text):
        return (
            "(dropout needs a key, which loss(params, example, key) gets by Objective(loss, data, random=True); "
            "eqx.nn.inference_mode(model) leaves dropout out, and noise that the algorithm adds to its gradients is a "
            "`noise_model`.)"
        )
    if isinstance(error, NameError) and "axis name" in text:
        return "(psum, pmean and the like need the other examples of a batch; what a loss sees is one.)"
    return None
