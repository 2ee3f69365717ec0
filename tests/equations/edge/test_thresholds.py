"""Where the linearized step has an eigenvalue -1, and the sharpness in units of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dynamics import solve, train
from equations import (
    SAM,
    SGD,
    AdaGrad,
    Adam,
    LaProp,
    Lion,
    Momentum,
    NAdam,
    Objective,
    RMSProp,
    RodFlow,
    SignSGD,
    decayed,
    from_optax,
    hessian_eigenpairs,
    sharpness,
    stability_threshold,
)

ETA, BETA = 0.1, 0.8
FORMULAS = {
    "sgd": (SGD(ETA), 2 / ETA),
    "heavy ball": (Momentum(ETA, momentum=BETA), 2 * (1 + BETA) / ETA),
    "nesterov": (Momentum(ETA, momentum=BETA, nesterov=True), (2 + 2 * BETA) / ((1 + 2 * BETA) * ETA)),
    "adam": (Adam(ETA, b1=BETA), 2 * (1 + BETA) / ((1 - BETA) * ETA)),
    "from_optax": (from_optax(lambda learning_rate: optax.adam(learning_rate, b1=BETA), ETA), 2 * 1.8 / (0.2 * ETA)),
    "laprop": (LaProp(ETA, b1=BETA), 2 * (1 + BETA) / ((1 - BETA) * ETA)),
    "rmsprop": (RMSProp(ETA), 2 / ETA),
    "decayed": (decayed(SGD(ETA), 0.5), 2 / ETA - 0.5),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    equation, expected = FORMULAS[name]
    assert float(stability_threshold(equation)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_without_the_memory_adam_would_have_another():
    """The mutant 2/eta, which forgets (1 + b1)/(1 - b1)."""
    assert float(stability_threshold(Adam(ETA, b1=BETA))) > 5 * 2 / ETA


@pytest.mark.parametrize("equation", [SignSGD(ETA), Lion(ETA)], ids=["sign", "lion"])
def test_rules_of_the_sign_have_none(equation):
    assert stability_threshold(equation) is None


def test_a_rule_of_two_gradients_is_refused():
    with pytest.raises(ValueError, match="Argument `equation` must take one gradient in a step"):
        stability_threshold(SAM(ETA, rho=0.1))


@pytest.mark.parametrize(
    "equation",
    [
        SGD(ETA),
        Momentum(ETA, momentum=BETA),
        Momentum(ETA, momentum=BETA, nesterov=True),
        from_optax(lambda learning_rate: optax.sgd(learning_rate, momentum=BETA), ETA),
        decayed(Momentum(ETA, momentum=0.5), 0.3),
    ],
    ids=["sgd", "heavy ball", "nesterov", "optax", "decayed"],
)
def test_a_parabola_diverges_on_one_side(equation):
    """Within 1 %."""
    edge = float(stability_threshold(equation))
    for factor, grows in ((0.99, False), (1.01, True)):
        curvature = factor * edge
        objective = Objective(lambda w, e: e * w**2 / 2, jnp.array([curvature]))
        run = train(equation, objective, jnp.array(1e-3), steps=2000, observe={"w": jnp.abs}, save_every=1000)
        middle, end = np.asarray(run.observables["w"])[0, 1:]
        assert (not run.ok[0] or end > middle) == grows


@pytest.mark.parametrize(
    "rule",
    [
        lambda rate: optax.chain(optax.scale_by_adam(b1=BETA, b2=1.0), optax.scale(-rate)),
        lambda rate: optax.chain(optax.scale_by_rms(decay=1.0, initial_scale=1.0), optax.scale(-rate)),
    ],
    ids=["adam", "rmsprop"],
)
def test_adaptive_rules_with_the_second_moment_frozen(rule):
    """The linear step by hand: second moment one, no bias correction."""
    kind = BETA if "adam" in str(rule(ETA).init(jnp.zeros(1))).lower() else 0.0
    edge = 2 * (1 + kind) / ((1 - kind) * ETA)
    for factor, grows in ((0.99, False), (1.01, True)):
        step = np.array([[1 - ETA * (1 - kind) * factor * edge, -ETA * kind], [(1 - kind) * factor * edge, kind]])
        assert (np.max(np.abs(np.linalg.eigvals(step))) > 1) == grows


def net(w, e):
    return jnp.sum((jnp.tanh(w["a"] @ e[0]) @ w["b"] - e[1]) ** 2) / 2


def problem():
    keys = jax.random.split(jax.random.key(3), 4)
    data = jax.random.normal(keys[0], (20, 4)), jax.random.normal(keys[1], (20, 2))
    weights = {"a": jax.random.normal(keys[2], (5, 4)), "b": jax.random.normal(keys[3], (5, 2))}
    return Objective(net, data), weights


def dense(objective, weights):
    flat, unravel = jax.flatten_util.ravel_pytree(weights)
    return np.linalg.eigvalsh(jax.hessian(lambda w: objective.value(unravel(w)))(flat))[::-1]


@pytest.mark.slow
def test_sharpness_is_that_of_the_dense_hessian():
    objective, weights = problem()
    expected = dense(objective, weights)
    np.testing.assert_allclose(sharpness(objective)(weights), expected[0], rtol=1e-8)
    np.testing.assert_allclose(sharpness(objective, top=4)(weights), expected[:4], rtol=1e-6)
    values, vectors = hessian_eigenpairs(objective, weights, top=3)
    flat = np.concatenate([np.asarray(vectors[name]).reshape(3, -1) for name in ("a", "b")], axis=1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=1e-10)


@pytest.mark.slow
def test_eigenvectors_by_plain_lanczos_would_not_do():
    """Without reorthogonalization copies of the largest eigenvalue appear: the mutant."""
    matrix = np.diag(np.concatenate([[100.0], np.linspace(0, 1, 59)]))
    basis, vector, before, beta = [], np.ones(60) / 60**0.5, np.zeros(60), 0.0
    for _ in range(30):
        basis.append(vector)
        image = matrix @ vector - beta * before
        image -= (image @ vector) * vector
        beta = np.linalg.norm(image)
        before, vector = vector, image / beta
    rows = np.array(basis)
    assert np.max(np.abs(rows @ rows.T - np.eye(30))) > 1e-3
    objective = Objective(lambda w, e: jnp.sum(e * w**2) / 2, jnp.asarray(np.diag(matrix))[None])
    values, vectors = hessian_eigenpairs(objective, jnp.zeros(60), top=3)
    np.testing.assert_allclose(np.asarray(vectors) @ np.asarray(vectors).T, np.eye(3), atol=1e-10)
    assert values[1] < 1.01


@pytest.mark.parametrize(
    "spectrum",
    [[3.0] + 39 * [0.0], 40 * [0.0], 40 * [-2.0], [1.0, -5.0], [2.0], [4.0, 4.0, 1.0] + 37 * [0.5]],
    ids=["rank one", "zero", "negative", "two", "one", "degenerate"],
)
def test_where_krylov_spaces_end_early(spectrum):
    objective = Objective(lambda w, e: jnp.sum(e * w**2) / 2, jnp.array([spectrum]))
    found = sharpness(objective)(jnp.zeros(len(spectrum)))
    assert float(found) == pytest.approx(max(spectrum), abs=1e-10)


def test_by_thirty_products():
    """An evaluation of a gradient inside of a loop is traced once: the loop has thirty turns."""
    objective = Objective(lambda w, e: jnp.sum(e * w**2) / 2, jnp.linspace(0, 1, 100)[None])
    loops = str(jax.make_jaxpr(sharpness(objective))(jnp.zeros(100)))
    assert "length=30" in loops


@pytest.mark.slow
def test_in_units_of_the_threshold():
    objective, weights = problem()
    found = float(sharpness(objective, SGD(ETA))(weights, weights))
    assert found == pytest.approx(ETA * dense(objective, weights)[0] / 2, rel=1e-8)
    ball = Momentum(ETA, momentum=BETA)
    assert float(sharpness(objective, ball)(weights, ball.init(weights))) == pytest.approx(found / 1.8, rel=1e-8)


@pytest.mark.slow
def test_preconditioned_by_the_state():
    """The same from a run of Adam, from its equation, and from a rod flow: those of a dense matrix."""
    objective, weights = problem()
    adam = Adam(0.01, b1=BETA)
    observe = {"edge": sharpness(objective, adam), "nu": lambda w, s: jax.flatten_util.ravel_pytree(s.nu)[0]}
    run = train(adam, objective, weights, steps=40, observe=observe, save_every=40)
    flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf: leaf[0], run.final))
    root = np.sqrt(np.asarray(run.observables["nu"])[0, -1]) + 1e-8
    hessian = jax.hessian(lambda w: objective.value(unravel(w)))(flat)
    reach = 0.01 * 0.2 / (2 * 1.8) / root
    expected = np.linalg.eigvalsh(np.sqrt(reach)[:, None] * hessian * np.sqrt(reach))[-1]
    assert float(run.observables["edge"][0, -1]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_observed_along_flow_and_run(key):
    objective, weights = problem()
    rod, observe = RodFlow(Adam(0.01)), {"loss": objective.value, "edge": sharpness(objective, Adam(0.01))}
    flow = solve(rod, objective, weights, steps=4, key=key, observe=observe, save_every=2)
    run = train(rod, objective, weights, steps=4, observe=observe, save_every=2)
    assert set(flow.averages) == {"loss"} and set(flow.extras) == {"oscillation"}
    assert set(run.observables) == set(flow.observables)
    assert np.all(np.isfinite(flow.observables["edge"])) and flow.observables["edge"].shape == (1, 3)


def test_names_that_a_flow_records_itself_are_refused(key):
    objective, weights = problem()
    with pytest.raises(ValueError, match=r"Argument `observe` must not use the names that a RodFlow records itself"):
        solve(RodFlow(SGD(0.1)), objective, weights, steps=2, key=key, observe={"oscillation": objective.value})


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda o: sharpness(lambda w: 0.0), "Argument `objective` must be"),
        (lambda o: sharpness(o, top=0), "Argument `top` must be"),
        (lambda o: sharpness(o, top=31), "Argument `top` must be"),
        (lambda o: sharpness(o, "adam"), "Argument `equation` must be"),
        (lambda o: RodFlow("adam"), "Argument `equation` must be"),
        (lambda o: RodFlow(SGD), "Argument `equation` must be"),
        (lambda o: RodFlow(SGD(0.1), seed_scale=-1.0), "Argument `seed_scale` must be"),
        (lambda o: RodFlow(RodFlow(SGD(0.1))), "Argument `equation` must not be a RodFlow"),
        (lambda o: decayed(RodFlow(SGD(0.1)), 0.1), "Argument `equation` must not be a RodFlow"),
        (lambda o: stability_threshold(3), "Argument `equation` must be"),
    ],
)
def test_wrong_use(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(problem()[0])


@pytest.mark.slow
def test_nadam_and_adagrad_are_known():
    for equation in (NAdam(ETA), AdaGrad(ETA)):
        assert float(stability_threshold(equation)) > 0
