"""A Diffrax solver around another one."""

from typing import ClassVar

import diffrax as dfx


class Around(dfx.AbstractWrappedSolver):
    """What wrappers of a solver hand through: all but `init` and `step`."""

    solver: dfx.AbstractSolver

    # Diffrax takes a wrapped Runge-Kutta method for one and would set this; `solve` has set it inside where it matters.
    scan_kind: ClassVar = "inside"

    @property
    def term_structure(self):
        return self.solver.term_structure

    @property
    def term_compatible_contr_kwargs(self):
        return self.solver.term_compatible_contr_kwargs

    @property
    def interpolation_cls(self):
        return self.solver.interpolation_cls

    def order(self, terms):
        return self.solver.order(terms)

    def strong_order(self, terms):
        return self.solver.strong_order(terms)

    def error_order(self, terms):
        return self.solver.error_order(terms)

    def func(self, terms, t0, y0, args):
        return self.solver.func(terms, t0, y0, args)
