"""Charts: curves, bars and lines."""

import numpy as np
from matplotlib.colors import to_rgba

from pyro_scenes.viz import SOURCE_COLOURS, bars, curves, lines


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_each_quantity_has_its_curve_with_gaps_where_it_is_missing():
    history = [
        {"step": 1.0, "elbo": 2.0, "seconds": 5, "count_accuracy": None},
        {"step": 3.0, "elbo": 4.0, "count_accuracy": 0.5, "cpu_seconds": 5},
        {"step": 4.0},
    ]
    figure = curves(history)
    assert [axis.get_title() for axis in figure.axes] == ["ELBO (nats)", "count accuracy (share)"]
    elbo, accuracy = (axis.lines[0] for axis in figure.axes)
    assert list(elbo.get_xdata()) == list(accuracy.get_xdata()) == [1, 3, 4]
    np.testing.assert_equal(list(elbo.get_ydata()), [2, 4, np.nan])
    np.testing.assert_equal(list(accuracy.get_ydata()), [np.nan, 0.5, np.nan])
    assert {axis.get_xlabel() for axis in figure.axes} == {"step"}


def test_curves_are_wrapped_and_no_place_is_an_empty_panel():
    figure = curves([{"step": 1} | {f"m{i}": i for i in range(7)}], columns=3)
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in axes] == [f"m{i}" for i in range(7)]
    assert {axis.get_subplotspec().colspan.start for axis in axes} == {0, 1, 2}


def test_curves_have_units_and_marks():
    figure = curves([{"hour": 1, "error": 2}], x="hour", units={"error": "px"}, marks={"end": 0.5})
    (axis,), (legend,) = figure.axes, figure.legends
    assert axis.get_title() == "error (px)" and axis.get_xlabel() == "hour"
    assert list(axis.lines[1].get_xdata()) == [0.5, 0.5] and labels(legend) == ["end"]


def test_training_and_validation_share_a_panel():
    row = {"step": 1, "train_elbo": 1, "mse": 3, "validation_elbo": 2}
    elbo, mse = curves([row], marks={"now": 1}).axes
    assert elbo.get_title() == "ELBO (nats)" and mse.get_title() == "MSE"
    assert labels(elbo.get_legend()) == ["training batches", "validation scenes"]
    assert [line.get_ydata()[0] for line in elbo.lines[:2]] == [1, 2] and not mse.get_legend()
    (alone,) = curves([{"step": 1, "validation_loss": 2}]).axes
    assert alone.get_title() == "validation loss (nats)"


def test_a_history_of_nothing_is_an_empty_panel():
    assert len(curves([]).axes) == 1


def test_bars_stand_side_by_side_over_their_number():
    rows = {"truth": np.array([0.2, 0.5, 0.3]), "model": np.array([0.6, 0.4])}
    (axis,) = bars(rows, x="count", headline="two").axes
    assert axis.get_title() == "two"
    assert axis.get_xlabel() == "count" and list(axis.get_xticks()) == [0, 1, 2]
    assert axis.get_ylabel() and labels(axis.get_legend()) == list(rows)
    drawn = sorted((bar.get_x(), bar.get_width(), bar.get_height()) for bar in axis.patches)
    assert [height for _, _, height in drawn] == [0.2, 0.6, 0.5, 0.4, 0.3]
    for (x, width, _), (after, _, _) in zip(drawn, drawn[1:], strict=False):
        assert x + width <= after + 1e-9  # no bar hides another
    assert [round(x + width / 2) for x, width, _ in drawn] == [0, 0, 1, 1, 2]


def colours_of(names):
    (axis,) = bars({name: [1.0] for name in names}).axes
    return dict(zip(names, (to_rgba(bar.get_facecolor()) for bar in axis.patches), strict=True))


def test_truth_guide_and_prior_have_their_colours_in_any_company():
    one = colours_of(["truth", "guide, aggregated", "prior"])
    two = colours_of(["prior", "learned prior", "guide", "truth", "model"])
    assert [one["truth"], one["prior"]] == [two["truth"], two["prior"]]
    assert one["guide, aggregated"] == two["guide"] == to_rgba(SOURCE_COLOURS["guide"])
    assert len(set(two.values())) == 5
    (axis,) = lines({"other": [([0], [1])], "prior": [([0], [1])]}).axes
    assert to_rgba(axis.lines[1].get_color()) == one["prior"]


def test_groups_of_lines_share_a_panel_a_colour_and_one_entry_of_the_legend():
    groups = {"one": [([0, 1], [2, 3]), ([0, 2], [5, 4])], "other": [([0, 1, 2], [1, 1, 2])]}
    (axis,) = lines(groups, x="seconds", y="nats").axes
    assert [list(map(list, line.get_data())) for line in axis.lines] == [
        [list(xs), list(ys)] for pairs in groups.values() for xs, ys in pairs
    ]
    first, second, third = (to_rgba(line.get_color()) for line in axis.lines)
    assert first == second != third
    assert labels(axis.get_legend()) == ["one", "other"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("seconds", "nats")


# predictive checks
