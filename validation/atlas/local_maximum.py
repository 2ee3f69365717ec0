"""SGD with a large constant learning rate, and AMSGrad, can converge to a local maximum.

Source: Ziyin, Li, Simon and Ueda, "SGD with a Constant Large Learning Rate Can Converge to Local Maxima"
(arXiv:2107.11774); recalled from the abstract, the condition derived here. The paper's example for AMSGrad could not be
read: the one here is of its kind.

w' = (1 - eta h) w at a point where all gradients vanish: it converges where E ln|1 - eta h| < 0, whatever the sign of E h.
h = 1 or -1.1 with equal chances is a maximum, E h = -.05, of rate ln(.5 * 1.55)/2 = -.127 at eta = .5, and leaves at .05.
Its differential equation has -eta E h - eta^2 Var h/2.
"""
