"""The command line in a process of its own."""

import subprocess
import sys


def traindyn(*arguments, cwd):
    """The installed command, as a user has it: float32, standard promotion."""
    command = [sys.executable, "-c", "from validation._commands.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
