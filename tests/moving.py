"""Equations that move what a loss leaves alone: by noise, or by decay."""

import optax

from equations import SGD, AdamW, Isotropic, Langevin, Momentum, StudentT, UnderdampedLangevin, decayed, from_optax

MOVING = {
    "langevin": Langevin(0.05, temperature=0.3),
    "underdamped": UnderdampedLangevin(0.05, temperature=0.3),
    "isotropic": SGD(0.05, noise_model=Isotropic(0.1)),
    "student": SGD(0.05, noise_model=StudentT(5.0, 0.1)),
    "adamw": AdamW(0.05, weight_decay=0.1),
    "decayed": decayed(Momentum(0.05, 2), 0.1),
    "optax": from_optax(lambda learning_rate: optax.adamw(learning_rate, weight_decay=0.1), 0.05),
}
