"""What the reports of all commands share: a page that opens offline, and the numbers as JSON."""

import json
from pathlib import Path

from dynamics.internal import write_whole


def write_page(folder: Path, template: str, document: dict, **context) -> dict[str, Path]:
    """Writes `report.html` and `results.json` into a folder that exists, each whole or not at all.

    **Arguments:** the folder, the name of a template beside this file, what becomes JSON, what the template needs.

    **Returns:** the paths of the files by name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("validation._commands", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    texts = {
        "report.html": environment.get_template(template).render(**context),
        "results.json": json.dumps(document, indent=1, allow_nan=False),
    }
    for name, text in texts.items():
        write_whole(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    return {name: folder / name for name in texts}
