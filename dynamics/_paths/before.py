"""States within a run that has been made."""

from equations.internal import quick_jit

from .keys import path_keys


@quick_jit(level=0)
def state_before(path, begin, key, paths, ahead, index, step):
    """`Path.before` of path `index` of an ensemble."""
    keys = path_keys(key, paths, ahead)
    return path.before(begin.of_path(index, path.begin, keys), keys[index], step)
