"""Many runs of one experiment, from one core to a cluster.

1. `axes`: settings are the product of axes; every one is handed to the user's `experiment`, which gives a run's arguments.
2. `described`: what of these arguments is no number is described by its content; equal descriptions are one structure, and
   numbers have digests. Of both comes the digest of the whole sweep, by which a store knows its experiment.
3. `plan`: the settings of a structure are cut into shards of one fixed size, whatever computes them; the last is padded.
4. `stack`: a structure has one compiled function, of the numbers that are the same in all its settings, which are handed
   over once, and of those that differ, over which it is mapped by `vmap`. In a shard all is the same to the bit anywhere.
5. `segments`: long runs go on from their last state, which is kept in a file, by the `start` of `solve` and `train`.
6. `layout`, `memory`: what is recorded lies over the axes, in arrays or in a store; divergence is data.
7. `store`: one Zarr store with a chunk for every setting, and beside the arrays the manifest, a lock, and for every shard
   that is finished a checksum, written last: what has none, or another one, is computed anew.
8. `shard`, `cluster`: shards are computed in this process or by workers of Dask. The driver alone writes the store.
"""
