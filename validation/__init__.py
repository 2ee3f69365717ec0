"""Whether an equation is true: comparison with the discrete algorithm, and reports.

The names, which `__init__.pyi` lists, are imported when they are first asked for: a command that computes nothing answers
at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
