"""Rules with feedback weights: the formulas, the laws of W and V, and what is wrong on purpose, each with its distance."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import solve, train
from equations import (
    SGD,
    Adam,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    Heterosynaptic,
    KolenPollack,
    LabelNoise,
    Objective,
    WeightMirror,
    WithFeedback,
    decayed,
    modified,
    random_feedback,
    regularized,
)
from equations._feedback.base import Routed, angle, block, decay_penalty, layers
from validation import compare, irreversibility, orders
from validation._irreversibility.curl import curl

N, IN, WIDTH, OUT, DEPTH = 24, 3, 4, 4, 2  # the output as wide as the hidden layers: V^T fits where V does
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(N, IN)), rng.normal(size=(N, OUT))
WEIGHTS = jnp.asarray(rng.normal(size=N))
NOISE = rng.normal(size=(N, DEPTH, WIDTH))


def identity(z):
    return z


def loss(model, example):
    return 0.5 * jnp.sum((model(example[0]) - example[1]) ** 2)


OBJECTIVE = Objective(loss, (X, Y))


def network(depth=DEPTH, **options):
    return eqx.nn.MLP(IN, OUT, WIDTH, depth, **({"activation": jnp.tanh} | options), key=jax.random.key(0))


NET = network()
FEEDBACK = random_feedback(NET, jax.random.key(1), scale=2.0)
DIRECT = random_feedback(NET, jax.random.key(1), direct=True)
FA = FeedbackAlignment(loss, (X, Y), FEEDBACK)
DFA = DirectFeedbackAlignment(loss, (X, Y), DIRECT)
PAIR = WithFeedback(NET, FEEDBACK)


def far(a, b):
    """The distance of two PyTrees over the norm of the second."""
    a, b = (
        jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array_like(leaf)])
        for tree in (a, b)
    )
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False, "use_final_bias": False, "final_activation": jax.nn.sigmoid, "depth": 3, "scan": True},
        pytest.param({"activation": eqx.nn.PReLU(0.2), "depth": 1}, marks=pytest.mark.slow),
    ],
)
def test_with_the_transposed_weights_it_is_the_gradient(options):
    net = network(**options)
    transposed = tuple(layer.weight.T for layer in layers(net)[1:])
    gradient = OBJECTIVE.gradient(net, WEIGHTS)
    distances = {"FA": far(FeedbackAlignment(loss, (X, Y), transposed).gradient(net, WEIGHTS), gradient)}
    if net.depth == 1:
        direct = DirectFeedbackAlignment(loss, (X, Y), transposed)
        distances["DFA"] = far(direct.gradient(net, WEIGHTS), gradient)
    noise = NOISE[:, :1].repeat(net.depth, 1)
    for rule in (
        KolenPollack(loss, (X, Y), 0.0),
        Heterosynaptic(loss, (X, Y), 0.0, 0.0, rate=-3.0),
        WeightMirror(loss, (X, Y), noise, 0.1),
    ):
        found = rule.gradient(WithFeedback(net, transposed), WEIGHTS)
        distances[type(rule).__name__] = far(found.model, gradient)
    print(f"\ndistance from backpropagation: {distances}")
    assert max(distances.values()) < 1e-12
    wrong = FeedbackAlignment(loss, (X, Y), tuple(1.01 * v for v in transposed))
    assert far(wrong.gradient(net, WEIGHTS), gradient) > 1e-3


@pytest.mark.slow
def test_single_layers_and_scalar_outputs():
    """Without hidden layers there is no feedback; numbers in and out are no vectors."""
    single = network(depth=0)
    for kind in (FeedbackAlignment, DirectFeedbackAlignment):
        assert far(kind(loss, (X, Y), ()).gradient(single), OBJECTIVE.gradient(single)) < 1e-12
    scalar = eqx.nn.MLP("scalar", "scalar", 4, 1, jnp.tanh, final_activation=jnp.sin, key=jax.random.key(0))
    data, feedback = (X[:, 0], Y[:, 0]), (scalar.layers[1].weight.T,)
    for kind in (FeedbackAlignment, DirectFeedbackAlignment):
        assert far(kind(loss, data, feedback).gradient(scalar), Objective(loss, data).gradient(scalar)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("direct", [False, True])
def test_random_feedback_is_uniform_and_independent(direct):
    """Within 3/sqrt(in), and up to there; no matrix is drawn with the numbers of another."""
    net = eqx.nn.MLP(2, 4, 50, 2, key=jax.random.key(0))
    drawn = random_feedback(net, jax.random.key(1), direct=direct, scale=3.0)
    for v in drawn:
        assert 0.95 < np.max(np.abs(v)) / (3 / 50**0.5) <= 1 and abs(np.mean(v)) < 4 * np.std(v) / v.size**0.5
    assert drawn[0].shape != drawn[1].shape or abs(np.corrcoef(*map(np.ravel, drawn))[0, 1]) < 4 * drawn[0].size ** -0.5


def by_hand(errors_of):
    """The rule written out with NumPy; `errors_of(errors above, W, V, place)` gives what comes down to a hidden layer."""
    w, b = ([np.asarray(getattr(layer, name)) for layer in layers(NET)] for name in ("weight", "bias"))
    h, slopes = [X], []
    for place in range(DEPTH):
        h.append(np.tanh(h[-1] @ w[place].T + b[place]))
        slopes.append(1 - h[-1] ** 2)
    deltas = [h[-1] @ w[-1].T + b[-1] - Y]
    for place in reversed(range(DEPTH)):
        deltas.insert(0, errors_of(deltas, place) * slopes[place])
    c = np.asarray(WEIGHTS)
    return [(np.einsum("n,no,ni->oi", c, d, a), c @ d) for d, a in zip(deltas, h, strict=False)]


def pairs(gradient):
    return [(layer.weight, layer.bias) for layer in layers(gradient)]


class NoDerivative(FeedbackAlignment):
    """phi' dropped in the error: as if the activation function were the identity on the way back."""

    def routed(self, params, example):
        net = eqx.tree_at(lambda m: m.activation, params, lambda z: z + block(jnp.tanh(z) - z))
        return self.loss(Routed(net, layers(net), self.feedback, False), example)


class Untransposed(FeedbackAlignment):
    """V instead of V^T."""

    def backward(self, params):
        return tuple(v.T for v in self.feedback)


class Undirected(DirectFeedbackAlignment):
    """Direct feedback taken for feedback from layer to layer."""

    direct = False


@pytest.mark.slow
def test_the_rules_are_the_textbook_ones():
    expected = by_hand(lambda deltas, place: deltas[0] @ np.asarray(FEEDBACK[place]).T)
    distances = {
        kind.__name__: far(pairs(kind(loss, (X, Y), FEEDBACK).gradient(NET, WEIGHTS)), expected)
        for kind in (FeedbackAlignment, NoDerivative, Untransposed)
    }
    direct = by_hand(lambda deltas, place: deltas[-1] @ np.asarray(DIRECT[place]).T)
    for kind in (DirectFeedbackAlignment, Undirected):
        distances[kind.__name__] = far(pairs(kind(loss, (X, Y), DIRECT).gradient(NET, WEIGHTS)), direct)
    print(f"\ndistance from the rule by hand: {distances}")
    for name, distance in distances.items():
        assert distance < 1e-12 if "Alignment" in name else distance > 0.1, name


@pytest.mark.slow
def test_plastic_feedback_learns_what_the_weights_learn():
    """g(V) = h delta^T + decay V of Kolen and Pollack; times the rate for HSP; the mirror -xi (W xi)^T + decay V."""
    weights = jnp.abs(WEIGHTS) / jnp.sum(jnp.abs(WEIGHTS))
    first, *below = [layer.weight for layer in layers(FA.gradient(NET, weights))]
    w = [layer.weight for layer in layers(NET)[1:]]
    kp = KolenPollack(loss, (X, Y), 0.3).gradient(PAIR, weights)
    assert far(kp.feedback, [g.T + 0.3 * v for g, v in zip(below, FEEDBACK, strict=True)]) < 1e-12
    assert (
        far([layer.weight for layer in layers(kp.model)[1:]], [g + 0.3 * v for g, v in zip(below, w, strict=True)])
        < 1e-12
    )
    assert far(layers(kp.model)[0].weight, first + 0.3 * layers(NET)[0].weight) < 1e-12
    hsp = Heterosynaptic(loss, (X, Y), 0.3, 0.2, rate=-0.7).gradient(PAIR, weights)
    assert far(hsp.feedback, [-0.7 * g.T + 0.2 * v for g, v in zip(below, FEEDBACK, strict=True)]) < 1e-12
    mirror = WeightMirror(loss, (X, Y), NOISE, 0.4).gradient(PAIR, weights)
    second = [np.einsum("n,ni,nj->ij", weights, NOISE[:, p], NOISE[:, p]) for p in range(DEPTH)]
    assert far(mirror.feedback, [0.4 * v - s @ m.T for v, s, m in zip(FEEDBACK, second, w, strict=True)]) < 1e-12


@pytest.mark.slow
def test_one_backward_pass():
    """Counted by the compiler: floating-point operations over those of the gradient of the same loss."""
    net = eqx.nn.MLP(64, 10, 64, 3, activation=jnp.tanh, key=jax.random.key(0))
    data = jnp.ones((128, 64)), jnp.ones((128, 10))
    feedback, direct = (random_feedback(net, jax.random.key(1), direct=flag) for flag in (False, True))

    def flops(signal, params):
        dynamic, static = eqx.partition(params, eqx.is_array)
        compiled = jax.jit(lambda p: signal.gradient(eqx.combine(p, static))).lower(dynamic).compile()
        return compiled.cost_analysis()["flops"]

    plain, pair = flops(Objective(loss, data), net), WithFeedback(net, feedback)
    ratios = {
        "FA": flops(FeedbackAlignment(loss, data, feedback), net) / plain,
        "DFA": flops(DirectFeedbackAlignment(loss, data, direct), net) / plain,
        "KP": flops(KolenPollack(loss, data, 0.1), pair) / plain,
        "HSP": flops(Heterosynaptic(loss, data, 0.1, 0.2), pair) / plain,
    }
    print(f"\noperations over those of a gradient: {ratios}")
    assert max(ratios.values()) < 1.05


class FeedbackKeeps(KolenPollack):
    """The decay missing in V."""

    def surrogate(self, active, frozen, example):
        return self.routed(active, example) + decay_penalty(
            self.decay, [layer.weight for layer in layers(active.model)]
        )


def mismatch(params):
    """|W_l - V_l^T| of each layer but the first."""
    return jnp.stack([
        jnp.linalg.norm(w.weight - v.T) for w, v in zip(layers(params.model)[1:], params.feedback, strict=True)
    ])  # fmt: skip


@pytest.mark.filterwarnings("ignore:The solver is unstable")  # the mutant ends at its edge
@pytest.mark.slow
def test_kolen_pollack_forgets_the_feedback_it_started_with(key):
    """(1 - eta lambda)^k for the algorithm, whatever the batches, e^{-lambda t} for the flow."""
    eta, lam, steps = 0.05, 0.1, 1000
    options = {"steps": steps, "save_every": 250}
    data = (
        X,
        2 * np.tanh(X @ rng.normal(size=(IN, OUT))),
    )  # what can be learned keeps the weights from decaying to nothing

    def errors(kind):
        rule = kind(loss, data, lam)
        observe = {"mismatch": mismatch, "angle": rule.feedback_angles}
        run = train(SGD(eta, 4), rule, PAIR, key=key, observe=observe, **options)
        flow = solve(SGD(eta), rule, PAIR, observe=observe, **options)
        k = np.asarray(run.steps)[:, None]
        start = np.asarray(mismatch(PAIR))
        ratios = [np.asarray(t.observables["mismatch"][0]) / start for t in (run, flow)]
        discrete = np.abs(ratios[0] / (1 - eta * lam) ** k - 1).max()
        continuous = np.abs(ratios[1] / np.exp(-lam * eta * k) - 1).max()
        return discrete, continuous, np.asarray(run.observables["angle"])[0, -1].max()

    discrete, continuous, angle = errors(KolenPollack)
    print(
        f"\nKP: from (1 - eta lambda)^k {discrete:.1e}, from e^(-lambda t) {continuous:.1e}; V at {angle:.2f} degrees"
    )
    assert discrete < 1e-10 and continuous < 1e-8 and angle < 2
    discrete, continuous, angle = errors(FeedbackKeeps)
    print(f"FeedbackKeeps: rejected at {discrete:.1f} and {continuous:.1f}; V at {angle:.0f} degrees")
    assert discrete > 1 and continuous > 1 and angle > 10


def test_angles_are_exact_near_none_and_the_straight_one():
    a, b = np.array([3.0, 4.0]), 1e-9 * np.array([-4.0, 3.0])
    small = np.degrees(1e-9)
    np.testing.assert_allclose([angle(a, 2 * (a + b)), 180 - angle(a, b - a)], small, rtol=1e-4)
    np.testing.assert_allclose([angle(a, b), angle(a, 0 * a), angle(0 * a, 0 * a)], 90.0, rtol=1e-12)


@pytest.mark.slow
def test_feedback_alignment_turns_the_signal_to_the_gradient():
    """A linear network 30-20-10 from small weights: the angle of the first layer from 90 degrees to below 45."""
    keys = jax.random.split(jax.random.key(3), 4)
    teacher = jax.random.uniform(keys[0], (10, 30), minval=-1.0)
    x = jax.random.normal(keys[1], (200, 30))
    net = eqx.nn.MLP(30, 10, 20, 1, identity, use_bias=False, use_final_bias=False, key=keys[2])
    net = jax.tree.map(lambda leaf: 0.05 * leaf if eqx.is_array(leaf) else leaf, net)
    data = (x, x @ teacher.T)
    rule = FeedbackAlignment(loss, data, random_feedback(net, keys[3], scale=2.0))
    observe = {"angles": rule.angles, "loss": rule.value, "feedback": rule.feedback_angles, "angle": rule.angle}
    run = train(SGD(0.01), rule, net, steps=1200, observe=observe, save_every=100)
    angles, losses = (np.asarray(run.observables[name][0]) for name in ("angles", "loss"))
    print(f"\nFA: angle of the first layer {angles[[0, 2, -1], 0].round(1)}, loss {losses[0]:.1f} -> {losses[-1]:.1e}")
    assert abs(angles[0, 0] - 90) < 10 and angles[-1, 0] < 45 and losses[-1] < 1e-2 * losses[0]
    assert np.all(angles[:, 1] < 1e-5)  # nothing comes down to the last layer
    feedback, whole = np.asarray(run.observables["feedback"][0, :, 0]), np.asarray(run.observables["angle"][0])
    assert feedback[-1] < 45 < feedback[0]
    vectors = [
        np.concatenate([np.ravel(layer.weight) for layer in layers(g)])
        for g in (rule.learning_signal(net), Objective(loss, data).gradient(net))
    ]
    cosine = vectors[0] @ vectors[1] / np.prod(np.linalg.norm(vectors, axis=1))
    np.testing.assert_allclose(whole[0], np.degrees(np.arccos(cosine)), rtol=1e-9)
    assert whole[-1] < 45


@pytest.mark.slow
@pytest.mark.parametrize("rate, decays", [(1.0, (0.1, 0.1)), (1.0, (0.1, 0.25)), (-1.0, (0.1, 0.1))])
def test_heterosynaptic_rest(rate, decays):
    """V = phi W_out^T with phi = rate gamma_W/gamma_V; of the opposite sign nothing is learned."""
    x = np.linalg.qr(rng.normal(size=(40, 6)))[0] * 40**0.5
    y = x @ rng.normal(size=(6, 3))
    net = eqx.nn.MLP(6, 3, 8, 1, identity, use_bias=False, use_final_bias=False, key=jax.random.key(2))
    start = WithFeedback(net, random_feedback(net, jax.random.key(5)))
    rule = Heterosynaptic(loss, (x, y), *decays, rate=rate)
    flow = solve(SGD(0.1), rule, start, steps=3000, save_every=3000, observe={"loss": rule.value})
    final = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, flow.final)
    w, v = final.model.layers[1].weight, final.feedback[0]
    phi = rate * decays[0] / decays[1]
    relative = float(flow.observables["loss"][0, -1]) / (0.5 * (y**2).sum() / 40)
    if phi < 0:
        assert jnp.linalg.norm(w) < 1e-3 and relative > 0.99
        return
    off = float(jnp.linalg.norm(v - phi * w.T) / jnp.linalg.norm(v))
    wrong = float(jnp.linalg.norm(v - w.T) / jnp.linalg.norm(v))
    print(f"\nphi = {phi:.2f}: |V - phi W^T|/|V| = {off:.1e} (phi = 1: {wrong:.2f}), relative loss {relative:.3f}")
    assert off < 1e-6 and relative < 0.1
    assert wrong < 1e-6 if phi == 1 else wrong > 0.3


@pytest.mark.slow
def test_weight_mirror_rest():
    """V = S W^T/decay with S = E xi xi^T, exactly: a loss of zero keeps W."""
    rule = WeightMirror(lambda net, example: 0.0 * loss(net, example), (X, Y), NOISE, 0.5)
    flow = solve(SGD(0.1), rule, PAIR, steps=600, save_every=600)
    for place, (v, layer) in enumerate(zip(flow.final.feedback, layers(NET)[1:], strict=True)):
        second = np.einsum("ni,nj->ij", NOISE[:, place], NOISE[:, place]) / N
        assert far(v[0], second @ layer.weight.T / 0.5) < 1e-6 < far(v[0], layer.weight.T / 0.5)


@pytest.mark.slow
def test_no_potential():
    """The curl sees that FA is the gradient of nothing."""
    dynamic, static = eqx.partition(NET, eqx.is_array)

    def fields(params):
        return [s.bind(static).gradient(params) for s in (OBJECTIVE, FA)]

    curls = jax.jit(lambda params: curl(fields, params, jax.random.key(0), 4))(dynamic)
    print(f"\ncurl: gradient {curls[0]:.1e}, feedback alignment {curls[1]:.2f}")
    assert curls[0] < 1e-12 and curls[1] > 0.05


@pytest.mark.slow
def test_the_series():
    """`modified` takes the derivatives of the rule, not of the loss."""

    def off(equation, eta):
        steps = round(1 / eta)
        exact = train(SGD(eta), FA, NET, steps=steps, save_every=steps).final
        return far(solve(equation(eta), FA, NET, steps=steps, save_every=steps).final, exact)

    slopes = [
        np.log2(off(equation, 0.05) / off(equation, 0.025))
        for equation in (SGD, lambda eta: modified(SGD(eta), order=2))
    ]
    print(f"\nslopes of the error in the learning rate: flow {slopes[0]:.2f}, order 2 {slopes[1]:.2f}")
    assert abs(slopes[0] - 1) < 0.1 and abs(slopes[1] - 2) < 0.2


@pytest.mark.slow
def test_irreversibility_says_that_it_has_no_potential():
    result = [irreversibility(SGD(0.05), s, NET, key=jax.random.key(0)) for s in (OBJECTIVE, FA)]
    print(f"\n{result[0]}\n{result[1]}")
    assert result[0].curl["velocity"] < 1e-12 and result[1].curl["velocity"] > 0.05


@pytest.mark.slow
def test_compare_and_orders(key):
    """The model error of SGD's equation under FA is of first order, in the variance too, that of the series of second."""
    kp = KolenPollack(loss, (X, Y), 0.1)
    result = compare(SGD(0.02, 8), kp, PAIR, steps=50, key=key, paths=200, save_every=50, observe={"loss": kp.value})
    print(f"\n{result}")
    assert "loss" in str(result)
    first, second = (
        orders(equation, FA, NET, time=0.4, learning_rates=[0.1, 0.05, 0.025], observe={"loss": FA.value})
        for equation in (SGD(0.1), modified(SGD(0.1), order=2))
    )
    print(f"{first}\n{second}")
    assert first.verdict["loss"]["mean"] == second.verdict["loss"]["mean"] == "holds"
    assert abs(first.slope["loss"]["mean"] - 1) < 0.1 and abs(second.slope["loss"]["mean"] - 2) < 0.1


@pytest.mark.slow
def test_penalties_and_precision():
    penalty = regularized(FA, lambda net: 0.5 * jnp.sum(net.layers[0].weight ** 2))
    first = [layers(s.gradient(NET))[0].weight for s in (penalty, FA)]
    np.testing.assert_allclose(first[0] - first[1], NET.layers[0].weight, rtol=1e-12)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_array_like(leaf) else leaf, (PAIR, (X, Y)))
    for rule in (KolenPollack(loss, single[1], 0.1), Heterosynaptic(loss, single[1], 0.1, 0.2, rate=0.5)):
        assert {leaf.dtype for leaf in jax.tree.leaves(rule.gradient(single[0]))} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_compositions(key):
    """Around and inside: another optimizer with decay, label noise."""
    kp = KolenPollack(loss, (X, Y), 0.1)
    run = train(decayed(Adam(0.01, 4), 0.1), kp, PAIR, steps=50, key=key, save_every=50, observe={"loss": kp.value})
    assert run.ok[0] and run.observables["loss"][0, -1] < run.observables["loss"][0, 0]
    noisy = solve(SGD(0.05, noise_model=LabelNoise(0.1)), FA, NET, steps=4, key=key, save_every=4)
    assert noisy.ok[0] and far(noisy.final, solve(SGD(0.05), FA, NET, steps=4, save_every=4).final) > 1e-4


@pytest.mark.parametrize(
    "make, params, error, words",
    [
        (
            lambda: FeedbackAlignment(loss, (X, Y), FEEDBACK[:1]),
            NET,
            ValueError,
            "`feedback` must hold a matrix for each layer",
        ),
        (
            lambda: FeedbackAlignment(loss, (X, Y), tuple(v[:-1] for v in FEEDBACK)),
            NET,
            ValueError,
            r"\(4, 4\).*\(3, 4\)",
        ),
        (
            lambda: FeedbackAlignment(loss, (X, Y), FEEDBACK[0]),
            NET,
            TypeError,
            "`feedback` must be a sequence of matrices",
        ),
        (
            lambda: FeedbackAlignment(loss, (X, Y), (jnp.nan * FEEDBACK[0],)),
            NET,
            ValueError,
            r"`feedback\[0\]` holds NaN",
        ),
        (lambda: FeedbackAlignment(loss, (X, Y), ("a",)), NET, TypeError, r"`feedback\[0\]` is 'a'"),
        (lambda: DirectFeedbackAlignment(loss, (X, Y), (jnp.ones((4, 3)),) * 2), NET, ValueError, "each hidden layer"),
        (
            lambda: FeedbackAlignment(loss, (X, Y), FEEDBACK),
            jnp.ones(3),
            TypeError,
            "`params` must be an equinox.nn.MLP",
        ),
        (lambda: KolenPollack(loss, (X, Y), 0.1), NET, TypeError, "`params` must be equations.WithFeedback"),
        (lambda: KolenPollack(loss, (X, Y), -0.1), PAIR, ValueError, "`decay` must be a finite number, zero or more"),
        (lambda: KolenPollack(loss, (X, Y), 0.1), WithFeedback(NET, FEEDBACK[:1]), ValueError, "`feedback` must hold"),
        (
            lambda: Heterosynaptic(loss, (X, Y), 0.1, 0.1, rate=jnp.inf),
            PAIR,
            ValueError,
            "`rate` must be a finite number",
        ),
        (
            lambda: WeightMirror(loss, (X, Y), NOISE[:, :1], 0.1),
            PAIR,
            ValueError,
            r"`noise` must have the shape \(N, 2, 4\)",
        ),
        (lambda: FeedbackAlignment(None, (X, Y), FEEDBACK), NET, TypeError, "`loss` must be callable"),
        (
            lambda: FeedbackAlignment(loss, (X, Y), tuple(v.astype(jnp.float32) for v in FEEDBACK)),
            NET,
            TypeError,
            "`feedback` must have the dtype of the network, float64, but float32",
        ),
        (lambda: WeightMirror(loss, (X, Y), {"xi": NOISE}, 0.1), PAIR, TypeError, "`noise` must be an array"),
        (lambda: random_feedback(NET, jax.random.key(0), scale=0.0), NET, ValueError, "`scale` must be a positive"),
        (lambda: random_feedback(NET, 0), NET, TypeError, "`key` must be a single typed key .* but 0 was given"),
        (lambda: random_feedback(NET, jax.random.PRNGKey(0)), NET, TypeError, "`key` must be a single typed key"),
    ],
)
def test_bad_input(make, params, error, words):
    with pytest.raises(error, match=words):
        solve(SGD(0.1), make(), params, steps=1)
