"""`irreversibility`: how irreversible a training step is, measured in four ways, and the forces that come with it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from dynamics import Trajectory
from dynamics.internal import Problem, check_key, ended
from equations import AbstractEquation, AbstractSignal
from equations.internal import (
    LARGEST_CORRECTION,
    SlowManifold,
    add_scaled,
    check_derivatives,
    correction_of,
    eliminated,
    integer,
    is_traced,
    warn,
)

from .._compare.student import root_with_error, skewed, widening
from . import leading_order
from .batches import LARGEST, check_batches_only, count, enumerated, potential, sampled
from .curl import curl
from .one_batch import Measures, Step, dot, square
from .result import VECTORS, Irreversibility

_FEWEST = 32  # batches that are drawn: of fewer no error bar held
_GROUPS = 16  # of batches, whose means give the error of a distance


def irreversibility(
    equation: AbstractEquation,
    objective: AbstractSignal,
    params: PyTree = None,
    *,
    key: Array | None = None,
    batches: int = 64,
    substeps: int = 3,
    memory: str = "adiabatic",
    probes: int = 4,
    start: Trajectory | None = None,
) -> Irreversibility:
    r"""Measures the irreversibility of one training step from `params`, averaged over minibatches, in four ways.

    With phi = E|g_B|^2/4, g_B the gradient of a minibatch, and eta the learning rate, plain gradient steps have (derived;
    the potential and its normalization are ours)

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
    - `batches`: how many are drawn where there are too many to enumerate; at least 32.
    - `substeps`: n of the time-renormalized measure, at least 2. (Without memory, n = 2 is the time asymmetry at eta/2.)
    - `memory`: of an optimizer with memory, `"adiabatic"`, what the batch repeated for ever would leave in it; or
        `"empty"`, as at the first step: displacements are then O(eta), not O(eta^2), where a memory keeps a part of itself.
        A memory that never forgets (AdaGrad's, AMSGrad's), or not linearly (LaProp's), and one under a schedule that ends
        have no slow manifold and can only be empty; the velocity is then that of the first step. A manifold is a series in
        eta/(1 - b) for a memory b: Adam's b2 = .999 asks for small learning rates. Counts are at
        infinity on a slow manifold and at zero elsewhere: a schedule of plain steps has its first value.
    - `probes`: pairs of random directions for the curl; 0 leaves it out.

    - `start`: in place of `params`, those with which this run of one path ended.

    **Returns:** an `Irreversibility`. The four measures of a batch cost 4 + n gradients, 7 + n on a slow manifold, of which
    one is differentiated for the leading term; phi and grad phi one pass over the examples for all batches together.
    Second-order differences need precision: use float64 below eta * lambda_max of about 0.01.

    **Raises:** TypeError or ValueError before any compilation, naming the argument; a ValueError where a slow manifold
    leads to numbers that are not finite. Warns where its correction is as large as the memory, and beyond the leading
    order, where a measure is more than half off its limit: of plain steps phi and -grad phi, of all others the limit
    that smaller learning rates let expect (twice the gradients; from an empty
    memory three times, for that of the displacement over eta or over eta^2, whichever it is nearer to).
    """
    problem = Problem.of(equation, objective, ended(start, params))
    equation, dynamic = problem.equation, problem.dynamic
    check_derivatives(objective, problem.params, "`irreversibility`")
    check_batches_only(equation)
    batches, substeps = (
        integer("batches", batches, minimum=_FEWEST),
        integer("substeps", substeps, minimum=2, maximum=64),
    )
    memory = eliminated(memory, ("adiabatic", "empty"))
    probes = integer("probes", probes, minimum=0)
    step = Step.of(equation, dynamic, memory, substeps)
    if step.memory == "adiabatic":
        SlowManifold.of(step.increment, 2).check_memory(dynamic, "'empty'")
    if not (is_traced(step.rate) or step.rate != 0):
        raise ValueError("Argument `equation` must move at the first step, but its schedule begins with 0.")
    every = count(equation, objective.size) <= LARGEST
    key = check_key(key, not every)
    if every:
        indices, weights = enumerated(equation, objective.size)
    else:
        indices = sampled(equation, objective.size, jax.random.fold_in(key, 0), batches)
        weights = np.full(batches, 1 / batches)

    signal, dynamic = problem.signal, problem.guarded
    few = np.unique(np.linspace(0, len(indices) - 1, 16).round().astype(int))
    curls = _curls(step, signal, dynamic, jnp.asarray(indices)[few], jnp.asarray(weights)[few], key, probes)
    groups = 1 if every else min(len(indices), _GROUPS)
    averages = _averages(step, signal, dynamic, jnp.asarray(indices), jnp.asarray(weights), groups)
    gradient_steps = signal.is_loss and bool(_is_plain(step, signal, dynamic))
    result = _result(step, *averages, len(indices), every, curls, gradient_steps)
    if not gradient_steps and result.manifold_correction < LARGEST_CORRECTION:
        averages = {}
        for n in leading_order.OF_EMPTY if result.memory == "empty" else (2,):
            smaller = eqx.tree_at(lambda s: s.increment.learning_rate, step, step.increment.learning_rate / n)
            averages[n] = _averages(smaller, signal, dynamic, jnp.asarray(indices), jnp.asarray(weights), groups)[1:3]
        leading_order.check(result, averages)
    return result


def _one(step: Step, signal, params, index) -> tuple[Measures, PyTree, Array]:
    """The measures of one batch, grad phi of it and phi of it."""
    batch = signal if step.equation.batch_size is None else signal.take(index)
    gradient, pull = jax.vjp(batch.gradient, params)
    (twice,) = pull(gradient)
    return step.measures(params, batch, gradient), jax.tree.map(lambda leaf: leaf / 2, twice), square(gradient) / 4


@eqx.filter_jit
def _averages(step, signal, params, indices, weights, groups=1):
    """phi, grad phi, and over the batches the means of the measures less their leading terms and of the squared lengths of
    averages and their corrections, `(2, n)`; of the vectors also the
    products of the means over groups of batches, `(3, groups, groups)`, of the scalars also the mean squares and cubes."""
    phi, gradient = potential(step.equation, signal, params)
    norm = square(gradient)

    def residual(index):
        measures, own, own_phi = _one(step, signal, params, index)
        vectors = [add_scaled(getattr(measures, name), (1.0, own)) for name in VECTORS]
        scalars = [-phi * dot(vector, gradient) / norm for vector in vectors]
        scalars = jnp.stack([*scalars, measures.entropy_production - own_phi])
        return vectors, scalars, measures.manifold

    def add(total, item):
        sums, *others = total
        place, index, weight = item
        vectors, new, manifold = residual(index)
        sums = jax.tree.map(lambda s, v: s.at[place].add(weight.astype(v.dtype) * v), sums, vectors)
        added = [add_scaled(t, (weight, x)) for t, x in zip(others, (manifold, new, new**2, new**3), strict=True)]
        return (sums, *added), None

    shapes, four, two = jax.eval_shape(residual, indices[0])
    sums = jax.tree.map(lambda leaf: jnp.zeros((groups, *leaf.shape), leaf.dtype), shapes)
    places = jnp.arange(len(indices)) % groups
    begin = (sums, *(jnp.zeros(shape.shape, shape.dtype) for shape in (two, four, four, four)))
    (sums, lengths, *powers), _ = jax.lax.scan(add, begin, (places, indices, weights))
    mean = jax.tree.map(lambda leaf: leaf.sum(0), sums)
    shares = jax.ops.segment_sum(weights, places, groups)
    products = jnp.stack([
        sum(flat @ flat.T for flat in (leaf.reshape(groups, -1) for leaf in jax.tree.leaves(vector))) for vector in sums
    ])  # fmt: skip
    products = products / (shares[:, None] * shares).astype(products.dtype)
    return phi, gradient, mean, lengths, products, jnp.stack(powers)


@eqx.filter_jit
def _is_plain(step, signal, params):
    """Whether the step is a plain gradient step."""
    gradient = signal.gradient(params)
    velocity = step.field(params, signal, gradient)
    off = add_scaled(gradient, (step.increment.learning_rate / step.rate, velocity))
    precision = jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).eps
    return (step.memory == "none") & (square(off) <= (1e3 * precision) ** 2 * square(gradient))


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
            return add_scaled(total, (weight, new)), None

        zeros = [jax.tree.map(jnp.zeros_like, p) for _ in VECTORS]
        forces = jax.lax.scan(add, zeros, (indices, weights))[0]
        return [step.field(p, signal), *forces]

    values = curl(fields, params, jax.random.fold_in(key, 1), probes)
    return dict(zip(("velocity", *VECTORS), values, strict=True))


def _length(products: np.ndarray, batches: int) -> tuple[float, float]:
    """The length of a mean vector from the products of its means over groups, without its own noise; and its error.

    The square is the mean product of different groups, which has no bias and may be negative; its error is the jackknife's
    over groups, from which that of the length follows. What single batches leave is far from Gaussian (a kurtosis of 10 to
    70 was measured), so that a sixteenth of them count as degrees of freedom.
    """
    number = len(products)
    off = products - np.diag(np.diagonal(products))
    total, rows = off.sum(), off.sum(axis=1)
    left = (total - 2 * rows) / ((number - 1) * (number - 2))
    spread = np.sqrt((number - 1) / number * np.sum((left - left.mean()) ** 2))
    return root_with_error(total / (number * (number - 1)), spread * widening(min(max(batches // 16, 3), number - 1)))


def _mean_errors(powers: np.ndarray, number: int) -> np.ndarray:
    """Of means over `number` draws, from these and the means of the squares and the cubes."""
    mean, squares, cubes = powers
    variance = np.maximum(squares - mean**2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = (cubes - 3 * mean * squares + 2 * mean**3) / variance**1.5
    return skewed(skewness, number) * np.sqrt(variance / (number - 1))


def _correction(step, mean, entropy, lengths) -> float:
    """How large the manifold's correction is beside the memory; a ValueError or a warning where there is no manifold."""
    correction = correction_of(lengths)
    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((mean, entropy)))
    if step.memory == "adiabatic" and not finite:
        raise ValueError(
            "Argument `equation` must have a slow manifold at its learning rate, but that of "
            f"{type(step.equation).__name__} at {float(step.increment.learning_rate):g} leads to numbers that are not "
            f"finite (its correction to the memory is {correction:.3g} times the memory, and may leave a second moment "
            "negative): a smaller learning rate, a larger eps, a memory that forgets faster, or memory='empty'."
        )
    if not correction < LARGEST_CORRECTION:
        warn(
            f"Argument `equation`: no slow manifold at this learning rate, since its correction is {correction:.3g} times "
            "the memory itself, and the measures mean little; a smaller learning rate, a larger eps, a memory that "
            "forgets faster, or memory='empty'."
        )
    return correction


def _result(
    step, phi, gradient, mean, lengths, products, powers, number, every, curls, gradient_steps
) -> Irreversibility:
    phi, norm = float(phi), float(square(gradient))
    powers, products = (np.asarray(x, float) for x in (powers, products))
    scalars = powers[0]
    correction = _correction(step, mean, scalars[-1], lengths)
    if every:
        lengths = [(product.item() ** 0.5, 0.0) for product in products]
        errors = np.zeros(len(scalars))
    else:
        lengths = [_length(product, number) for product in products]
        errors = _mean_errors(powers, number)
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes, uncertainties = np.array(lengths).T / np.sqrt(norm)
    names = (*VECTORS, "entropy_production")
    values: dict[str, Any] = dict(zip(names, (phi + scalars).tolist(), strict=True))
    standard_errors: dict[str, Any] = dict(zip(names, errors.tolist(), strict=True))
    distances: dict[str, Any] = dict(zip(VECTORS, sizes.tolist(), strict=True))
    distance_errors: dict[str, Any] = dict(zip(VECTORS, uncertainties.tolist(), strict=True))
    if gradient_steps and norm > 0:
        over = lambda numbers: {name: number / phi for name, number in numbers.items()}  # noqa: E731
        off = leading_order.of_gradient_steps(over(values), over(standard_errors), distances, distance_errors)
        far = max(distances[name] - 3 * distance_errors[name] for name in VECTORS)
        leading_order.warn_beyond(off, True, far, float(step.rate))
    forces = [add_scaled(jax.tree.map(jnp.negative, gradient), (1.0, vector)) for vector in mean]
    return Irreversibility(
        equation=step.equation,
        phi=phi,
        phi_gradient=gradient,
        values=values,
        standard_errors=standard_errors,
        forces=dict(zip(VECTORS, forces, strict=True)),
        distances=distances,
        distance_errors=distance_errors,
        curl={name: float(value) for name, value in curls.items()},
        batches=number,
        enumerated=every,
        memory=step.memory,
        substeps=step.substeps,
        gradient_steps=gradient_steps,
        manifold_correction=correction,
    )
