"""The atlas: papers on the dynamics of learning, each as one file that predicts, simulates and judges.

`run("law-of-balance")` measures an entry, `entries()` lists them, and `traindyn atlas` runs them all. A file holds the
claim and its source in its docstring, the prediction, `measure(key, full)`, which returns `Findings`, and `plot(ax, data)`.
"""

from .._atlas.catalog import Entry as Entry
from .._atlas.catalog import entries as entries
from .._atlas.findings import AtlasResult as AtlasResult
from .._atlas.findings import Findings as Findings
from .._atlas.run import run as run
