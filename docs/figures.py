"""The gallery: `python docs/figures.py [NAME ...]` measures, MkDocs draws.

A script in `docs/gallery` has a title and a caption in its docstring, and either `figure(ax)`, which is run as the
pages are built, or `measure()`, which takes longer and whose arrays and numbers are stored in `docs/gallery/data`, and
`draw(ax, data)`. Beside them stand the command and the version that made them.
"""

import ast
import functools
import importlib.util
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "gallery"
SIZE = (6.0, 3.8)  # inches
COLORS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"  # Okabe and Ito's
INK = {"light": "#1b1b1b", "dark": "#e6e6e6"}


def scripts() -> list[Path]:
    return sorted(FOLDER.glob("*.py"))


def loaded(script: Path):
    spec = importlib.util.spec_from_file_location(f"gallery_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(script: Path) -> Path:
    return FOLDER / "data" / f"{script.stem}.json"


def measure(script: Path) -> None:
    """Runs `measure` of a script and stores what it gives, where it has one."""
    module = loaded(script)
    if not hasattr(module, "measure"):
        return
    from dynamics._files import write_whole

    began, data = time.perf_counter(), module.measure()
    record = {
        "command": f"python docs/figures.py {script.stem}",
        "version": version("traindyn"),
        "seconds": round(time.perf_counter() - began),
        "data": {name: np.asarray(value).tolist() for name, value in data.items()},
    }
    write_whole(stored(script), lambda path: path.write_text(json.dumps(record) + "\n"))


def data_of(script: Path) -> dict[str, np.ndarray]:
    """What was stored."""
    data = json.loads(stored(script).read_text())["data"]
    return {name: np.asarray(value) for name, value in data.items()}


def drawn(script: Path, ax) -> None:
    """Lets a script draw into axes, from its stored data where it has some."""
    module = loaded(script)
    module.figure(ax) if hasattr(module, "figure") else module.draw(ax, data_of(script))


def pictures(script: Path) -> dict[str, str]:
    """SVG for light and for dark pages."""
    import matplotlib
    from cycler import cycler
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from validation._svg import svg

    style = {"axes.prop_cycle": cycler(color=COLORS), "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style | {"legend.frameon": False, "axes.titlelocation": "left"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        drawn(script, figure.add_subplot())
    found = {}
    for scheme, ink in INK.items():
        recolored(figure, ink)
        found[scheme] = '<?xml version="1.0"?>\n' + svg(figure, f"{script.stem}-{scheme}")
    return found


def recolored(figure, ink: str) -> None:
    """Gives text, axes and what was drawn in ink the color of a scheme, and lines in a dark blue one that is seen there."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import same_color
    from matplotlib.lines import Line2D
    from matplotlib.spines import Spine
    from matplotlib.text import Text

    turned = dict.fromkeys(("black", *INK.values()), ink)
    if ink == INK["dark"]:
        turned[COLORS[0]] = "#4ba3dc"

    def turn(get, put):
        found = get()
        for old, new in turned.items():
            if same_color(found, old):
                put(new)

    for ax in figure.axes:
        ax.tick_params(which="both", color=ink)
        ax.patch.set_alpha(0)
    for one in figure.findobj():
        if isinstance(one, Text):
            turn(one.get_color, one.set_color)
        elif isinstance(one, Spine):
            one.set_edgecolor(ink)
        elif isinstance(one, LineCollection):
            turn(lambda one=one: one.get_color()[0], one.set_color)
        elif isinstance(one, Line2D):
            turn(one.get_markerfacecolor, one.set_markerfacecolor)
            turn(one.get_markeredgecolor, one.set_markeredgecolor)
            turn(one.get_color, one.set_color)


def page() -> str:
    """The gallery in Markdown."""
    parts = [
        "# Gallery\n\nEvery figure is made by the script below it. Those with stored numbers say which command measured "
        "them, with which version.\n"
    ]
    for script in scripts():
        source = script.read_text()
        title, _, caption = ast.get_docstring(ast.parse(source)).partition("\n")
        code = source.split('"""', 2)[2].strip()
        made = "Made as this page was built."
        if stored(script).exists():
            record = json.loads(stored(script).read_text())
            made = f"Numbers by `{record['command']}`, version {record['version']}."
        images = "".join(
            f"![{title.rstrip('.')}](gallery/{script.stem}-{scheme}.svg#only-{scheme})\n" for scheme in INK
        )
        parts.append(
            f"## {title.rstrip('.')}\n\n{images}\n{' '.join(caption.split())}\n\n"
            f'??? note "Script"\n\n    {made}\n\n    ```python\n{_indented(code)}\n    ```\n'
        )
    return "\n".join(parts)


def _indented(code: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in code.splitlines())


@functools.cache
def _all() -> dict[str, str]:
    found = {"gallery.md": page()}
    for script in scripts():
        found |= {f"gallery/{script.stem}-{scheme}.svg": text for scheme, text in pictures(script).items()}
    return found


def on_files(files, config):
    """Hook of MkDocs: adds the page and its pictures."""
    from mkdocs.structure.files import File

    for name, text in _all().items():
        files.append(File.generated(config, name, content=text))
    return files


if __name__ == "__main__":
    known = {script.stem: script for script in scripts()}
    if unknown := set(sys.argv[1:]) - set(known):
        sys.exit(
            f"docs/figures.py: no script {', '.join(sorted(unknown))} in docs/gallery; there are {', '.join(known)}."
        )
    for name in sys.argv[1:] or known:
        measure(known[name])
