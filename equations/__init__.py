"""What a dynamics is: signals, the contract, and each training algorithm as a differential equation beside its twin."""

from ._base import AbstractDynamics as AbstractDynamics
from ._base import AbstractEquation as AbstractEquation
from ._noise import noise_operator as noise_operator
from ._objective import Objective as Objective
from ._signal import AbstractSignal as AbstractSignal
from .adam import Adam as Adam
from .momentum import Momentum as Momentum
from .oja import Oja as Oja
from .sgd import SGD as SGD
