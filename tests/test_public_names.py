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
        AMSGradState AbstractCircuit AbstractForwarder AbstractSeveralGradients AbstractWrapped AdaGradState
        AdaptiveSplitting Averaged AveragedState Batches CircuitState Clipped Feed ForwardedLimit ForwardedSplitting
        GradientSplitting LaPropState LionState LossNoise ModifiedDynamics Moments MomentumState OptaxEquation
        PolyakAveraged Population RMSPropState ScalingLimit ScheduledBatches Series Splitting Stored Symbolic TwinState
        UnderdampedState Weights WrappedLimit WrappedSplitting accumulated at_average averaged clipped stratonovich
        CentralFlow CentralState EdgeFlow EdgeState RodFlow RodState Sharpness StableFlow hessian_eigenpairs sharpness
        stability_threshold batch_objective
    """,
    "dynamics": """
        Exponents lyapunov mean_square_radius mean_square_threshold
        Average FirstPassage TimeAverage first_passage time_average
        ControlVariate Fused Histogram LargeBatches Reduced SVAG Stimuli sweep
    """,
    "validation": """
        Balance ChargeStep Corrected Invariance Least NeuralEstimate OrbitSlope RegimeMap Regimes ShortTimeBound Sweep
        SymmetryCheck plot plot_density plot_entropy plot_orders plot_phase plot_regimes plot_spectrum regimes
        Judgment extrapolated judge_bound judge_convergence judge_curve judge_density judge_equality judge_number
        judge_slope TailScan tail_scan
    """,
}
RENAMED = {"Regularised": "Regularized", "regularised": "regularized"}


def exported(text):
    """The public names of a package, and those of its optimizers, of which there may be new ones."""
    pairs = re.findall(r"from \.([\w.]+) import \w+ as (\w+)", text)
    return {name for _, name in pairs}, {name for module, name in pairs if module.startswith("_optimizers.")}


def check_names(package, text):
    """Fails for a name that is lost, and for a new one that is not told here, unless it is an optimizer's."""
    known = {RENAMED.get(name, name) for name in BEFORE[package].split()} | set(ADDED[package].split())
    names, optimizers = exported(text)
    assert known <= names and names - optimizers <= known


def source(package):
    stub = ROOT / package / "__init__.pyi"  # of names that are imported late
    return (stub if stub.exists() else ROOT / package / "__init__.py").read_text()


@pytest.mark.parametrize("package", BEFORE)
def test_every_name_of_before_is_there(package):
    module, before = importlib.import_module(package), set(BEFORE[package].split())
    check_names(package, source(package))
    assert all(hasattr(module, name) for name in before - set(RENAMED))
    for name in before & set(RENAMED):
        with pytest.warns(DeprecationWarning, match=RENAMED[name]):
            assert getattr(module, name) is getattr(module, RENAMED[name])


def test_a_new_optimizer_is_one_export():
    text = source("equations")
    check_names("equations", text + "from ._optimizers.mine import Mine as Mine\n")
    for wrong in (text + "from ._wrappers.mine import Mine as Mine\n", text.replace("import SGD as SGD", "")):
        with pytest.raises(AssertionError):
            check_names("equations", wrong)


@pytest.mark.parametrize("package", BEFORE)
def test_no_name_is_a_modules(package):
    """Which would be hidden by the function of that name, or hide it: `equations.decayed` is one of these."""
    check_modules(package, {path.stem for path in (ROOT / package).iterdir()})


def check_modules(package, stems):
    names = exported(source(package))[0] | set(RENAMED)
    assert not names & stems


def test_a_module_that_hides_a_function_is_seen():
    with pytest.raises(AssertionError, match="decayed"):
        check_modules("equations", {"_base", "decayed"})


def test_other_names_are_missing_as_ever():
    with pytest.raises(AttributeError, match="no attribute 'flows'"):
        equations.SGD(0.1).flows  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Regularize'"):
        equations.Regularize  # noqa: B018


@pytest.mark.slow
def test_an_old_name_of_a_result():
    import numpy as np

    from validation import irreversibility

    loss = equations.Objective(lambda w, e: (w - e) ** 2, np.array([-1.0, 1.0]))
    result = irreversibility(equations.SGD(0.01, 1), loss, np.array(1.0), probes=0)
    with pytest.warns(DeprecationWarning, match="gradient_steps"):
        assert result.plain is result.gradient_steps is True
