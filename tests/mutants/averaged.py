"""Mutants of Averaged and PolyakAveraged."""

import equinox as eqx
from changed import changed

from equations import Averaged, AveragedState, PolyakAveraged


class TwiceAsFast(Averaged):
    """The average keeps rho^2 in a step of the equation."""

    def rate(self, t):
        return 2 * super().rate(t)


class SameDecay(Averaged):
    """Another learning rate at the same rho."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(lambda e: e.decay, s.rescaled(factor), s.equation.decay)
    )


class LinearDecay(Averaged):
    """1 - rho moves with the learning rate, which is rho^kappa in the limit only."""

    scaling_limit = changed(
        rescaled=lambda s, factor: eqx.tree_at(
            lambda e: e.decay, s.rescaled(factor), 1 - (1 - s.equation.decay) * factor
        )
    )


class OldWeights(Averaged):
    """The algorithm averages the weights before the step."""

    def twin(self):
        return before(self, super().twin())


class FirstStepUnseen(Averaged):
    """A first step that is the algorithm's leaves the average where it was."""

    splitting = changed(start=lambda s, state, *args: unseen(s, state, *args))


def before(average, twin):
    def update(updates, state, params=None, **more):
        updates, memory = twin.update(updates, state, params, **more)
        return updates, memory._replace(averaged=average.renewed(params, state.averaged, state.count))

    return twin._replace(update=update)


def unseen(s, state, *args):
    started = s.inner.start(state.equation, *args)
    return None if started is None else AveragedState(started, state.averaged)


class HalfTheRate(PolyakAveraged):
    """The average follows at half the rate."""

    def rate(self, t):
        return super().rate(t) / 2


class WithoutTheStart(PolyakAveraged):
    """The algorithm averages all weights but those of the start."""

    def share(self, count):
        return 1 / (count + 1)


class OldWeightsOnly(PolyakAveraged):
    """The algorithm averages the weights before the step."""

    def twin(self):
        return before(self, super().twin())


class Kicked(PolyakAveraged):
    """The average is kicked with the parameters."""

    splitting = changed(kick=lambda s, *args: kicked(s, *args))


def kicked(s, *args):
    kick = s.kick(*args)
    return AveragedState(kick.equation, kick.equation.trace)
