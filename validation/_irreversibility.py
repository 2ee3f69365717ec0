"""`irreversibility`: how irreversible a training step is, measured in four ways, and the forces that come with it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics._ensemble import check_equation, check_key, check_params, dynamic_numbers, guard_traced
from equations import AbstractEquation, AbstractSignal
from equations._checks import choice, integer
from equations._series import moved
from equations._signal import is_parameter
from equations._slaved import Slaved

from ._batches import LARGEST, check_batches_only, count, enumerated, potential, sampled
from ._curl import curl
from ._irreversibility_report import VECTORS, Irreversibility
from ._one_batch import Measures, Step, dot, square


def irreversibility(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree,
    *,
    key: Array | None = None,
    batches: int = 64,
    substeps: int = 3,
    memory: str = "slaved",
    probes: int = 4,
) -> Irreversibility:
    r"""Measures the irreversibility of one training step from `params`, averaged over minibatches, in four ways.

    With phi = E|g_B|^2/4, g_B the gradient of a minibatch, and eta the learning rate, plain gradient steps have (derived;
    the potential and its normalisation are ours)

    - *backward error*: a step less the exact gradient flow on the same batch for the time eta, -> -eta^2 grad phi;
    - *time renormalized*: a step less `substeps` = n steps of length eta/n, -> -(1 - 1/n) eta^2 grad phi;
    - *time asymmetry*: a step and a step of -eta back, on the same batch, -> -2 eta^2 grad phi;
    - *entropy production*: a step with noise N(0, sigma^2 I) added makes the entropy ln P(theta'|theta)/P(theta|theta'),
        sigma^2 E[it] -> 8 eta^2 phi for sigma -> 0.

    The displacements over their factors are the `forces`. As scalars they are phi <F, -grad phi>/|grad phi|^2, which is phi
    where they agree. They do so for gradients and steps without memory or preconditioner, to leading order in eta; for
    all else the result says how far they are apart. A momentum mu on its slow manifold has, with gamma = 1/(1 - mu), the
    factor (1 + mu) gamma^3 for the backward error and gamma^2 for the time asymmetry.

    Up to 4096 different batches are enumerated. Of more, `batches` are drawn, and what is averaged over them is the
    difference to the leading term on the same batch, whose mean is known: phi and grad phi are exact in either case.

    **Arguments:**

    - `equation`, `objective`, `params`: as for `solve`; the equation's twin makes the steps, its velocity the flow.
    - `key`: needed where batches are drawn; it also sets the probes of the curl.
    - `batches`: how many are drawn where there are too many to enumerate; at least 2.
    - `substeps`: n of the time-renormalized measure, at least 2. (Without memory, n = 2 is the time asymmetry at eta/2.)
    - `memory`: of an optimizer with memory, `"slaved"`, what the batch repeated for ever would leave in it; or
        `"empty"`, as at the first step: displacements are then O(eta), not O(eta^2), where a memory keeps a part of itself.
    - `probes`: pairs of random directions for the curl; 0 leaves it out.

    **Returns:** an `Irreversibility`. Without memory, the four measures of a batch cost 8 + n gradients. Second-order
    differences need precision: use float64 below eta * lambda_max of about 0.01.

    **Raises:** TypeError or ValueError before any compilation, naming the argument.
    """
    check_equation(equation, AbstractEquation)
    equation = dynamic_numbers(equation)
    params = check_params(params)
    equation.check(params, objective)
    check_batches_only(equation)
    batches, substeps = integer("batches", batches, minimum=2), integer("substeps", substeps, minimum=2, maximum=64)
    memory = choice("memory", memory, ("slaved", "empty"))
    probes = integer("probes", probes, minimum=0)
    dynamic, static = eqx.partition(params, is_parameter)
    step = Step.of(equation, dynamic, memory, substeps)
    if step.memory == "slaved":
        Slaved.of(step.increment, 2).check(dynamic, objective.bind(static))
    whole = count(equation, objective.size) <= LARGEST
    key = check_key(key, not whole)
    if whole:
        indices, weights = enumerated(equation, objective.size)
    else:
        indices = sampled(equation, objective.size, jax.random.fold_in(key, 0), batches)
        weights = np.full(batches, 1 / batches)

    signal, dynamic = objective.bind(static), guard_traced(dynamic)
    few = np.unique(np.linspace(0, len(indices) - 1, 16).round().astype(int))
    curls = _curls(step, signal, dynamic, jnp.asarray(indices)[few], jnp.asarray(weights)[few], key, probes)
    phi, gradient, mean, square_, scalars, squares = _averages(
        step, signal, dynamic, jnp.asarray(indices), jnp.asarray(weights)
    )
    return _result(step, phi, gradient, mean, square_, scalars, squares, len(indices), whole, curls)


def _one(step: Step, signal, params, index) -> tuple[Measures, PyTree, Array]:
    """The measures of one batch, grad phi of it and phi of it."""
    batch = signal if step.equation.batch_size is None else signal.take(index)
    phi, gradient = jax.value_and_grad(lambda p: square(batch.gradient(p)) / 4)(params)
    return step.measures(params, batch), gradient, phi


@eqx.filter_jit
def _averages(step, signal, params, indices, weights):
    """phi, grad phi, and over the batches the means of the measures less their leading terms, and of the squares."""
    phi, gradient = potential(step.equation, signal, params)
    norm = square(gradient)

    def residual(index):
        measures, own, own_phi = _one(step, signal, params, index)
        vectors = [moved(getattr(measures, name), (1.0, own)) for name in VECTORS]
        scalars = [-phi * dot(vector, gradient) / norm for vector in vectors]
        scalars = jnp.stack([*scalars, measures.entropy_production - own_phi])
        return vectors, jnp.stack([square(vector) for vector in vectors]), scalars, scalars**2

    def add(total, item):
        index, weight = item
        return moved(total, (weight, residual(index))), None

    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(residual, indices[0])
    )  # fmt: skip
    mean, square_, scalars, squares = jax.lax.scan(add, zero, (indices, weights))[0]
    return phi, gradient, mean, square_, scalars, squares


@eqx.filter_jit
def _curls(step, signal, params, indices, weights, key, probes):
    """The curl of the velocity and of the three forces, which are averaged over a few batches."""
    if probes == 0:
        return {}
    etas = step.increment.learning_rate / jnp.array([1.0, 2.0])

    def fields(p):
        def add(total, item):
            index, weight = item
            batch = signal if step.equation.batch_size is None else signal.take(index)
            at = lambda eta: eqx.tree_at(lambda s: s.increment.learning_rate, step, eta)  # noqa: E731
            both = jax.vmap(lambda eta: at(eta).measures(p, batch))(etas)
            # Extrapolated to eta = 0, as far as two learning rates can.
            new = [jax.tree.map(lambda leaf: 2 * leaf[1] - leaf[0], getattr(both, name)) for name in VECTORS]
            return moved(total, (weight, new)), None

        zeros = [jax.tree.map(jnp.zeros_like, p) for _ in VECTORS]
        forces = jax.lax.scan(add, zeros, (indices, weights))[0]
        return [step.field(p, signal), *forces]

    values = curl(fields, params, jax.random.fold_in(key, 1), probes)
    return dict(zip(("velocity", *VECTORS), values, strict=True))


def _result(step, phi, gradient, mean, square_, scalars, squares, number, whole, curls) -> Irreversibility:
    phi, norm = float(phi), float(square(gradient))
    scalars, squares, square_ = (np.asarray(x, float) for x in (scalars, squares, square_))
    lengths = np.array([float(square(vector)) for vector in mean])
    if whole:
        spread, errors = np.zeros(len(VECTORS)), np.zeros(len(scalars))
    else:
        spread = np.maximum(square_ - lengths, 0) / (number - 1)
        errors = np.sqrt(np.maximum(squares - scalars**2, 0) / (number - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        # The square of a sample mean is too large by its own variance.
        distances = np.sqrt(np.maximum(lengths - spread, 0) / norm)
        uncertainties = np.sqrt(spread / norm)
    names = (*VECTORS, "entropy_production")
    forces = [moved(jax.tree.map(jnp.negative, gradient), (1.0, vector)) for vector in mean]
    return Irreversibility(
        equation=step.equation,
        phi=phi,
        phi_gradient=gradient,
        values=dict(zip(names, (phi + scalars).tolist(), strict=True)),
        standard_errors=dict(zip(names, errors.tolist(), strict=True)),
        forces=dict(zip(VECTORS, forces, strict=True)),
        distances=dict(zip(VECTORS, distances.tolist(), strict=True)),
        distance_errors=dict(zip(VECTORS, uncertainties.tolist(), strict=True)),
        curl={name: float(value) for name, value in curls.items()},
        batches=number,
        enumerated=whole,
        memory=step.memory,
        substeps=step.substeps,
    )
