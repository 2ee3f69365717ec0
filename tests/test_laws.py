"""Every registered equation obeys every law, and every mutant breaks one. `-s` shows which."""

import dataclasses
import inspect
import itertools
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import laws
import numpy as np
import optax
import pytest
from changed import changed
from marks import some
from oracles import mlp
from registry import EQUATIONS, all_mutants, entries_of, fields

import equations
from dynamics import minibatches, solve, train
from equations import AbstractEquation, Adam, Objective

MUTANTS = all_mutants()


def first_of_each_class():
    """The entries that run with the fast tests; others are the same with another option, or around another algorithm."""
    kinds = {type(entry.equation): name for name, entry in reversed(EQUATIONS.items())}
    return some(EQUATIONS, kinds.values())


# All laws of an equation in turn, for they share what is compiled of it.
@pytest.mark.parametrize("law", laws.LAWS)
@pytest.mark.parametrize("name", first_of_each_class())
def test_law(law, name):
    entry = EQUATIONS[name]
    if law in entry.exempt:
        pytest.skip(entry.exempt[law])
    laws.LAWS[law](entry, entry.equation)


TABLE = json.loads((Path(__file__).parent / "mutants" / "table.json").read_text())
"""Of every mutant, by the entries that it stands in for, the laws that reject it."""

AT_ONCE = ("scaling", "natural_limit", "construction", "no_recompilation")  # compile nothing


def rejections(mutant, tried):
    """The laws that reject a mutant, of those `tried`, by the entries of the registry, with what they say."""
    found = {}
    for name, entry in entries_of(MUTANTS[mutant]).items():
        for law in (law for law in tried if law not in entry.exempt):
            try:
                laws.LAWS[law](entry, MUTANTS[mutant](**fields(entry.equation)))
            except AssertionError as error:
                found.setdefault(name, []).append(law)
                print(f"\n{mutant:<32} as {name:<12} {law:<20} {error}", end="")
    return found


def listed(mutant, tried):
    """What the table has of that."""
    found = {name: [law for law in tried if law in rejecting] for name, rejecting in TABLE[mutant].items()}
    return {name: rejecting for name, rejecting in found.items() if rejecting}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_rejected(mutant):
    """By those laws that the table names: all that compile nothing, or the first of the others."""
    wanted = listed(mutant, AT_ONCE)
    assert rejections(mutant, AT_ONCE) == wanted
    if not wanted:
        first = next(law for law in laws.LAWS if listed(mutant, [law]))
        assert rejections(mutant, [first]) == listed(mutant, [first])


# Of any algorithm: test_modified, test_from_optax, and those of the edge of stability.
OF_ANY = {equations.Modified, equations.OptaxEquation, equations.RodFlow, equations.EdgeFlow}
OF_ANY |= {equations.CentralFlow, equations.StableFlow}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_law_that_rejects_a_mutant(mutant):
    assert rejections(mutant, laws.LAWS) == TABLE[mutant]


def test_the_registry_is_complete():
    """Every exported algorithm is under the laws, has two mutants, and none of these stands for nothing."""
    exported = {
        kind
        for kind in vars(equations).values()
        if isinstance(kind, type) and issubclass(kind, AbstractEquation) and not kind.__name__.startswith("Abstract")
    } - OF_ANY
    registered = {type(entry.equation) for entry in EQUATIONS.values()}
    assert exported <= registered
    counts = {kind: sum(issubclass(mutant, kind) for mutant in MUTANTS.values()) for kind in exported}
    assert all(count >= 2 for count in counts.values()), counts
    assert all(entries_of(mutant) and mutant.__doc__ for mutant in MUTANTS.values())
    assert list(TABLE) == list(MUTANTS) and all(TABLE.values())
    assert all(set(entry.exempt) <= set(laws.LAWS) for entry in EQUATIONS.values())


def test_the_defaults_are_those_of_optax():
    """By name; LaProp's those of its authors, for Optax has none."""
    for kind in {type(entry.equation) for entry in EQUATIONS.values()}:
        plain = getattr(optax, OPTAX.get(kind, kind.__name__.lower()), None)
        known = inspect.signature(plain).parameters if plain else {}
        for field in dataclasses.fields(kind):
            if kind is equations.LaProp and field.name in AUTHORS:
                assert field.default == AUTHORS[field.name]
            elif field.name in known and field.name not in ("learning_rate", *LEFT.get(kind, ())):
                assert field.default == known[field.name].default, f"{kind.__name__}: {field.name}"


OPTAX = {equations.SignSGD: "sign_sgd", equations.Momentum: "sgd"}
LEFT = {equations.Momentum: ("momentum",)}  # by default Optax has none
AUTHORS = {"b1": 0.9, "b2": 0.999, "eps": 1e-15}


# ---------------------------------------------------------------------------------------------------------------------
# What concerns the runs and not the equation


@pytest.mark.parametrize("name, run", [("sgd", solve), ("adam", solve), ("adam", train)])
def test_new_numbers_do_not_recompile_and_float32_stays(name, run):
    """Whole runs, in float32 under x64, of equations that the law `no_recompilation` finds alike."""
    equation, traces = EQUATIONS[name].equation, []

    def counted(params, example):
        traces.append(1)
        return laws.loss(params, example)

    def calls(equation, seed):
        """Traces of the loss by one run on data and a key of this seed; checks of the arguments trace it too."""
        data = jax.tree.map(lambda leaf: jnp.asarray(leaf + seed, jnp.float32), (laws.X, laws.Y))
        params, before = laws.single(laws.PARAMS), len(traces)
        flow = run(
            equation, Objective(counted, data), params, steps=2, key=jax.random.key(seed), paths=2, observe=OBSERVE
        )
        assert {leaf.dtype for leaf in jax.tree.leaves((flow.final, flow.observables))} == {jnp.dtype("float32")}
        assert np.all(flow.ok) and not np.array_equal(flow.final["w"][0], flow.final["w"][1])
        return len(traces) - before

    first, again = calls(equation, 0), calls(equation, 0)
    assert again < first
    assert calls(equation.scaling_limit().rescaled(0.5), 1) == again
    assert calls(type(equation)(**fields(equation) | {"learning_rate": 0.02}), 2) == again


OBSERVE = {"w": lambda params: params["w"]}


class Uncut(Adam):
    splitting = changed(clip_noise=lambda s, state, even, odd, dt: odd)


@pytest.mark.parametrize("share", [2, 16])
def test_a_cut_second_moment_keeps_its_mean_and_its_sign(share):
    """Adam at a second moment far below one squared gradient, where parts of a step would drive it negative."""
    equation = EQUATIONS["adam"].equation
    small = jax.tree.map(lambda p: 0 * p + 1e-9, laws.PARAMS)
    state = eqx.tree_at(lambda s: s.nu, laws.some_state(equation), small)
    nu = np.asarray(laws.flat(state.nu))
    own, uncut = (
        (laws.kick_moments_of(e, state, share), laws.expected(e, state, share))
        for e in (equation, Uncut(**fields(equation)))
    )
    (mean, _, kicks), (true_mean, _) = own
    np.testing.assert_allclose(mean[-nu.size :], true_mean[-nu.size :], rtol=1e-11)
    assert np.all(nu + kicks[:, -nu.size :] > 0)
    assert np.any(nu + uncut[0][2][:, -nu.size :] < 0)


NETWORK = mlp(jax.random.key(3), (3, 4, 2))
RNG = np.random.default_rng(0)
IMAGES, LABELS = jnp.asarray(RNG.normal(size=(10, 3))), jnp.asarray(RNG.integers(0, 2, size=10))


@pytest.mark.parametrize(
    ("name", "sampling"), [("sgd", "without_replacement"), ("adam", "shuffled"), ("momentum", None)]
)
def test_train_takes_the_batches_of_its_sampling(name, sampling, key):
    """On a raw eqx.nn.MLP, at the batches that `minibatches` says; seven steps are more than two epochs of three."""
    entry = EQUATIONS[name]
    batch_size = 3 if sampling else None
    equation = dataclasses.replace(entry.equation, batch_size=batch_size, sampling=sampling or "with_replacement")
    objective = Objective(laws.cross_entropy, (IMAGES, LABELS))
    run = train(
        equation, objective, NETWORK, steps=7, key=key if sampling else None, paths=2, observe=laws.WEIGHTS
    )  # fmt: skip
    path = 1  # and not the first, which a wrong key for the paths would leave right
    if sampling:
        batches = np.asarray(minibatches(equation, objective, steps=7, key=key, path=path))
        assert batches.shape == (7, 3) and batches.min() >= 0 and batches.max() < 10
    else:
        batches = np.tile(np.arange(10), (7, 1))
    record = laws.plain_loop(entry.optax, NETWORK, IMAGES, LABELS, jnp.asarray(batches))
    assert np.abs(record[-1] - record[0]).max() > 1e-2
    np.testing.assert_allclose(run.observables["weights"][path], record, rtol=0, atol=1e-12)
    last = jax.tree.map(lambda leaf: leaf[path], laws.arrays(run.final))
    np.testing.assert_array_equal(laws.flat(last), run.observables["weights"][path, -1])
    different = not np.array_equal(run.observables["weights"][0], run.observables["weights"][1])
    assert different == bool(sampling)


def test_batches_are_what_their_sampling_says(key):
    objective = Objective(laws.cross_entropy, (IMAGES, LABELS))
    sgd = dataclasses.replace(EQUATIONS["sgd"].equation, batch_size=4)

    def drawn(sampling):
        return np.asarray(minibatches(dataclasses.replace(sgd, sampling=sampling), objective, steps=40, key=key))

    replaced, subsets, epochs = map(drawn, ("with_replacement", "without_replacement", "shuffled"))
    assert any(len(set(batch)) < 4 for batch in replaced)
    assert all(len(set(batch)) == 4 for batch in subsets)
    # Two batches an epoch: all different in it, two examples sit it out, and not always the same.
    seen = [set(itertools.chain(epochs[i], epochs[i + 1])) for i in range(0, 40, 2)]
    assert all(len(epoch) == 8 for epoch in seen) and set.union(*seen) == set(range(10))
    assert any(set(subsets[i]) & set(subsets[i + 1]) for i in range(0, 40, 2))
