"""Weight decay collapses linear networks: continuously with one hidden layer, by a jump with more.

Source: Ziyin, Li and Meng, "Exact Solutions of a Deep Linear Network" (arXiv:2202.04777), and Ziyin and Ueda, "Exact Phase
Transitions in Deep Learning" (arXiv:2205.12510); the abstracts are read, the formulas are derived here.

E(f - y)^2 + gamma sum |W|^2 with D hidden layers has its minimum on the scale b of the layers, with e = E[xy] and
a = E[x^2], where a b^{2D} - e b^{D-1} + gamma = 0, or at b = 0. D = 1: b^2 = (e - gamma)/a up to gamma = e, second order.
D > 1: first order; zero is the lower minimum beyond

    gamma_c = [(D-1)/a]^{(D-1)/(D+1)} (e/D)^{2D/(D+1)},    where the product jumps from e(D-1)/(aD),

and a minimum at any gamma > 0; a learned solution is lost where a b^{2D} - e b^{D-1} + gamma loses its root.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics import solve, train
from equations import SGD, Objective
from validation import judge_bound, judge_equality

from . import Findings

X = jnp.array([[1.0, 0.5], [0.5, -1.0], [1.5, 1.0], [-1.0, 0.5]])  # inputs of two features
Y = jnp.array([1.0, 0.1, 1.8, -0.7])
