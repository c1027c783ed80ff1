"""What `make bench` measures with: the bound, photos that differ, a bare decoder that gives what Flair is fed."""

import numpy as np
import pytest

from benchmarks import pipeline
from ml.images.preprocessing import prepare_image


def test_the_bound_is_what_two_steps_after_each_other_reach():
    assert pipeline.bound_of({"decode": [60.0, 30.0], "network": [30.0, 30.0]}) == pytest.approx([20.0, 15.0])


def test_it_decodes_to_the_pixels_that_flair_is_fed(tmp_path):
    pipeline._write_photo(tmp_path, 3)
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(pipeline.decode(path, 224), prepare_image(path.read_bytes(), 224))


def test_it_times_bare_processes_and_ends_them(tmp_path):
    for number in range(2):
        pipeline._write_photo(tmp_path, number)
    rate, cost = pipeline.bare("decode", sorted(tmp_path.iterdir()), processes=2)
    assert rate > 0
    assert cost > 0


def test_it_counts_the_memory_of_processes_once_where_they_share_it():
    import os

    used = pipeline.memory_of([os.getpid()])
    assert 10 < used["pss"] <= used["rss"]


def test_it_says_shares_of_the_bound_round_by_round(capsys):
    figures = {
        "decode": [60.0], "network": [30.0], "whole": [15.0], "import alone": [50.0], "workers alone": [18.0],
        "processor": [0.5],
    }  # fmt: skip
    pipeline.say(figures, 2)
    said = capsys.readouterr().out
    assert "processor time, bare / whole       50%" in said
    assert "whole / bound                      75%" in said
    assert "workers alone / bound              90%" in said
