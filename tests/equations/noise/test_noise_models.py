"""Every noise model has the covariance of its formula, in the equation and in the algorithm, and its mutants have not."""

import dataclasses
import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import mutants_noise
import numpy as np
import optax
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree
from marks import some
from oracles import LinearRegression

from dynamics import solve, train
from equations import (
    SGD,
    Adam,
    Batches,
    Diagonal,
    Isotropic,
    LabelNoise,
    Lion,
    Minibatch,
    Modified,
    Momentum,
    Objective,
    Oja,
    StudentT,
    UnderdampedLangevin,
    from_optax,
    modified,
)
from equations._modified.increment import Increment
from equations._noise import squares as variance_samples
from equations._noise.squares import mean_square
from equations.internal import split
from validation._orders.moment_equations import discrete

EXAMPLES, SCALE, DF, BATCH = 4, 0.3, 5.0, 2
RNG = np.random.default_rng(0)
PARAMS = {"layer": ({"w": jnp.asarray(RNG.normal(size=(2, 2))), "b": jnp.asarray(RNG.normal(size=2))},),
          "scale": jnp.asarray(0.7)}  # fmt: skip
DATA = (RNG.normal(size=(EXAMPLES, 2)), RNG.normal(size=EXAMPLES))


def loss(params, example):
    (layer,) = params["layer"]
    hidden = jnp.tanh(layer["w"] @ example[0] + layer["b"])
    return 0.5 * (params["scale"] * jnp.sum(hidden) - example[1]) ** 2


OBJECTIVE = Objective(loss, DATA)


def flat(tree):
    return ravel_pytree(tree)[0]


def zeros(structure):
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structure))


# ---------------------------------------------------------------------------------------------------------------------
# Covariances, by formulas of their own: per-example gradients and their derivatives by the label, one by one.


@functools.cache
def single_gradients():
    return np.array([flat(jax.grad(loss)(PARAMS, (x, y))) for x, y in zip(*DATA, strict=True)])


@functools.cache
def single_responses():
    slope = jax.jacfwd(lambda y, x: flat(jax.grad(loss)(PARAMS, (x, y))))
    return np.array([slope(y, x) for x, y in zip(*DATA, strict=True)])


def formula(kind, batch_size, sampling):
    """The covariance of the gradient of a training step under a noise model."""
    gradients, responses = single_gradients(), single_responses()
    size = gradients.shape[1]
    minibatch = np.zeros((size, size))
    if batch_size is not None and sampling != "shuffled":
        factor = 1 if sampling == "with_replacement" else (EXAMPLES - batch_size) / (EXAMPLES - 1)
        minibatch = factor / batch_size * np.cov(gradients.T, bias=True)
    labels = SCALE**2 / (batch_size or EXAMPLES) * responses.T @ responses / EXAMPLES
    return {
        "minibatch": minibatch,
        "diagonal": np.diag(np.diag(minibatch)),
        "isotropic": minibatch + SCALE**2 * np.eye(size),
        "label": minibatch + labels,
        "student": minibatch + SCALE**2 * DF / (DF - 2) * np.eye(size),
        "all": np.diag(np.diag(minibatch)) + SCALE**2 * np.eye(size) + labels,
    }[kind]


MODELS = {
    "minibatch": Minibatch(),
    "diagonal": Diagonal(),
    "isotropic": Isotropic(SCALE),
    "label": LabelNoise(SCALE),
    "student": StudentT(DF, SCALE),
    "all": LabelNoise(SCALE, on=Isotropic(SCALE, on=Diagonal())),
}
BATCHED, FULL = (BATCH, "without_replacement"), (None, "with_replacement")
CHECKED = {
    "minibatch": [BATCHED], "diagonal": [BATCHED], "isotropic": [BATCHED, FULL], "label": [BATCHED, FULL],
    "student": [FULL], "all": [(BATCH, "with_replacement"), (BATCH, "shuffled")],
}  # fmt: skip


@eqx.filter_jit
def covariances(model, batch_size, sampling):
    """By the root, by the parts whose means are exact, by the variances: three things a model says of itself."""
    batches = Batches(OBJECTIVE, batch_size, sampling)
    root = model.root(batches, PARAMS)
    units, unravel = zeros(root.in_structure())
    columns = jax.vmap(lambda unit: flat(root.mv(unravel(unit))))(jnp.eye(units.size))
    square = lambda g: jnp.outer(flat(g), flat(g))  # noqa: E731
    mean = flat(OBJECTIVE.gradient(PARAMS))
    by_parts = model.mean(batches, PARAMS, square) - jnp.outer(mean, mean)
    return columns.T @ columns, by_parts, flat(model.variance(batches, PARAMS))


def off(model, kind, batch_size, sampling):
    """The largest deviation of any of them from the formula."""
    truth = formula(kind, batch_size, sampling)
    root, parts, variance = map(np.asarray, covariances(model, batch_size, sampling))
    return max(np.abs(root - truth).max(), np.abs(parts - truth).max(), np.abs(variance - np.diag(truth)).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_covariance_is_that_of_the_formula(kind):
    assert all(off(MODELS[kind], kind, *case) < 1e-12 for case in CHECKED[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_one_draw_is_the_mean_and_the_noise(kind):
    """What the algorithm is given, at amplitude 1 and at others; Gaussian but for Student-t."""
    model, batches = MODELS[kind], Batches(OBJECTIVE, BATCH, "with_replacement")
    normals = zeros(model.structure(batches, PARAMS))[1](jnp.asarray(RNG.normal(size=zeros(
        model.structure(batches, PARAMS))[0].size)))  # fmt: skip
    mean, delta = (flat(x) for x in (OBJECTIVE.gradient(PARAMS), model.delta(batches, PARAMS, normals)))
    for amplitude in (1.0, 0.3):
        together = flat(model.gaussian(batches, PARAMS, normals, amplitude))
        np.testing.assert_allclose(together, mean + amplitude * delta, rtol=1e-12, atol=1e-14)
    drawn = flat(model.draw(batches, PARAMS, normals))
    assert np.allclose(drawn, mean + delta, rtol=1e-12) == (kind != "student")


# ---------------------------------------------------------------------------------------------------------------------
# Student-t numbers


def kolmogorov(model):
    """The distance of 20 000 drawn numbers from the Student-t distribution, in units of n^{-1/2} (1.95: 1 in 1000)."""
    n = 20_000
    normals = jax.random.normal(jax.random.key(5), (2, n))
    numbers = np.sort(model.numbers({"numerator": normals[0], "denominator": normals[1]}))
    truth = scipy.stats.t.cdf(numbers, float(model.df))
    steps = np.arange(n + 1) / n
    return max(np.abs(truth - steps[1:]).max(), np.abs(truth - steps[:-1]).max()) * n**0.5


@pytest.mark.parametrize("df", [0.7, 2.5, 30.0])
def test_student_numbers_are_student_numbers(df):
    assert kolmogorov(StudentT(df, 1.0)) < 1.95


def second_moment(model):
    """E t^2 by quadrature: over the square of the radius, exponential with mean 2, and the angle."""
    q, weights = np.polynomial.legendre.leggauss(400)
    v = (q + 1) / 2
    u, weights = v**4, 4 * v**3 * weights  # the uniform number that the radius stands for; t^2 has a pole at 0
    square = -2 * np.log(u)
    total = 0.0
    for angle in (np.arange(8) + 0.5) * np.pi / 4:  # exact for cos^2
        x, y = np.sqrt(square) * np.cos(angle), np.sqrt(square) * np.sin(angle)
        t = model.numbers({"numerator": jnp.asarray(x), "denominator": jnp.asarray(y)})
        total += weights @ np.asarray(t) ** 2 / 2 / 8
    return total


def test_variance_of_student_numbers():
    """df/(df - 2), the variance that the equation's Brownian motion has."""
    np.testing.assert_allclose(second_moment(StudentT(8.0, 1.0)), 8 / 6, rtol=1e-12)


def test_student_numbers_are_odd_and_become_normal():
    normals = {"numerator": jnp.asarray([0.0, 0.3, -2.0]), "denominator": jnp.asarray([0.0, -1.0, 0.5])}
    minus = {"numerator": -normals["numerator"], "denominator": normals["denominator"]}
    model = StudentT(3.0, 1.0)
    np.testing.assert_array_equal(model.numbers(minus), -model.numbers(normals))
    np.testing.assert_allclose(StudentT(1e9, 1.0).numbers(normals), normals["numerator"], rtol=1e-8)


def expected_sign_error(model):
    """The largest deviation of E sign(g + delta) from the distribution function of SciPy."""
    g = jnp.asarray([-3.0, -0.2, 0.0, 1e-9, 0.4, 20.0])
    params = jnp.zeros_like(g)
    batches = Batches(Objective(lambda p, e: jnp.sum(p) * e, jnp.ones(1)), None, "with_replacement")
    found = np.asarray(model.expected_sign(batches, params, g))
    if isinstance(model, StudentT):
        truth = 1 - 2 * scipy.stats.t.sf(g / float(model.scale), float(model.df))
    else:
        truth = 1 - 2 * scipy.stats.norm.sf(g / float(model.scale))
    return np.abs(found - truth).max()


@pytest.mark.parametrize("model", [Isotropic(0.3), StudentT(0.7, 0.3), StudentT(3.0, 0.3), StudentT(40.0, 2.0)])
def test_expected_sign(model):
    assert expected_sign_error(model) < 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# The algorithm

PATHS = 20_000


def one_step(model, batch_size, noise, sampling="with_replacement"):
    """Gradients of one training step of `train`, `(PATHS, P)`."""
    equation = SGD(1.0, batch_size, sampling, noise_model=model)
    run = train(equation, OBJECTIVE, PARAMS, steps=1, key=jax.random.key(1), paths=PATHS, noise=noise)
    return np.asarray(flat(PARAMS) - jax.vmap(flat)(run.final))


def distance(samples, covariance):
    """From mean gradient and covariance, the largest deviation in standard errors."""
    away = samples - np.asarray(flat(OBJECTIVE.gradient(PARAMS)))
    products = away[:, :, None] * away[:, None, :]
    worst = 0.0
    for values, truth in ((away, 0.0), (products, covariance)):
        error = values.std(axis=0) / len(values) ** 0.5
        worst = max(worst, np.max(np.abs(values.mean(axis=0) - truth) / (error + 1e-12)))
    return worst


# Those of the full batch are slow but for one: their covariance is that of the formula in the test of this name.
REAL = [
    ("isotropic", BATCH), pytest.param("isotropic", None, marks=pytest.mark.slow), ("label", BATCH),
    pytest.param("label", None, marks=pytest.mark.slow), ("student", None), ("all", BATCH),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "batch_size"), REAL)
def test_real_batches_have_the_covariance_too(kind, batch_size):
    """What is injected into real batches; Diagonal describes batches, which keep their own covariance."""
    truth = formula(kind, batch_size, "with_replacement")
    if kind == "all":
        truth = truth - formula("diagonal", BATCH, "with_replacement") + formula("minibatch", BATCH, "with_replacement")
    assert distance(one_step(MODELS[kind], batch_size, "minibatch"), truth) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diagonal", "label", "student"])
def test_drawn_noise_has_the_covariance(kind):
    truth = formula(kind, BATCH, "with_replacement")
    assert distance(one_step(MODELS[kind], BATCH, "gaussian"), truth) < 4.5


@pytest.mark.slow
def test_labels_of_shuffled_epochs_are_noisy():
    """Whose batches are no noise at leading order: an epoch of two batches, at a rate that leaves the gradients alone."""
    tiny = 1e-6
    equation = SGD(tiny, BATCH, "shuffled", noise_model=LabelNoise(SCALE))
    run = train(equation, OBJECTIVE, PARAMS, steps=2, key=jax.random.key(1), paths=PATHS)
    samples = np.asarray(flat(PARAMS) - jax.vmap(flat)(run.final)) / (2 * tiny)
    truth = formula("label", BATCH, "shuffled") / 2
    assert distance(samples, truth) < 4.5


def lyapunov(step, noise):
    """V = M V M^T + Q."""
    size = len(step)
    return np.linalg.solve(np.eye(size**2) - np.kron(step, step), noise.ravel()).reshape(size, size)


@pytest.mark.slow
def test_label_noise_in_linear_regression():
    """On the full batch the discrete algorithm ends with covariance (eta s^2/N) (2 - eta H)^{-1} about the solution."""
    problem, eta, scale = LinearRegression(), 0.3, 0.7
    equation = SGD(eta, noise_model=LabelNoise(scale))
    hessian = problem.x.T @ problem.x / len(problem.x)
    truth = eta * scale**2 / len(problem.x) * np.linalg.inv(2 * np.eye(3) - eta * hessian)

    map_ = discrete(Increment.of(equation), problem.objective, Increment.of(equation).init(jnp.zeros(3)))
    step = np.eye(3) + eta * map_.generator[:3, :3]
    root = map_.columns[:, :3, 3]  # additive
    np.testing.assert_array_less(np.abs(map_.columns[:, :3, :3]).max(), 1e-12)
    np.testing.assert_allclose(lyapunov(step, eta * root.T @ root), truth, rtol=1e-11, atol=1e-15)

    start = jnp.asarray(np.linalg.lstsq(problem.x, problem.y, rcond=None)[0])
    run = train(equation, problem.objective, start, steps=100, key=jax.random.key(0), paths=1000, save_every=100)
    samples = np.asarray(run.final) - np.asarray(start)
    products = samples[:, :, None] * samples[:, None, :]
    z = np.abs(products.mean(0) - truth) / (products.std(0) / len(samples) ** 0.5)
    assert z.max() < 4.5
    lost = np.abs(products.mean(0) - truth * len(problem.x)) / (products.std(0) / len(samples) ** 0.5)
    print(f"\nthe labels' covariance: {z.max():.1f} s.e.; with the 1/N lost {lost.max():.0f} s.e.")
    assert lost.max() > 8


# ---------------------------------------------------------------------------------------------------------------------
# Types, recompilation, input


@pytest.mark.slow
@pytest.mark.parametrize("run", [pytest.param(solve, marks=pytest.mark.slow), train])
def test_every_scale_runs_without_recompilation_in_float32(run):
    """Everything at once: label noise on Student-t noise on diagonal noise, under momentum."""
    traces = []

    def counted(params, example):
        traces.append(1)
        return loss(params, example)

    params, data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (PARAMS, DATA))
    objective = Objective(counted, data)

    def calls(scale, df):
        before = len(traces)
        noise = LabelNoise(scale, on=StudentT(df, scale, on=Diagonal()))
        final = run(Momentum(0.05, 2, noise_model=noise), objective, params, steps=2, key=jax.random.key(0), paths=2)
        assert {leaf.dtype for leaf in jax.tree.leaves(final.final)} == {jnp.dtype("float32")}
        assert np.all(final.ok) and np.all(np.diff(final.final["layer"][0]["w"], axis=0) != 0)
        return len(traces) - before

    first, again = calls(0.1, 5.0), calls(0.1, 5.0)
    assert again < first and calls(0.2, 7.0) == again


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SGD(0.1, noise_model=0.3), TypeError, "Argument `noise_model` must be a model of noise"),
        (lambda: Isotropic(-1.0), ValueError, "Argument `scale` must be a finite number, zero or more"),
        (lambda: StudentT(0.0, 1.0), ValueError, "Argument `df` must be a positive finite number"),
        (lambda: Isotropic(1.0, on=3), TypeError, "Argument `on` must be a model of noise"),
        (lambda: LabelNoise(1.0, labels=3), TypeError, "Argument `labels` must be callable"),
        (
            lambda: run(SGD(0.1, noise_model=LabelNoise(1.0, labels=_third))),
            ValueError,
            "`labels` must find the labels",
        ),
        (
            lambda: run(SGD(0.1, noise_model=LabelNoise(1.0)), jnp.arange(4), loss=_rounded),
            TypeError,
            "floating-point numbers",
        ),
        (lambda: run(SGD(0.1, noise_model=StudentT(2.0, 1.0))), ValueError, "Argument `df` must exceed 2"),
        (lambda: run(Adam(0.1, noise_model=StudentT(5.0, 1.0)), key=None), ValueError, "Argument `key` must be a key"),
    ],
)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def _third(data):
    return data[2]


def _rounded(params, example):
    return loss(params, (example[0], example[1].astype(float)))


def run(equation, labels=DATA[1], key=jax.random.key(0), loss=loss):  # noqa: B008
    solve(equation, Objective(loss, (DATA[0], labels)), PARAMS, steps=1, key=key)


# ---------------------------------------------------------------------------------------------------------------------
# Mutants


@pytest.mark.parametrize("name", mutants_noise.MUTANTS)
def test_mutant_is_rejected(name):
    kind, check, mutant = mutants_noise.MUTANTS[name]
    checks = {
        "covariance": lambda model: (off(model, kind, BATCH, "with_replacement"), 1e-12),
        "numbers": lambda model: (kolmogorov(model), 1.95),
        "expected sign": lambda model: (expected_sign_error(model), 1e-12),
        "real batches": lambda model: (
            distance(one_step(model, BATCH, "minibatch"), formula(kind, BATCH, "with_replacement")), 4.5,
        ),
    }  # fmt: skip
    found, bound = checks[check](mutant)
    print(f"\n{name:<28} of {kind:<10} rejected by {check:<14}: {found:.3g}, allowed {bound:.3g}")
    assert found > 2 * bound


def test_mutants_are_two_for_each():
    kinds = [kind for kind, _, _ in mutants_noise.MUTANTS.values()]
    assert all(kinds.count(kind) >= 2 for kind in set(MODELS) - {"minibatch", "all"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(dataclasses.is_dataclass(mutant) for _, _, mutant in mutants_noise.MUTANTS.values())


# ---------------------------------------------------------------------------------------------------------------------
# Freely combined


COMBINED = [SGD(0.1), Momentum(0.1), Adam(0.1), Lion(0.1), UnderdampedLangevin(0.1), from_optax(optax.adamw, 0.1)]
COMBINED += [modified(SGD(0.1, noise_model=Isotropic(0.1)), order=2, fluctuations=True)]
SIGNALS = {
    "objective": (Objective(lambda w, e: 0.5 * (jnp.dot(e[0], w) - e[1]) ** 2, DATA), jnp.ones(2)),
    "oja": (Oja(DATA[0]), jnp.ones(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", some([None, BATCH], [BATCH]))
@pytest.mark.parametrize("signal", SIGNALS)
def test_any_optimizer_signal_and_noise(signal, batch_size):
    """Traced, not compiled: every equation under every model runs on every signal, in both directions."""
    signal, params = SIGNALS[signal]
    labeled = isinstance(signal, Objective)
    for equation in COMBINED:
        for kind in ("isotropic", "student", "all") if labeled else ("isotropic", "student"):
            if isinstance(equation, Lion) and kind == "student" and batch_size:
                continue  # refused: test_sign
            member = equation if isinstance(equation, Modified) else dataclasses.replace(
                equation, batch_size=batch_size, noise_model=MODELS[kind]
            )  # fmt: skip
            for share in (1, 2):
                state = member.init(params)
                normals = split(member).noise(state, signal, share)
                t, dt = jnp.asarray(0.3), jnp.asarray(0.1 / share)
                kick = lambda s, n, e=member, t=t, dt=dt: split(e).kick(t, s, signal, n, dt)  # noqa: E731
                assert jax.tree.structure(jax.eval_shape(kick, state, normals)) == jax.tree.structure(state)
            batch = signal if batch_size is None else signal.take(jnp.arange(batch_size))
            noise = member.gradient_noise
            real = jax.eval_shape(lambda n, m=noise, b=batch: m.real(b, params, n), noise.injected(batch, params))
            assert real.shape == params.shape


@pytest.mark.slow
@pytest.mark.parametrize("layers", some(["dense", "convolution", "shared"], ["shared"]))
def test_mean_square_is_that_of_the_examples(layers):
    """A dense layer by products of squares, any other as it is, whatever the number of examples at a time."""
    keys = jax.random.split(jax.random.key(0), 3)
    images, labels = jax.random.normal(keys[0], (11, 1, 4, 4)), jnp.arange(11) % 3
    if layers == "convolution":
        first = eqx.nn.Conv2d(1, 2, 3, key=keys[1])
    else:
        first = eqx.nn.Linear(16, 8, key=keys[1])
    net = (first, eqx.nn.Linear(8, 3, key=keys[2]))

    def logits(net, image):
        hidden = jnp.tanh(net[0](image if layers == "convolution" else image.ravel())).ravel()
        if layers == "shared":  # the same weights twice, so that the gradient is no outer product
            hidden = jnp.tanh(net[0](jnp.concatenate([hidden, hidden])))
        return jax.nn.relu(net[1](hidden))

    objective = Objective(lambda net, e: -jax.nn.log_softmax(logits(net, e[0]))[e[1]], (images, labels))
    each = [flat(objective.take(jnp.array([i])).gradient(net)) for i in range(11)]
    truth = np.mean(np.square(each), axis=0)
    held = []
    for limit in (1, 400, 2**16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(variance_samples, "_HELD", limit)
            held.append(flat(mean_square(objective, net)))
            np.testing.assert_allclose(held[-1], truth, rtol=1e-12, atol=1e-18)
    whole = jax.make_jaxpr(lambda net: mean_square(objective, net))(eqx.filter(net, eqx.is_array))
    assert ("f64[11,8,16]" in str(whole)) == (layers == "shared")  # no per-example gradient of a dense layer


@pytest.mark.parametrize(
    "layer, shape",
    [(lambda w, x: x @ w, (4, 3)), (lambda w, x: w.T @ x, (4, 3)), (lambda w, x: w @ x, (3, 4)),
     (lambda w, x: x @ w.T, (3, 4))],
    ids=["x @ W", "W.T @ x", "W @ x", "x @ W.T"],
)  # fmt: skip
def test_mean_square_of_products_either_way(layer, shape):
    """The outer product of the gradient in the order of the weights' axes, as products of squares."""
    keys = jax.random.split(jax.random.key(1), 2)
    w, data = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], (7, 4))
    objective = Objective(lambda w, x: jnp.sum(jnp.tanh(layer(w, x)) * jnp.arange(1.0, 4.0)), data)
    each = np.stack([np.asarray(jax.grad(lambda w, x=x: objective.loss(w, x))(w)) for x in data])
    np.testing.assert_allclose(mean_square(objective, w), np.mean(each**2, axis=0), rtol=1e-12)
    assert "f64[7,3,4]" not in str(jax.make_jaxpr(lambda w: mean_square(objective, w))(w))


def test_label_noise_needs_labels_of_their_own():
    bare = Objective(lambda w, x: jnp.dot(w, x) ** 2, jnp.ones((5, 2)))
    with pytest.raises(ValueError, match="`labels` must find the labels, .* as one of its arrays"):
        SGD(0.1, noise_model=LabelNoise(0.1)).check(jnp.ones(2), bare)
