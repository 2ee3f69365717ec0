"""The contract: what a dynamics is (all that `dynamics.solve` knows), and what a training algorithm adds to it."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ._checks.arguments import LARGEST, choice, integer, positive
from ._checks.declared import check_linear
from ._checks.facts import Facts, refined
from ._checks.lineage import inside, newer
from ._checks.old_names import old_attribute
from ._checks.own_names import check_unset
from ._gradients import drawn_gradient, is_noisy
from ._noise.base import AbstractGradientNoise, Minibatch, mean_over_normals, noise_model
from ._noise.batches import SAMPLINGS, Batches
from ._noise.loss import check_loss_noise
from ._scaling import ScalingLimit
from ._series import Series
from ._signals.base import AbstractSignal, check_signal
from ._signals.sources import check_source, size_of
from ._splitting import GradientSplitting, Splitting, split
from ._tree import scaled_sum, zeros_of
from ._velocity import reads_affine, response, velocity_of

State = PyTree
Params = PyTree


class AbstractDynamics(eqx.Module):
    """A stochastic differential equation dY = drift dt + diffusion dW, read in the Itô sense unless its class says
    otherwise. All that `solve` knows.

    A dynamics of one's own gives `drift`, and if it is noisy `diffusion` (a Lineax operator); where another way to step it
    is faster, `splitting`. The state is any PyTree of floating-point arrays; it is the parameters themselves unless `init`
    and `params` say otherwise. The length of a training step in time is its attribute `learning_rate`, if it has one,
    or the argument `dt` of `solve`. Under a stream of stimuli the signal is a `Stimulus`; what acts late is that of an
    `AbstractCircuit`.

    What the methods return has the structure and the shapes of the state, in floating-point numbers, which are cast to the
    precision of the state; all else is refused by class and method before compilation, as is a class whose override of a
    method would be ignored in some runs, or an attribute under a private name of these classes.

    A class attribute tells which of Diffrax's solvers fit: `interpretation = "stratonovich"` where drift and diffusion are
    those of dY = drift dt + diffusion o dW (a training algorithm's are Itô's: see `stratonovich`), or `"additive"` where
    the diffusion does not depend on the state and both are one, which is otherwise read off its jaxpr.
    """

    _facts = Facts("equation", contract=True)

    interpretation = "ito"
    several_gradients = False  # whether a velocity takes the gradient as a function: see _several.py

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        check_unset(cls)

    def __getattr__(self, name: str):
        return old_attribute(self, name, split, check_sampling)

    def init(self, params: Params) -> State:
        """The state at time zero."""
        return params

    def params(self, state: State) -> Params:
        """The parameters in a state."""
        return state

    @abc.abstractmethod
    def drift(self, t: Array, state: State, signal: Any) -> State:
        """dY/dt, the mean over the noise."""

    def diffusion(self, t: Array, state: State, signal: Any) -> lx.AbstractLinearOperator | None:
        """The linear operator in front of dW, from the noise's structure to the state's; None: no noise."""
        return None

    def splitting(self) -> Splitting:
        """How solvers split it into a flow and a kick; what drift and diffusion say, unless something is faster."""
        return Splitting(self)

    def scaling_limit(self) -> ScalingLimit:
        """In which limit the equation is that of its algorithm: what moves with the learning rate, by default nothing."""
        return ScalingLimit(self)

    def series(self) -> Series:
        """What is known of the series in the learning rate of which this is the beginning. Not to be overridden."""
        return Series()

    def held(self, low: Array, high: Array | None = None) -> "AbstractDynamics":
        """The same dynamics with all that it counts held at training step `low`, a whole number from 0.

        A schedule and an optimizer's own count are functions of the training step: held, they have one value in every stage
        of a solver, whatever the rounding of t/eta. Time is not counted. With `high`, for a step of a solver that lies
        between two training steps: counts are read at real numbers of steps, but not beyond that interval, at whose ends
        they may jump. Itself, the same object, where nothing is counted.
        """
        return self

    def check(self, params: Params, signal: Any) -> None:
        """Raises a TypeError or ValueError unless the dynamics can run on these parameters and this signal."""

    def sees(self, signal: Any) -> Any:
        """The signal as the algorithm sees it, which may change it example by example, as by clipping."""
        inner = inside(self)
        return signal if inner is None else inner.sees(signal)


class AbstractEquation(AbstractDynamics):
    r"""The continuous model of one training algorithm, and the algorithm itself, its *twin*.

    A new algorithm gives `velocity` and `twin`, and `init` and `params` if it remembers more than the parameters. Time
    is t = learning_rate * step. Drift and noise follow from the velocity u(t, Y, g) and the minibatch gradient
    g = \bar g + delta:

        dY = E[u(t, Y, \bar g + delta)] dt + sqrt(learning_rate) (u(t, Y, \bar g + delta) - E[u]) "dW/dt" dt,

    where the noise of all components comes from the same delta (Li, Tai and E 2019, JMLR 20(40), for the affine case).
    A subclass may give another `drift` or `diffusion` to a rule: the splitting follows. The twin does not, nor does what is
    made of the twin alone, as by `modified`.

    **Arguments:**

    - `learning_rate`: positive, time per training step. Traced: a new value does not recompile.
    - `batch_size`: examples per minibatch, or None for the full batch, without noise.
    - `sampling`: `"with_replacement"`, `"without_replacement"` (independent subsets), `"shuffled"` (epochs of batches
        without repetition, noise-free at leading order).
    - `noise_model`: how the gradient of a training step deviates from the full one: `Minibatch()`, which is exact, or
        `Diagonal()`, `Isotropic(scale)`, `LabelNoise(scale)`, `StudentT(df, scale)`. That of a random loss is put on top.

    **Raises:** TypeError or ValueError, naming the argument.
    A rule may say that its velocity is affine in the gradient by a class attribute `linear = True`, which is tried on
    numbers, or ask for the general path by `linear = False`; by default that is read off its jaxpr. One that takes several
    gradients of a batch in a step is an `AbstractSeveralGradients`.
    """

    _facts = refined(AbstractDynamics, contract=True, algorithm=True)

    linear = None

    learning_rate: Array = eqx.field(converter=positive("learning_rate"))
    batch_size: int | None = eqx.field(
        default=None, static=True, converter=lambda value: integer("batch_size", value, maximum=LARGEST, optional=True)
    )
    sampling: str = eqx.field(
        default="with_replacement", static=True, converter=lambda value: choice("sampling", value, SAMPLINGS)
    )
    noise_model: AbstractGradientNoise = eqx.field(
        default_factory=Minibatch, kw_only=True, converter=noise_model("noise_model")
    )

    @abc.abstractmethod
    def velocity(self, t: Array, state: State, gradient: Params) -> State:
        """dY/dt when the gradient is `gradient`. Must not be random.

        t is read at the stages of a solver and should enter smoothly. What jumps with the training step, t/learning_rate,
        would be read across the jump, of which `solve` warns: put it into `scheduled`, or give `held`.
        """

    @abc.abstractmethod
    def twin(self) -> optax.GradientTransformation:
        """The discrete algorithm that this equation models."""

    @property
    def gradient_noise(self) -> AbstractGradientNoise:
        """All the noise of a gradient: `noise_model`, and whatever the algorithm itself injects."""
        return self.noise_model

    def batches(self, signal: AbstractSignal) -> Batches:
        """The examples of a signal as this algorithm draws them."""
        check_loss_noise(self, signal)
        return Batches(self.sees(signal), self.batch_size, self.sampling)

    @property
    def random(self) -> bool:
        """Whether the equation has noise: in its gradients, or by a `diffusion` of a user's class. Not to be overridden."""
        return is_noisy(self) or newer(type(self), "diffusion", "random")

    def series(self):
        return Series(discrete=True)

    def splitting(self):
        """That of the velocity at noisy gradients."""
        return GradientSplitting(self)

    def is_affine(self, state: State) -> bool:
        """Whether the velocity is affine in the gradient: as `linear` says, or else as read off its jaxpr."""
        if self.linear is not None:
            return self.linear
        return not self.several_gradients and reads_affine(self, state)

    def drift(self, t, state, signal):
        """The mean velocity over the noise.

        Exact for velocities of at most second degree in the gradient, where E u(\\bar g + delta) is, for minibatches, the
        mean over the examples of (u(\\bar g + c_i) + u(\\bar g - c_i))/2 with c_i the deviation of example i, scaled to the
        covariance of delta; for others an approximation. Where the velocity asks for several gradients the same holds of
        the normals of the draw, in which their product is of second degree.
        """
        params = self.params(state)
        check_loss_noise(self, signal, state)
        if not is_noisy(self) or self.is_affine(state):
            return velocity_of(self, t, state, self.gradient(params, signal, None))
        if self.several_gradients:
            batches, drawn = self.batches(signal), lambda normals: self.gradient(params, signal, normals)
            return mean_over_normals(
                lambda normals: velocity_of(self, t, state, drawn(normals)),
                self.gradient_noise.structure(batches, params),
            )
        return self.gradient_noise.mean(self.batches(signal), params, lambda g: velocity_of(self, t, state, g))

    def diffusion(self, t, state, signal):
        """A root of the diffusion as a Lineax operator, for plain Diffrax solvers; None without noise.

        It takes the K normals of one draw, for minibatches `(N,)`; where the velocity is of second degree in the gradient a
        pair of these and of shape `(K, K)`, the second for the noise of delta^2 (K squared backward passes: for small
        problems; Gaussian noise).
        """
        batches = self.batches(signal)
        if not is_noisy(self):
            return None
        params = self.params(state)
        root = self.gradient_noise.root(batches, params)
        scale = jnp.sqrt(self.learning_rate)
        normals = root.in_structure()
        if self.is_affine(state):
            return lx.FunctionLinearOperator(
                lambda xi: scaled_sum((scale, response(self, t, state, root.mv(xi)))), normals
            )
        if not self.gradient_noise.normal:
            raise ValueError(
                "Argument `noise_model` must be Gaussian for the diffusion of a rule that is not affine in the gradient, "
                f"but {self.gradient_noise!r} was given; the default solver does not need it."
            )
        mean, direction = batches.signal.gradient(params), root.mv
        velocity = lambda g: velocity_of(self, t, state, g)  # noqa: E731
        if self.several_gradients:  # of the normals themselves, since there are several gradients
            mean, direction = zeros_of(normals), lambda normals: normals
            velocity = lambda n: velocity_of(self, t, state, self.gradient(params, signal, n))  # noqa: E731
        zeros, unravel = ravel_pytree(zeros_of(normals))

        def mv(inputs):
            linear, quadratic = inputs
            total = jax.jvp(velocity, (mean,), (direction(linear),))[1]

            def add(total, column):
                unit, row = column
                directional = lambda g: jax.jvp(velocity, (g,), (direction(unravel(unit)),))[1]  # noqa: E731
                second = jax.jvp(directional, (mean,), (direction(unravel(row)),))[1]
                return scaled_sum((1.0, total), (0.5**0.5, second)), None

            units = jnp.eye(zeros.size, dtype=zeros.dtype)
            return scaled_sum((scale, jax.lax.scan(add, total, (units, quadratic))[0]))

        square = jax.ShapeDtypeStruct((zeros.size, zeros.size), zeros.dtype)
        return lx.FunctionLinearOperator(mv, (normals, square))

    def check(self, params, signal):
        check_sampling(self, signal)
        signal.check(params)
        check_linear(self, params)
        self.gradient_noise.check(signal)
        self.gradient_noise.check_derivatives(signal, params)
        split(self).check_noise(signal)

    def gradient(self, params: Params, signal: AbstractSignal, normals: PyTree | None) -> Params:
        """The gradient of one training step from the normals of one draw; the full gradient if they are None.

        As a function of the parameters where the rule takes several.
        """
        if self.several_gradients:
            return drawn_gradient(self, self.sees(signal), normals)
        if normals is None:
            return self.sees(signal).gradient(params)
        return self.gradient_noise.draw(self.batches(signal), params, normals)


def check_contract(equation: Any, twin: bool = False, name: str = "equation") -> None:
    """Raises a TypeError unless `equation` is an instance of a dynamics, or with `twin` of the equation of an algorithm."""
    kind = AbstractEquation if twin else AbstractDynamics
    if not isinstance(equation, kind):
        hint = " (an instance, not the class)" if isinstance(equation, type) and issubclass(equation, kind) else ""
        raise TypeError(f"Argument `{name}` must be an equations.{kind.__name__}{hint}, but {equation!r} was given.")


def check_sampling(equation: AbstractEquation, signal: Any) -> None:
    """Raises a TypeError or ValueError unless minibatches can be drawn from the signal's examples."""
    check_signal(signal, "objective")
    size, sampling = equation.batch_size, equation.sampling
    check_source(signal.data, size, sampling)
    if size is not None and sampling != "with_replacement" and size > size_of(signal):
        raise ValueError(
            f"Argument `batch_size` must be at most the number of examples, {size_of(signal)}, for sampling={sampling!r}, "
            f"but {size} was given."
        )
