"""The public names: none is lost from one release to the next without a word."""

import importlib
import re
from pathlib import Path

import pytest

import equations

ROOT = Path(__file__).parents[1]
# Before the packages had rooms.
BEFORE = {
    "equations": """
        AMSGrad AbstractDynamics AbstractEquation AbstractGradientNoise AbstractSignal AbstractStream AdaGrad Adam
        AdamW BCM Circuit Decayed Diagonal DirectFeedbackAlignment Factors FeedbackAlignment Hebb Heterosynaptic
        Isotropic KolenPollack LaProp LabelNoise Langevin Lion Minibatch Modified Momentum NAdam Objective Oja
        RMSProp Regularised SGD Scheduled SignSGD Spred Stimulus StudentT UnderdampedLangevin Volumized WeightMirror
        WithFeedback decayed from_optax modified noise_operator random_feedback regularised scheduled symbolic syre
        volumized
    """,
    "dynamics": """
        EntropyProduction Stationary Strang Trajectory entropy_production minibatches solve stationary stimuli train
    """,
    "validation": """
        Comparison Estimate FluctuationTheorem HebbianAlignment Irreversibility Moment Orders ScalingRule Symmetry
        anti_hebbian_noise compare corrected fluctuation_theorem hill invariance irreversibility neural_estimate
        noisy_alignment orders plot_difference plot_fan scaling_rule short_time_bound tail_index
    """,
}
# Since then: what a user meets in results and states, and what a class of his own is made of.
ADDED = {
    "equations": """
        AbstractCircuit AbstractForwarder AbstractWrapped CircuitState ForwardedLimit ForwardedSplitting
        GradientSplitting Moments MomentumState OptaxEquation ScalingLimit Series Splitting Symbolic
        TwinState Weights 
    """,
    "dynamics": """
        Stimuli
    """,
    "validation": """
        Balance ChargeStep Corrected Invariance Least NeuralEstimate OrbitSlope Sweep SymmetryCheck
    """,
}
RENAMED = {"Regularised": "Regularized", "regularised": "regularized"}


def exported(package):
    return set(re.findall(r"import \w+ as (\w+)", (ROOT / package / "__init__.py").read_text()))


@pytest.mark.parametrize("package", BEFORE)
def test_every_name_of_before_is_there(package):
    before, module = set(BEFORE[package].split()), importlib.import_module(package)
    renamed = before & set(RENAMED)
    assert exported(package) == before - renamed | {RENAMED[name] for name in renamed} | set(ADDED[package].split())
    assert all(hasattr(module, name) for name in before - renamed)
    for name in renamed:
        with pytest.warns(DeprecationWarning, match=RENAMED[name]):
            assert getattr(module, name) is getattr(module, RENAMED[name])


def test_other_names_are_missing_as_ever():
    with pytest.raises(AttributeError, match="no attribute 'flows'"):
        equations.SGD(0.1).flows  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Regularize'"):
        equations.Regularize  # noqa: B018


def test_an_old_name_of_a_result():
    import numpy as np

    from validation import irreversibility

    loss = equations.Objective(lambda w, e: (w - e) ** 2, np.array([-1.0, 1.0]))
    result = irreversibility(equations.SGD(0.01, 1), loss, np.array(1.0), probes=0)
    with pytest.warns(DeprecationWarning, match="gradient_steps"):
        assert result.plain is result.gradient_steps is True
