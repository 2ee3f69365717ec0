"""What SVAG does not solve, refused by name and reason before compilation."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import SVAG, entropy_production, solve, stimuli
from equations import SGD, Adam, Circuit, Diagonal, Langevin, Objective, SignSGD, modified
from validation import compare, orders

RNG = np.random.default_rng(0)
OBJECTIVE = Objective(lambda w, x: 0.5 * jnp.sum((w - x) ** 2), RNG.normal(size=(8, 2)))
START = jnp.array([1.0, -1.0])
OBSERVE = {"w": lambda w: w}


class Drifting(SGD):
    def drift(self, t, state, signal):
        return jax.tree.map(lambda leaf: -leaf, state)


REFUSED = {
    "second degree": (Adam(0.1, 2), OBJECTIVE, {}, "Adam, whose velocity is not affine"),
    "sign": (SignSGD(0.1, 2), OBJECTIVE, {}, "SignSGD, whose velocity is not affine"),
    "full batch": (SGD(0.1), OBJECTIVE, {}, "SGD, whose steps are on the full batch"),
    "heat alone": (Langevin(0.1), OBJECTIVE, {}, "Langevin, whose steps are on the full batch"),
    "epochs": (SGD(0.1, 2, "shuffled"), OBJECTIVE, {}, "whose batches are shuffled epochs"),
    "described": (SGD(0.1, 2, noise_model=Diagonal()), OBJECTIVE, {}, "is not that of real batches"),
    "series": (modified(SGD(0.1, 2)), OBJECTIVE, {}, "whose drift is more than the velocity"),
    "own drift": (Drifting(0.1, 2), OBJECTIVE, {}, "whose Drifting.drift is not seen"),
    "controller": (
        SGD(0.1, 2), OBJECTIVE, {"stepsize_controller": dfx.PIDController(1e-3, 1e-3)}, "`stepsize_controller` must be None"
    ),
    "auto": (SGD(0.1, 2), OBJECTIVE, {"substeps": "auto"}, "`substeps` must be an integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_tend_to_the_equation_is_refused(name, key):
    equation, objective, more, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        solve(equation, objective, START, steps=2, key=key, solver=SVAG(2), **more)
    if not more:
        with pytest.raises(ValueError, match=message):
            compare(equation, objective, START, steps=2, key=key, observe=OBSERVE, solver=SVAG(2))


@pytest.mark.slow
def test_the_entropy_of_its_steps_is_warned_of(key):
    equation = SGD(0.1, 4)
    run = solve(equation, OBJECTIVE, START, steps=8, key=key, paths=8, solver=SVAG(2), keep_states=True)
    with pytest.warns(UserWarning, match="the steps of SVAG are on real minibatches and have no density"):
        entropy_production(equation, OBJECTIVE, run)


@pytest.mark.slow
def test_a_signal_without_examples_is_refused(key):
    stream = stimuli(np.ones((3, 2)), np.ones((3, 1)), duration=1.0)
    circuit = Circuit((2, 3, 1), "KP", 0.1, 10.0)
    with pytest.raises(ValueError, match="`objective` must be a mean over examples"):
        solve(circuit, stream, circuit.init(key), steps=1, dt=0.05, solver=SVAG(2))
    with pytest.raises(ValueError, match="`l` must be an integer of at least 1"):
        SVAG(0)
    with pytest.raises(ValueError, match=r"`solver` must be .*, but SVAG\(l=2\)"):
        orders(SGD(0.1, 2), OBJECTIVE, START, learning_rates=[0.1, 0.05, 0.02], time=1.0, key=key, solver=SVAG(2))
