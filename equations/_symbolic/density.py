"""The Fokker-Planck operator and stationary densities of a symbolic equation."""

from typing import Any

from .normalizable import normalizable, positive_definite


def covariance_rate(diffusion):
    """sigma sigma^T."""
    return diffusion * diffusion.T


def fokker_planck(state: tuple, drift: tuple, diffusion, density):
    """-sum_i d_i (b_i p) + (1/2) sum_ij d_i d_j ((sigma sigma^T)_ij p)."""
    import sympy

    flux = sympy.Add(*((b * density).diff(x) for x, b in zip(state, drift, strict=True)))
    if diffusion is None:
        return -flux
    rate = covariance_rate(diffusion)
    spread = sympy.Add(
        *((rate[i, j] * density).diff(x).diff(y) for i, x in enumerate(state) for j, y in enumerate(state))
    )
    return spread / 2 - flux


def stationary_density(state: tuple, drift: tuple, diffusion, potential, numbers: dict):
    """The density by the first of three rules that holds: Gaussian, Gibbs, quadrature in one dimension; and whether its
    integral is finite, None where that cannot be told."""
    import sympy

    def judged(density):
        return density, normalizable(density, state, numbers)

    if diffusion is None or all(entry.is_zero for entry in diffusion):
        raise ValueError(
            "Argument `diffusion` must not be zero for a stationary density, but the equation has no noise."
        )
    rate = covariance_rate(diffusion).applyfunc(sympy.simplify)
    constant = not rate.free_symbols & set(state)
    slope = sympy.Matrix(drift).jacobian(state).applyfunc(sympy.simplify)
    if constant and not slope.free_symbols & set(state) and not slope.atoms(sympy.core.function.AppliedUndef):
        return _gaussian(state, drift, slope, rate, numbers)
    isotropic = rate == rate[0, 0] * sympy.eye(len(state))
    if constant and isotropic and len(state) > 1:
        potential = _potential(state, drift) if potential is None else potential
        if potential is not None:
            return judged(sympy.exp(-2 * potential / rate[0, 0]))
    if len(state) == 1:
        (x,), (b,) = state, drift
        exponent = (
            -2 * potential / rate[0] if constant and potential is not None else sympy.integrate(2 * b / rate[0], x)
        )
        return judged(sympy.exp(exponent) if constant else sympy.exp(exponent) / rate[0])
    raise ValueError(
        "Argument `drift` must be one-dimensional, linear with constant diffusion, or the gradient of a potential with "
        f"sigma sigma^T a constant times 1 for a stationary density, but {drift} was given."
    )


def _gaussian(state, drift, slope, rate, numbers):
    """Linear drift A x + c, constant noise: mean -A^-1 c, covariance from A C + C A^T + sigma sigma^T = 0."""
    import numpy as np
    import sympy

    d = len(state)
    known = {symbol: sympy.Float(float(value)) for symbol, value in numbers.items()}
    given = slope.xreplace(known)
    if not given.free_symbols and max(np.linalg.eigvals(np.array(given.tolist(), float)).real) >= 0:
        raise ValueError(
            f"Argument `drift` must be stable for a stationary density, but its matrix {slope.tolist()} is not."
        )
    unknowns = {(i, j): sympy.Dummy() for i in range(d) for j in range(i, d)}
    covariance = sympy.Matrix(d, d, lambda i, j: unknowns[min(i, j), max(i, j)])
    balance = slope * covariance + covariance * slope.T + rate
    solution = sympy.linsolve([balance[i, j] for i, j in unknowns], *unknowns.values())
    found: Any = solution or (tuple(unknowns.values()),)
    (entries,) = found
    covariance = covariance.xreplace(dict(zip(unknowns.values(), entries, strict=True))).applyfunc(sympy.simplify)
    determinant = sympy.simplify(covariance.det())
    if determinant.free_symbols & set(unknowns.values()) or determinant.is_zero:
        raise ValueError(
            f"Argument `drift` must be stable and the noise reach all directions for a stationary density, but the drift's "
            f"matrix is {slope.tolist()} and sigma sigma^T is {rate.tolist()}."
        )
    offset = sympy.Matrix(drift).xreplace(dict.fromkeys(state, sympy.S.Zero))
    deviation = sympy.Matrix(state) + slope.LUsolve(offset)
    exponent = sympy.simplify((deviation.T * covariance.LUsolve(deviation))[0])
    density = sympy.exp(-exponent / 2) / sympy.sqrt((2 * sympy.pi) ** d * determinant)
    # Of a stable drift the covariance is positive, once it is not singular.
    return density, True if not given.free_symbols else positive_definite(covariance.xreplace(known))


def _potential(state, drift):
    """U with drift = -grad U, or None where there is none that SymPy finds."""
    import sympy

    potential = sympy.S.Zero
    for x, b in zip(state, drift, strict=True):
        potential += sympy.integrate(sympy.simplify(-b - potential.diff(x)), x)
    rest = [sympy.simplify(b + potential.diff(x)) for x, b in zip(state, drift, strict=True)]
    return potential if all(r == 0 for r in rest) else None
