"""Processes of this machine that compute; imported only where Dask is."""

import asyncio
import json
import sys

from distributed.deploy.subprocess import SubprocessWorker


class Process(SubprocessWorker):
    """A worker and its nanny, started as a command in a session of its own.

    What `multiprocessing` spawns would run the user's script once more; and of an interruption from the keyboard the
    process of `sweep` alone is told, which then ends the others.
    """

    async def _start(self) -> None:
        spec = json.dumps({"cls": self.worker_class, "opts": self.worker_kwargs})
        command = (sys.executable, "-m", "dask", "spec", self.scheduler, "--spec", spec)
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
