"""The command line: what it writes, and what it says to a wrong argument."""

import json
import re
import sys
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from command import traindyn

from dynamics._described import title
from equations import SGD
from validation._commands.catalogue import describe, exported
from validation._commands.main import Compare, _composed, _lookup, main, run_list


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("cli")
    done = traindyn(
        "compare", "--equation", "Momentum", "--steps", 6, "--save-every", 3, "--paths", 4, "--hidden", 4, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    assert "Momentum, learning rate 0.01" in done.stdout and "written: traindyn-compare" in done.stdout
    return cwd / "traindyn-compare"


@pytest.mark.slow
def test_writes_three_whole_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json", "trajectories.nc"]


def test_results_and_trajectories_agree(folder):
    document = json.loads((folder / "results.json").read_text())
    assert set(document["comparisons"]) == {"momentum"} and document["configuration"]["paths"] == 4
    mean = document["comparisons"]["momentum"]["observables"]["loss"]["mean"]
    with xr.open_datatree(folder / "trajectories.nc", engine="h5netcdf") as tree:
        assert {"equation", "refined", "discrete"} == set(tree["momentum"].children)
        discrete = tree["momentum/discrete"].dataset
        assert dict(discrete["loss"].sizes) == {"path": 4, "step": 3}
        assert discrete.attrs["equation"] == "Momentum" and discrete.attrs["learning_rate"] == 0.01
        np.testing.assert_allclose(discrete["loss"].mean("path"), mean["discrete"]["value"], rtol=1e-6)


def test_report_opens_offline(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")

    class Links(HTMLParser):
        found = []

        def handle_starttag(self, tag, attrs):
            self.found += [
                value for name, value in attrs if name in ("src", "href") and not value.startswith(("#", "data:"))
            ]
            assert tag not in ("script", "link", "iframe", "img")

    Links().feed(page)
    assert Links.found == []
    assert not re.findall(r"url\((?!#)", page)
    assert page.count("<svg") == page.count("<figcaption>") == 3  # one for each observable
    assert all(page.count(f'.{kind}" href="data:') == 3 for kind in ("svg", "png", "csv"))
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))  # or the figures would share their clip paths


@pytest.fixture
def called(monkeypatch, capsys):
    """The command in this process: its exit status and what it prints to both streams."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["traindyn", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code, *capsys.readouterr()

    return call


def test_help(called):
    code, out, _ = called("compare", "--help")
    assert code == 0 and "--batch-size" in out and "Examples per minibatch" in out


def test_list_says_what_every_equation_says_of_itself(capsys):
    run_list()
    blocks = {block.split("\n")[0]: block for block in capsys.readouterr().out.split("\n\n")}
    assert set(exported()) <= set(blocks) and {"sgd", "adam", "scheduled"} <= set(blocks)
    for name, kind in exported().items():  # a file without a formula, a source, ... raises
        found = describe(kind)
        assert found.formula in blocks[name] and "scaling" in blocks[name], name
    adam = describe(exported()["adam"])
    assert adam.formula.startswith("    d theta = -mu_hat") and adam.order.startswith("1")
    assert "Compagnoni et al. 2025, ICLR" in adam.sources
    assert "da Silva and Gazeau 2020, JMLR 21" in describe(exported()["adagrad"]).sources
    assert {"isotropic", "labelnoise", "minibatch", "studentt"} <= set(blocks)
    assert "Oja 1982, J. Math. Biol. 15" in blocks["oja"] and "1992, Neural Networks 5" in blocks["bcm"]
    assert "while of the parameters one cannot" in blocks["amsgrad"] and "cannot tell" in blocks["nadam"]
    assert {"accumulated", "stratonovich"} <= set(blocks) and "optax.MultiSteps" in blocks["accumulated"]
    assert "o dW" in blocks["stratonovich"]
    assert {"oja", "spred", "syre", "regularized"} <= set(blocks) and "C w - (w^T C w) w" in blocks["oja"]
    assert describe(exported()["sgd"]).sources == ("Li, Tai and E 2019, JMLR 20(40)", "Smith et al. 2021, ICLR")


def test_names_are_taken_as_people_write_them():
    assert _lookup("sign_sgd") is _lookup("SignSGD") is _lookup("sign-sgd") is exported()["signsgd"]


def test_weight_decay_and_schedule_go_around_the_equation():
    options = Compare(weight_decay=0.1, schedule="warmup", steps=200)
    rule = _composed(SGD(0.1), options)
    assert title(rule) == "Scheduled(Decayed(SGD))" and float(rule.equation.weight_decay) == 0.1
    factors = [float(rule.factor(jnp.asarray(step))) for step in (0, 10, 20, 200)]
    np.testing.assert_allclose(factors, (0, 0.5, 1, 0), atol=1e-6)
    assert float(_composed(SGD(0.1), Compare(schedule="cosine")).factor(jnp.asarray(0))) == 1
    assert _composed(SGD(0.1), Compare()) == SGD(0.1)


def test_a_docstring_without_its_parts_is_refused():
    class Silent(SGD):
        """Does something.

        d theta = nothing dt

        Scaling: none.
        """

    with pytest.raises(ValueError, match="with formula, order, sources, but Silent"):
        describe(Silent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--equation", "adm"), "Did you mean 'adam'?"),
        (("--equation", "xyzzy"), "but 'xyzzy' was given.\n"),
        (("--equation", "volumized"), "but 'volumized' was given, which goes around one"),
        (("--equation", "spred"), "the options --weight-decay and --schedule, all else is for Python"),
        (("--paths", "0"), "Argument `paths` must be an integer of at least 1"),
        (("--equation", "modified"), "must be one of adagrad, adam, "),
        (("--learning-rate", "-1"), "Argument `learning_rate` must be a positive finite number, but -1.0 was given"),
        (("--batch-size", "0"), "Argument `batch_size` must be an integer of at least 1"),
        (("--save-every", "7"), "Argument `save_every` must divide `steps`"),
        (("--output", "file/inside"), "Argument `output` must be a folder that can be written"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, called, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, _, err = called("compare", *arguments)
    assert code == 2 and message in err
    assert sorted(path.name for path in tmp_path.iterdir()) in (["file"], ["file", "traindyn-compare"])


def test_unknown_option(called):
    code, out, err = called("compare", "--batchsize", "3")
    assert code == 2 and "--batch-size" in err + out


@pytest.mark.slow
def test_a_wrong_argument_leaves_no_traceback(tmp_path):
    done = traindyn("compare", "--steps", "0", cwd=tmp_path)
    assert done.returncode == 2 and "Argument `steps`" in done.stderr and "Traceback" not in done.stderr


def test_a_failed_write_leaves_nothing(tmp_path):
    from dynamics.internal import write_whole

    def fail(path):
        path.write_text("half")
        raise RuntimeError

    (tmp_path / "kept").write_text("before")
    with pytest.raises(RuntimeError):
        write_whole(tmp_path / "kept", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "before"
