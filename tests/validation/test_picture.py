"""Figures of a page hold their files: SVG, PNG and the data that they draw."""

import base64
import csv
import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from validation._picture import data_of, pictured


def figure():
    drawn = Figure()
    left, right = drawn.subplots(1, 2)
    left.set_title("loss", loc="left")
    left.plot([0, 1, 2], [3.0, 2.0, 1.5], label="SGD")
    left.fill_between([0, 1], [1.0, 2.0], [2.0, 3.0], label="band")
    left.errorbar([5.0], [7.0], yerr=[0.5], fmt="o", label="measured")
    right.set_title("map", loc="left")
    right.pcolormesh(np.array([[1.0, 2.0], [3.0, np.nan]]), label="error")
    right.bar([0.0], [4.0], label="bars")
    return drawn


def rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_the_data_are_what_is_drawn():
    header, *found = rows(data_of(figure()))
    assert header == ["panel", "series", "x", "y", "value"]
    assert [row[2:] for row in found if row[:2] == ["loss", "SGD"]] == [["0", "3"], ["1", "2"], ["2", "1.5"]]
    assert ["loss", "measured", "5", "7"] in found
    assert {row[3] for row in found if row[1] == "measured, ends"} == {"6.5", "7.5"}
    assert {row[3] for row in found if row[1] == "band, ends"} >= {"1", "2", "3"}
    assert [row[2:] for row in found if row[1] == "error"][1:] == [["1", "0", "2"], ["0", "1", "3"], ["1", "1", "nan"]]
    assert ["map", "bars", "0", "4"] in found


def test_the_files_are_those_of_the_figure_and_the_same_again():
    first, again = pictured(figure(), "run"), pictured(figure(), "run")
    assert first == again and first.name == "run" and first.svg.startswith("<svg")
    contents = {kind: base64.b64decode(link.partition("base64,")[2]) for kind, link in first.links.items()}
    assert list(contents) == ["SVG", "PNG", "CSV"] and b"xmlns=" in contents["SVG"][:400]
    pixels = matplotlib.image.imread(io.BytesIO(contents["PNG"]))
    assert pixels.shape[:2] == (720, 960) and pixels[0, 0, :3] == pytest.approx(1)  # on white
    assert rows(contents["CSV"].decode()) == rows(data_of(figure()))
