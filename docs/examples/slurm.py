"""A sweep on a cluster with Slurm: `pip install traindyn[sweep] dask-jobqueue`, then `python slurm.py` on a login node.

Every job is a worker with one core. The folder of the store must be one that all nodes see. When this script ends, is
interrupted or is killed, start it again: it computes what is not stored yet.
"""

import jax
import jax.numpy as jnp
import numpy as np
from dask.distributed import Client
from dask_jobqueue import SLURMCluster

from dynamics import sweep, train
from equations import SGD, Objective

X = np.random.default_rng(0).standard_normal((1000, 20))
objective = Objective(lambda w, x: jnp.sum(jnp.sin(w - x) ** 2), X)
observe = {"loss": objective.value}


def experiment(learning_rate, batch_size, seed):
    return dict(
        equation=SGD(learning_rate, batch_size),
        objective=objective,
        params=jnp.zeros(20),
        steps=100_000,
        key=jax.random.key(seed),
        observe=observe,
        save_every=1000,
    )


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", "/scratch/jax")  # shared by all workers
    cluster = SLURMCluster(cores=1, processes=1, memory="4GB", walltime="02:00:00", queue="normal")
    cluster.adapt(maximum=64)  # jobs that end are replaced
    axes = {"learning_rate": np.geomspace(1e-3, 1e-1, 16), "batch_size": [1, 4, 16], "seed": range(20)}
    with Client(cluster) as client:
        runs = sweep(experiment, axes, run=train, store="runs.zarr", client=client, checkpoint_every=10_000)
    print(runs["loss"].isel(step=-1).mean(("seed", "path")))
