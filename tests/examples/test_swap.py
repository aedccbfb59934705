"""The example of swaps: each trains, and the learned count prior is judged on digits of its own."""

import re

import pytest

SHARES = ("prior", "learned_prior", "guide", "truth")


def test_every_swap_trains_every_parameter(smoked, load):
    _, result = smoked("swap_a_prior")
    rows = re.findall(r"^(.{20}) loss .* trained (\d+)/(\d+)$", result.stdout, re.MULTILINE)
    assert [name.strip() for name, _, _ in rows] == list(load("examples/swap_a_prior.py").SWAPS)
    assert all(trained == number for _, trained, number in rows)


def test_the_learned_count_prior(smoked, written):
    out, _ = smoked("swap_a_prior")
    metrics = written(out)
    shares = {name: [metrics[f"{name}_{n}"] for n in range(4)] for name in SHARES}
    assert all(sum(share) == pytest.approx(1, abs=1e-4) for share in shares.values())
    assert shares["prior"][0] == pytest.approx(0.99, abs=1e-3)
    distances = [
        sum(abs(p - q) for p, q in zip(shares[name], shares["guide"], strict=True))
        for name in ("learned_prior", "prior")
    ]
    assert distances[0] < distances[1]
    assert metrics["elbo_gain"] == pytest.approx(
        metrics["elbo_learned"] - metrics["elbo"], abs=1e-3
    )
    # Of the same draws: the error of the gain is not that of two bounds.
    assert metrics["elbo_gain"] > 2 * metrics["elbo_gain_error"] > 0
    assert metrics["elbo_gain_error"] < metrics["elbo_error"] / 2
    assert {path.stem for path in out.glob("*.png")} == {"prior_counts", "prior_samples"}
