"""The command `traindyn atlas`."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from .options import Shown, told_if_interrupted


@dataclasses.dataclass(frozen=True)
class AtlasOptions(Shown):
    """The papers that this project is built from, each predicted, simulated and judged.

    Prints a table and writes report.html with every figure, and results.json. Exits with 0 where every entry holds or is
    unexplained, with 1 where one fails, with 4 where one cannot be told.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Entries; by default all."""
    list: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Only print names, claims and sources."""
    full: bool = False
    """The settings of the papers, which may take hours, in place of smaller ones."""
    seed: int = 0
    """Seed of data, parameters and noise."""
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("traindyn-atlas")
    """Folder of the report, made if need be; files of an earlier run are replaced."""


def run_atlas(options: AtlasOptions) -> None:
    """The command `traindyn atlas`."""
    from .._atlas.catalog import entries, entry

    chosen = [entry(name) for name in dict.fromkeys(options.names)] or [*entries()]
    if options.list:
        for one in chosen:
            print(f"{one.name}\n    {one.title}\n    {one.source}\n")
        return
    from .files import check_folder

    folder = check_folder("output", options.output)

    import jax

    from equations.internal import integer

    from .._atlas.run import failed, run, table
    from .progress import progress

    key = jax.random.key(integer("seed", options.seed, minimum=0, maximum=2**32 - 1))
    results, begin = [], time.monotonic()
    with progress(len(chosen), "atlas", hidden=options.silent) as show:
        for one in chosen:
            show(description=one.name)
            start = time.monotonic()
            try:
                results.append(run(one.name, key=key, full=options.full))
            except KeyboardInterrupt:
                if not results:
                    raise
                break
            except Exception as error:  # one entry spoils nothing else
                results.append(failed(one, error, time.monotonic() - start))
            show(advance=1)
        show(description="report")
        files = _write(folder, results, options)
    for result in results if len(results) <= 3 else ():
        print(result, end="\n\n")
    written = ", ".join(str(path) for path in files.values())
    print(f"{table(results)}\n\n{time.monotonic() - begin:.0f} s; written: {written}")
    told_if_interrupted(len(results), len(chosen), "entries")
    verdicts = {result.verdict for result in results}
    if verdicts & {"fails", "cannot tell"}:
        sys.exit(1 if "fails" in verdicts else 4)


def _write(folder: Path, results, options: AtlasOptions) -> dict[str, Path]:
    from .._atlas.figure import drawn
    from .._atlas.run import table
    from .._picture import pictured
    from .._plain import versions
    from .page import write_page

    configuration = {"seed": options.seed, "settings": "of the papers" if options.full else "small"}
    document = {"configuration": configuration, "entries": [result.to_dict() for result in results]}
    shown = [result for result in results if result.findings is not None]
    figures = {result.name: pictured(drawn(result).get_figure(), result.name) for result in shown}
    return write_page(
        folder, "atlas.html.jinja", document,
        configuration=configuration, versions=versions(), results=results, figures=figures, table=table(results),
    )  # fmt: skip
