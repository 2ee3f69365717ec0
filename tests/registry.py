"""Every algorithm that the shared laws of test_laws.py hold for: one line enrols it."""

from equations import SGD, AdaGrad, Adam, AdamW, AMSGrad, LaProp, Momentum, NAdam, RMSProp

EQUATIONS = {
    "sgd": SGD(learning_rate=0.05, batch_size=2),
    "momentum": Momentum(learning_rate=0.05, batch_size=2),
    "nesterov": Momentum(learning_rate=0.05, batch_size=2, nesterov=True),
    "adam": Adam(learning_rate=0.05, batch_size=2),
    "adamw": AdamW(learning_rate=0.05, batch_size=2, weight_decay=0.1),
    "nadam": NAdam(learning_rate=0.05, batch_size=2),
    "amsgrad": AMSGrad(learning_rate=0.05, batch_size=2),
    "rmsprop": RMSProp(learning_rate=0.05, batch_size=2),
    "rmsprop_centered": RMSProp(learning_rate=0.05, batch_size=2, centered=True),
    "adagrad": AdaGrad(learning_rate=0.05, batch_size=2),
    "laprop": LaProp(learning_rate=0.05, batch_size=2),
}
