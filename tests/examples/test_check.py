"""The example of predictive checks; and that no example scores digits that it was trained on."""

import numpy as np
import pytest
import torch

from pyro_scenes.data import fingerprints, multi_digits

CHECK = "posterior_predictive_check"
STATISTICS = ("total_ink", "roughness", "unexplained_spot")


def test_p_values_stand_beside_those_of_a_calibrated_model(smoked, written):
    out, _ = smoked(CHECK)
    metrics = written(out)
    assert 0 < metrics["tail_share_calibrated"] < 1 and metrics["tail_share_calibrated_error"] > 0
    for name in STATISTICS:
        low, high = (metrics[f"tail_share_{name}_too_{side}"] for side in ("little", "much"))
        assert 0 <= low + high <= 1
        assert metrics[f"tail_share_{name}"] == pytest.approx(low + high)
    for source in ("prior", "guide", "truth"):
        assert sum(metrics[f"{source}_{n}"] for n in range(4)) == pytest.approx(1)
    assert {path.stem for path in out.glob("*.png")} == {"checks", "check_count"}
    assert (out / "inference_data.nc").exists() and not (out / "checkpoint.pt").exists()


def test_it_takes_a_checkpoint_of_air(smoked, run, written, tmp_path):
    checkpoint = smoked("air_multi_mnist")[0] / "checkpoint.pt"
    result = run(CHECK, "--smoke", "--checkpoint", checkpoint, "--out", "out")
    assert "trained for 10 steps" in result.stdout
    assert not (tmp_path / "out" / "checkpoint.pt").exists()
    # Checked under the prior of the end, and p(n) = 0.01^n 0.99.
    assert written("out")["prior_0"] > 0.8


def test_an_unexplained_spot_is_a_missed_object(load):
    spot = load(f"examples/{CHECK}.py").unexplained_spot
    canvas = np.random.default_rng(0).random((3, 1, 50, 50))
    images = canvas.copy()
    images[1, :, 5:10, 20:25] += 0.5
    np.testing.assert_allclose(spot(images, {"canvas": canvas}), [0, 0.5, 0], atol=1e-12)


def stop(*args, **kwargs):
    raise ValueError("enough")


@pytest.mark.parametrize(
    ("example", "patches"),
    [
        ("air_multi_mnist", {"learn": stop}),
        ("swap_a_prior", {"SWAPS": {}, "learn_counts": stop}),
    ],
)
def test_digits_for_training_and_tests_are_others(example, patches, run):
    """Scenes are made of sets of digits without a digit in common."""
    sets = {}

    def spy(digits, size, **settings):
        sets[fingerprints(digits[0])[0].item()] = fingerprints(digits[0])
        return multi_digits(digits, size, **settings)

    result = run(example, "--smoke", "--out", "out", fails=True, multi_digits=spy, **patches)
    assert "enough" in result.stderr
    together = torch.cat([*sets.values()])
    assert len(sets) > 1 and len(together.unique()) == len(together)
