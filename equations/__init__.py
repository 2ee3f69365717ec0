"""What a dynamics is: signals, the contract, and each training algorithm as a differential equation beside its twin."""

from ._accumulated import accumulated as accumulated
from ._average import AveragedState as AveragedState
from ._average import at_average as at_average
from ._base import AbstractDynamics as AbstractDynamics
from ._base import AbstractEquation as AbstractEquation
from ._batch_objective import batch_objective as batch_objective
from ._circuits.base import AbstractCircuit as AbstractCircuit
from ._circuits.circuit import Circuit as Circuit
from ._circuits.state import CircuitState as CircuitState
from ._circuits.state import Weights as Weights
from ._circuits.stream import AbstractStream as AbstractStream
from ._circuits.stream import Stimulus as Stimulus
from ._edge.central_flow import CentralFlow as CentralFlow
from ._edge.central_flow import CentralState as CentralState
from ._edge.central_flow import StableFlow as StableFlow
from ._edge.edge_flow import EdgeFlow as EdgeFlow
from ._edge.edge_flow import EdgeState as EdgeState
from ._edge.rod_flow import RodFlow as RodFlow
from ._edge.sharpness import Sharpness as Sharpness
from ._edge.sharpness import hessian_eigenpairs as hessian_eigenpairs
from ._edge.sharpness import sharpness as sharpness
from ._edge.states import RodState as RodState
from ._edge.threshold import stability_threshold as stability_threshold
from ._feedback.base import WithFeedback as WithFeedback
from ._feedback.base import random_feedback as random_feedback
from ._feedback.direct_feedback_alignment import DirectFeedbackAlignment as DirectFeedbackAlignment
from ._feedback.feedback_alignment import FeedbackAlignment as FeedbackAlignment
from ._feedback.hebb import Hebb as Hebb
from ._feedback.heterosynaptic import Heterosynaptic as Heterosynaptic
from ._feedback.kolen_pollack import KolenPollack as KolenPollack
from ._feedback.weight_mirror import WeightMirror as WeightMirror
from ._forwarder import AbstractForwarder as AbstractForwarder
from ._interpretation import stratonovich as stratonovich
from ._modified.increment import TwinState as TwinState
from ._modified.modified import Modified as Modified
from ._modified.modified import modified as modified
from ._modified.truncated import ModifiedDynamics as ModifiedDynamics
from ._noise.base import AbstractGradientNoise as AbstractGradientNoise
from ._noise.base import Minibatch as Minibatch
from ._noise.base import noise_operator as noise_operator
from ._noise.batches import Batches as Batches
from ._noise.loss import LossNoise as LossNoise
from ._noise.models import Diagonal as Diagonal
from ._noise.models import Isotropic as Isotropic
from ._noise.models import LabelNoise as LabelNoise
from ._noise.models import StudentT as StudentT
from ._optax.from_optax import OptaxEquation as OptaxEquation
from ._optax.from_optax import from_optax as from_optax
from ._optimizers.adagrad import AdaGrad as AdaGrad
from ._optimizers.adagrad import AdaGradState as AdaGradState
from ._optimizers.adam import Adam as Adam
from ._optimizers.adamw import AdamW as AdamW
from ._optimizers.adaptive import AdaptiveSplitting as AdaptiveSplitting
from ._optimizers.adaptive import Moments as Moments
from ._optimizers.amsgrad import AMSGrad as AMSGrad
from ._optimizers.amsgrad import AMSGradState as AMSGradState
from ._optimizers.extra_gradient import ExtraGradient as ExtraGradient
from ._optimizers.langevin import Langevin as Langevin
from ._optimizers.laprop import LaProp as LaProp
from ._optimizers.laprop import LaPropState as LaPropState
from ._optimizers.lion import Lion as Lion
from ._optimizers.lion import LionState as LionState
from ._optimizers.momentum import Momentum as Momentum
from ._optimizers.momentum import MomentumState as MomentumState
from ._optimizers.nadam import NAdam as NAdam
from ._optimizers.optimistic_gradient import OptimisticGradient as OptimisticGradient
from ._optimizers.optimistic_gradient import OptimisticState as OptimisticState
from ._optimizers.rmsprop import RMSProp as RMSProp
from ._optimizers.rmsprop import RMSPropState as RMSPropState
from ._optimizers.sam import SAM as SAM
from ._optimizers.sgd import SGD as SGD
from ._optimizers.sign_sgd import SignSGD as SignSGD
from ._optimizers.underdamped_langevin import UnderdampedLangevin as UnderdampedLangevin
from ._optimizers.underdamped_langevin import UnderdampedState as UnderdampedState
from ._scaling import ForwardedLimit as ForwardedLimit
from ._scaling import ScalingLimit as ScalingLimit
from ._series import Series as Series
from ._several import AbstractSeveralGradients as AbstractSeveralGradients
from ._signals.base import AbstractSignal as AbstractSignal
from ._signals.bcm import BCM as BCM
from ._signals.objective import Objective as Objective
from ._signals.oja import Oja as Oja
from ._signals.regularized import Regularized as Regularized
from ._signals.regularized import regularized as regularized
from ._signals.sources import Feed as Feed
from ._signals.sources import Population as Population
from ._signals.sources import Stored as Stored
from ._signals.spred import Factors as Factors
from ._signals.spred import Spred as Spred
from ._signals.syre import syre as syre
from ._splitting import ForwardedSplitting as ForwardedSplitting
from ._splitting import GradientSplitting as GradientSplitting
from ._splitting import Splitting as Splitting
from ._symbolic.symbolic import Symbolic as Symbolic
from ._symbolic.symbolic import symbolic as symbolic
from ._wrappers.averaged import Averaged as Averaged
from ._wrappers.averaged import PolyakAveraged as PolyakAveraged
from ._wrappers.averaged import averaged as averaged
from ._wrappers.base import AbstractWrapped as AbstractWrapped
from ._wrappers.base import WrappedLimit as WrappedLimit
from ._wrappers.base import WrappedSplitting as WrappedSplitting
from ._wrappers.clipped import Clipped as Clipped
from ._wrappers.clipped import clipped as clipped
from ._wrappers.decayed import Decayed as Decayed
from ._wrappers.decayed import decayed as decayed
from ._wrappers.scheduled import Scheduled as Scheduled
from ._wrappers.scheduled import ScheduledBatches as ScheduledBatches
from ._wrappers.scheduled import scheduled as scheduled
from ._wrappers.volumized import Volumized as Volumized
from ._wrappers.volumized import volumized as volumized

_OLD_NAMES = {"Regularised": "Regularized", "regularised": "regularized"}


def __getattr__(name: str):
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    new = _OLD_NAMES[name]
    warnings.warn(f"equations.{name} is now called equations.{new}.", DeprecationWarning, stacklevel=2)
    return globals()[new]
