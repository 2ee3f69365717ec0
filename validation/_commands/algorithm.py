"""An algorithm by its name, as the commands compose it."""

from typing import Any

# On the digits; 0.001 for every other.
LEARNING_RATES = dict.fromkeys(("sgd", "sam", "extragradient", "optimisticgradient"), 0.1) | {
    "momentum": 0.01,
    "adagrad": 0.01,
}


def lookup(name: str) -> type:
    """The class of this name, or a user's own by `file.py:Name` or `module:Name`.

    **Raises:** ValueError with the nearest one that is known.
    """
    if ":" in name:
        return _own(name)
    from equations.internal import did_you_mean

    from .catalogue import algorithms, exported, signals

    known, plain = algorithms(), name.lower().replace("_", "").replace("-", "")
    if plain in known:
        return known[plain]
    if plain in exported() or plain in signals():
        raise ValueError(
            f"Argument `equation` must be one of {', '.join(sorted(known))}, but {name!r} was given, which goes around one "
            "or is descended by one: decay and schedules are the options --weight-decay and --schedule, all else is for "
            "Python."
        )
    hint = did_you_mean(plain, known)
    raise ValueError(f"Argument `equation` must be one of {', '.join(sorted(known))}, but {name!r} was given.{hint}")


def _own(name: str) -> type:
    from .catalogue import is_class_with
    from .function import load_function

    found: Any = load_function(name, ".", "equation")
    if not is_class_with(found, "scaling_limit"):
        raise ValueError(
            f"Argument `equation` must name a class of `equations.AbstractEquation`, but {name!r} is another thing."
        )
    return found


def composed(equation, weight_decay: float, schedule: str, steps: int):
    """The equation with the weight decay and the schedule that were asked for."""
    import optax

    from equations import decayed, scheduled
    from equations.internal import integer

    if weight_decay != 0:
        equation = decayed(equation, weight_decay)
    if schedule == "constant":
        return equation
    steps = integer("steps", steps)
    warmup = steps // 10 if schedule == "warmup" else 0
    return scheduled(equation, optax.warmup_cosine_decay_schedule(0.0 if warmup else 1.0, 1.0, warmup, steps))
