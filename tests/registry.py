"""Every algorithm that the shared laws of test_laws.py hold for: one line enrols it."""

from equations import SGD, Adam, Momentum

EQUATIONS = {
    "sgd": SGD(learning_rate=0.05, batch_size=2),
    "momentum": Momentum(learning_rate=0.05, batch_size=2),
    "nesterov": Momentum(learning_rate=0.05, batch_size=2, nesterov=True),
    "adam": Adam(learning_rate=0.05, batch_size=2),
}
