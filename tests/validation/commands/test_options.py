"""Settings from a file, and what is printed."""

import dataclasses
import json
from pathlib import Path

import pytest
from command import traindyn

from validation._atlas.catalog import entry
from validation._commands.options import Shown, shown, with_config


@dataclasses.dataclass(frozen=True)
class Options(Shown):
    output: Path = Path()


def run(options):
    print("a table")
    (options.output / "results.json").write_text('{"verdict": "holds"}\n')


@pytest.mark.parametrize(("given", "printed"), [({}, "a table\n"), ({"quiet": True}, ""), ({"json": True}, None)])
def test_what_is_printed(given, printed, tmp_path, capsys):
    shown(run, Options(output=tmp_path, **given))
    out = capsys.readouterr().out
    assert out == printed if printed is not None else json.loads(out) == {"verdict": "holds"}


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_verdict_comes_with_its_report_and_an_error_without(error, tmp_path, capsys):
    def fails(options):
        run(options)
        raise error(1)

    with pytest.raises(error):
        shown(fails, Options(output=tmp_path, json=True))
    assert bool(capsys.readouterr().out) == (error is SystemExit)


@pytest.mark.parametrize("form", ["toml", "json"])
def test_a_file_stands_before_the_command_line(form, tmp_path):
    file = tmp_path / f"settings.{form}"
    toml = 'equation = ["sgd", "adam"]\nlearning_rate = 0.1\nquiet = true\njson = false\n'
    values = {"equation": ["sgd", "adam"], "learning_rate": 0.1, "quiet": True, "json": False}
    file.write_text(toml if form == "toml" else json.dumps(values))
    wanted = ["compare", "--equation", "sgd", "adam", "--learning-rate", "0.1", "--quiet", "--no-json"]
    for given in (["--config", str(file)], [f"--config={file}"]):
        assert with_config(["compare", *given, "--steps", "3"]) == [*wanted, *given, "--steps", "3"]
    assert with_config(["list"]) == ["list"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = ", "must be a TOML or JSON file"),
        ("steps = {a = 1}", "must hold numbers, words and lists"),
        (None, "must be a TOML or JSON file"),
        ("rule = [[1]]", "must hold numbers"),
        ("\x00", "must be a TOML or JSON file"),
    ],
)
def test_a_file_that_is_none(text, words, tmp_path):
    file = tmp_path / "settings.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"Argument `config` {words}"):
        with_config(["compare", "--config", str(file)])


def test_what_was_done_before_an_interrupt_is_written(tmp_path, monkeypatch, capsys):
    from validation._atlas import run as module
    from validation._commands.atlas import AtlasOptions, run_atlas

    def run_one(name, **options):
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return module.failed(entry(name), ValueError("none"), 0.0)

    done = []
    monkeypatch.setattr(module, "run", run_one)
    with pytest.raises(SystemExit) as left:
        run_atlas(AtlasOptions(names=("spred", "syre"), output=tmp_path, quiet=True))
    assert left.value.code == 130 and "written are 1 of 2 entries" in capsys.readouterr().err
    assert [one["name"] for one in json.loads((tmp_path / "results.json").read_text())["entries"]] == ["spred"]


@pytest.mark.slow
def test_json_of_a_run_by_file(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"equation": ["sgd"], "steps": 4, "paths": 4, "seed": 3}))
    done = traindyn("compare", "--config", "settings.json", "--json", "--steps", "6", cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert (found["configuration"]["steps"], found["configuration"]["seed"]) == (6, 3)
    assert json.loads((tmp_path / "traindyn-compare" / "results.json").read_text()) == found
    wrong = traindyn("compare", "--config", "none.toml", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("traindyn: Argument `config`") and not wrong.stdout


@pytest.mark.slow
def test_what_diverges_has_an_exit_code_of_its_own(tmp_path):
    done = traindyn("compare", "--equation", "sgd", "--learning-rate", "1e6", "--steps", "6", "--paths", "4",
                    "--quiet", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 3 and not done.stdout and (tmp_path / "traindyn-compare" / "report.html").is_file()
