"""Writes `mutants/table.json`, which laws reject each mutant: `python tests/mutants_table.py [NAME ...]`, or of all.

A name is that of a mutant, such as `sgd.TwiceTheNoise`, or of its file.
"""

import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

import test_laws  # noqa: E402  # after the precision in which tests run
from laws import LAWS  # noqa: E402

PLACE = Path(__file__).parent / "mutants" / "table.json"


def table(names):
    """What the file holds, measured anew for the mutants of these names, or for all."""
    known, mutants = json.loads(PLACE.read_text()), test_laws.MUTANTS
    wrong = [name for name in names if not any(name in (mutant, mutant.split(".")[0]) for mutant in mutants)]
    if wrong:
        raise SystemExit(f"There is no mutant {wrong[0]!r}: give a file of tests/mutants, or file.Class.")

    def row(mutant):
        asked = not names or {mutant, mutant.split(".")[0]} & set(names) or mutant not in known
        return test_laws.rejections(mutant, LAWS) if asked else known[mutant]

    return {mutant: row(mutant) for mutant in mutants}


if __name__ == "__main__":
    found = table(sys.argv[1:])  # before the file is opened
    lines = [f"  {json.dumps(mutant)}: {json.dumps(row)}" for mutant, row in found.items()]
    PLACE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
