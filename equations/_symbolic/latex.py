"""Equations in LaTeX: derivatives of an opaque L as \\partial_x L, vectors as columns."""

import functools


def equation_latex(state: tuple, drift: tuple, diffusion, rate) -> str:
    """dx = drift dt + diffusion dW, sums in rising powers of the learning rate."""
    import sympy

    printer = _printer(rate)
    column = lambda entries: printer.doprint(sympy.Matrix(entries))  # noqa: E731
    if len(state) == 1:
        left, right = f"\\mathrm{{d}} {printer.doprint(state[0])}", _factor(printer, drift[0])
    else:
        left, right = f"\\mathrm{{d}} {column(state)}", column(drift)
    terms = [f"{right} \\, \\mathrm{{d}}t"]
    if diffusion is not None:
        scalar = diffusion.shape == (1, 1)
        noise = _factor(printer, diffusion[0]) if scalar else printer.doprint(sympy.Matrix(diffusion))
        terms.append(f"{noise} \\, \\mathrm{{d}}W")
    return f"{left} = {' + '.join(terms)}"


def _factor(printer, expression) -> str:
    text = printer.doprint(expression)
    return f"\\left({text}\\right)" if expression.is_Add or expression.could_extract_minus_sign() else text


@functools.cache
def _printer(rate):
    """A printer for opaque functions; SymPy's own writes \\operatorname{L'}^{2}{\\left(\\theta \\right)}."""
    from sympy.core.function import AppliedUndef
    from sympy.printing.latex import LatexPrinter

    class Printer(LatexPrinter):
        def _as_ordered_terms(self, expr, order=None):
            terms = super()._as_ordered_terms(expr, order)
            return terms if rate is None else sorted(terms, key=lambda term: term.as_powers_dict()[rate])

        def _print_Function(self, expr, exp=None):
            if not (isinstance(expr, AppliedUndef) and all(argument.is_Symbol for argument in expr.args)):
                return super()._print_Function(expr, exp)
            name = self._deal_with_super_sub(type(expr).__name__)
            return name if exp is None else f"{name}^{{{exp}}}"

        def _print_Derivative(self, expr):
            if not (isinstance(expr.expr, AppliedUndef) and all(v.is_Symbol for v in expr.variables)):
                return super()._print_Derivative(expr)
            powers = [
                f"\\partial_{{{self._print(variable)}}}" + (f"^{{{self._print(count)}}}" if count != 1 else "")
                for variable, count in expr.variable_count
            ]
            return " ".join([*powers, self._print(expr.expr)])

    return Printer({"mat_str": "pmatrix", "mat_delim": ""})
