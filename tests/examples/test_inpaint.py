"""The example that inpaints: errors beside floors, holes of the sizes that the help names, own images."""

import numpy as np
import pytest
import torch

INPAINT = "inpaint"


def test_errors_of_unseen_pixels_stand_beside_floors(run, written):
    run(INPAINT, "--smoke", "--model", "econ", "--out", "out")
    errors = written("out")
    floors = {"nearest_seen", "one_colour", "mean_picture"}
    assert {*errors} == {f"unseen_error_{n}" for n in {"canvas", "mean_of_canvases"} | floors}
    best = min(errors[f"unseen_error_{floor}"] for floor in floors)
    assert errors["unseen_error_canvas"] < best / 2


def test_holes_are_of_the_shares_that_the_help_names(load):
    hole = load(f"examples/{INPAINT}.py").hole
    images = torch.zeros(400, 3, 30, 40)
    for kind, share in {"square": 1 / 9, "bar": 1 / 5, "pixels": 1 / 2}.items():
        unseen = hole(images, kind)
        assert unseen.double().mean().item() == pytest.approx(share, abs=0.01)
        assert len({row.numpy().tobytes() for row in unseen}) > 20


def test_images_of_ones_own_must_fit_the_weights(run, written, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((9, 50, 50)))
    run(INPAINT, "--smoke", "--model", "air", "--images", "mine.npy", "--out", "out")
    assert np.isfinite(list(written("out").values())).all()
    result = run(INPAINT, "--smoke", "--images", "mine.npy", "--out", "other", fails=True)
    assert "the weights of econ are of images (3, 32, 32)" in result.stderr
