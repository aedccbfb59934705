"""Counts and interpretations of held-out images, against guides whose counts are known in closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule

from pyro_scenes import AIR, VAE, AIRGuide, VAEGuide
from pyro_scenes.evaluation import (
    count_accuracy,
    count_probabilities,
    counting,
    interpret,
    likeliest_counts,
    sample_counts,
)
from pyro_scenes.pairs import TrainingModeWarning
from pyro_scenes.render import box


class Presence(PyroModule):
    """Presences with given probabilities (n, steps), and a place that may decide about the next one."""

    def __init__(self, probs, decides=False):
        super().__init__()
        self.eval()
        self.probs, self.decides = probs, decides

    def forward(self, images):
        with pyro.plate("images", len(images), dim=-1):
            z_pres, z_where = torch.ones(len(images)), torch.ones(len(images), 1)
            for t, probs in enumerate(self.probs.unbind(-1)):
                probs = probs * z_where[:, 0] if self.decides else probs
                z_pres = pyro.sample(f"z_pres_{t}", dist.Bernoulli(probs * z_pres))
                uniform = dist.Uniform(torch.zeros(len(images), 1), 1.0).to_event(1)
                z_where = pyro.sample(f"z_where_{t}", uniform)


class Grid(PyroModule):
    """Cells with presences that do not depend on each other, and poses of some size."""

    def __init__(self, cells=3, pose=3):
        super().__init__()
        self.eval()
        self.cells, self.pose = cells, pose

    def forward(self, images=None, *, size=1):
        size = size if images is None else len(images)
        with pyro.plate("images", size, dim=-1):
            for t in range(self.cells):
                pyro.sample(f"z_pres_{t}", dist.Bernoulli(torch.full((size,), 0.5)))
                if self.pose:
                    pose = dist.Normal(torch.ones(size, self.pose), 0.1).to_event(1)
                    pyro.sample(f"z_where_{t}", pose)


@pytest.fixture
def air():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    return model, AIRGuide(model, presence=0.5).eval()


@pytest.fixture
def uncounted():
    """A model and a guide without presence."""
    model = VAE((1, 4, 4), 2)
    return model, VAEGuide(model).eval()


def blanks(n):
    return torch.zeros(n, 1, 1, 1)


def test_count_probabilities_are_the_product_of_presences():
    probs = torch.rand(20, 3)
    a, b, c = probs.unbind(-1)
    by_hand = torch.stack([1 - a, a * (1 - b), a * b * (1 - c), a * b * c], -1)
    for draws in (1, 4):  # whatever is drawn
        found = count_probabilities(Presence(probs), blanks(20), draws=draws)
        torch.testing.assert_close(found, by_hand)
        torch.testing.assert_close(found.sum(-1), torch.ones(20))


def test_certain_presences_make_certain_counts():
    probs = torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]])
    assert torch.equal(count_probabilities(Presence(probs), blanks(4)), torch.eye(4))
    assert torch.equal(sample_counts(Presence(probs), blanks(4)), torch.arange(4))


def test_count_probabilities_average_over_the_other_latents():
    guide = Presence(torch.ones(10, 2), decides=True)  # P(second | first at place z) = z ~ Uniform
    one, other = (count_probabilities(guide, blanks(10), draws=1) for _ in range(2))
    assert not torch.allclose(one, other)
    found = count_probabilities(guide, blanks(10), draws=300).mean(0)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 0.5]), rtol=0, atol=0.03)


def test_sampled_counts_have_the_probabilities():
    guide = Presence(torch.tensor([[0.7, 0.5, 0.8]]).expand(4000, 3))
    counts = sample_counts(guide, blanks(4000))
    assert counts.dtype == torch.int64
    expected = count_probabilities(guide, blanks(4000))[0]
    torch.testing.assert_close(counts.bincount() / 4000, expected, rtol=0, atol=0.03)  # 4 sigma


def test_counts_of_air_are_a_distribution(air):
    images = torch.rand(5, 1, 16, 16)
    found = count_probabilities(air[1], images)
    assert found.shape == (5, 3) and (found > 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(5))


@pytest.mark.parametrize("count", [count_probabilities, sample_counts])
def test_a_guide_that_does_not_count_is_refused(count, uncounted):
    with pytest.raises(ValueError, match="it does not count objects"):
        count(uncounted[1], torch.rand(3, 1, 4, 4))


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="draws must be a whole number"):
        count_probabilities(Presence(torch.ones(1, 1)), blanks(1), draws=0)


def test_count_accuracy_is_the_share_that_is_right():
    truth = torch.tensor([0, 1, 2, 2])
    assert count_accuracy(truth, truth) == 1.0
    assert count_accuracy(torch.tensor([0, 1, 2, 1]), truth) == 0.75
    assert count_accuracy(truth + 1, truth) == 0.0


@pytest.mark.parametrize(("counts", "truth"), [(0, 0), (2, 3), (1, 3)])
def test_count_accuracy_needs_a_count_for_each_truth(counts, truth, unchecked):
    with pytest.raises(ValueError, match=f"got {counts} and {truth}"):
        count_accuracy(torch.zeros(counts).long(), torch.zeros(truth).long())


# interpretations


@pytest.fixture
def interpreted(air):
    model, guide = air
    images = torch.rand(60, 1, 16, 16)
    torch.manual_seed(1)
    trace = poutine.trace(guide).get_trace(images)
    torch.manual_seed(1)
    found = interpret(model, guide, images)
    assert set(found.counts.tolist()) == {0, 1, 2}  # or the tests below would prove little
    return found, {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes}


def test_boxes_are_those_of_the_poses_and_nan_exactly_where_absent(interpreted):
    found, drawn = interpreted
    assert found.boxes.shape == (60, 2, 4)
    for t in range(2):
        present = found.counts > t
        assert torch.equal(present, drawn[f"z_pres_{t}"].bool())
        assert torch.equal(found.boxes[present, t], box(drawn[f"z_where_{t}"], (16, 16))[present])
        assert found.boxes[~present, t].isnan().all()


def test_the_canvas_is_black_where_nothing_is_and_lit_only_inside_the_boxes(interpreted):
    found, _ = interpreted
    assert found.canvas.shape == (60, 1, 16, 16)
    assert torch.equal(found.canvas.flatten(1).any(1), found.counts > 0)
    pixel = torch.arange(16) + 0.5
    left, top, right, bottom = (side[..., None] for side in found.boxes.unbind(-1))
    rows = (pixel > top - 1) & (pixel < bottom + 1)  # resampling blurs by less than a pixel
    columns = (pixel > left - 1) & (pixel < right + 1)
    lit = (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)
    assert not lit.all() and not found.canvas[~lit].any()


def test_objects_alone_make_up_the_canvas_and_lie_in_their_boxes(interpreted):
    found, _ = interpreted
    assert found.objects.shape == (60, 2, 1, 16, 16)
    assert torch.equal(found.objects.isfinite().flatten(2).all(2), found.boxes.isfinite().all(2))
    torch.testing.assert_close(found.objects.nansum(1), found.canvas)
    for step in range(2):
        alone = found.objects[found.counts == 2, step]
        assert alone.flatten(1).any(1).all() and (alone != found.canvas[found.counts == 2]).any()


def test_a_guide_without_presence_has_no_interpretation(uncounted):
    with pytest.raises(ValueError, match="it does not count objects"):
        interpret(*uncounted, torch.rand(3, 1, 4, 4))


# what is refused or noticed


def test_presences_in_no_unary_code_are_refused_and_their_draws_counted():
    with pytest.raises(
        ValueError, match="not in unary code: after z_pres_0 = 0.*0.5.*sample_counts"
    ):
        count_probabilities(Grid(), blanks(2))
    counts = sample_counts(Grid(), blanks(2000))
    assert counts.double().mean() == pytest.approx(1.5, abs=0.1)  # 5 sigma


def test_a_later_return_of_presence_is_found_too():
    class Returns(Presence):
        def forward(self, images):
            with pyro.plate("images", len(images), dim=-1):
                first = pyro.sample("z_pres_0", dist.Bernoulli(self.probs[:, 0]))
                second = pyro.sample("z_pres_1", dist.Bernoulli(0.5 * first))
                pyro.sample("z_pres_2", dist.Bernoulli(0.5 * first * (1 - second)))

    with pytest.raises(ValueError, match="after z_pres_1 = 0"):
        count_probabilities(Returns(torch.ones(2, 1)), blanks(2))


@pytest.mark.parametrize("pose", [0, 2, 4])
def test_boxes_are_read_from_poses_of_three_numbers_alone(pose):
    with pytest.raises(ValueError, match=r"poses \(scale, x, y\) at z_where_0"):
        interpret(Grid(pose=pose), Grid(pose=pose), blanks(2))


def test_a_model_without_a_canvas_has_no_interpretation():
    with pytest.raises(ValueError, match="no site canvas"):
        interpret(Grid(), Grid(), blanks(2))


def test_a_guide_of_another_model_interprets_nothing(air):
    model = AIR((1, 16, 16), (1, 8, 8), steps=4, code=4)
    with pytest.raises(ValueError, match="of another model"):
        interpret(model, air[1], torch.rand(2, 1, 16, 16))


@pytest.mark.parametrize("call", [count_probabilities, sample_counts])
def test_training_mode_is_noticed_by_counts(call, air):
    images = torch.rand(2, 1, 16, 16)
    with pytest.warns(TrainingModeWarning, match=r"guide.eval\(\)"):
        call(air[1].train(), images)
    with pytest.warns(TrainingModeWarning, match=r"guide.eval\(\)"):
        interpret(*air, images)


def test_counting_is_beside_what_one_count_for_all_reaches():
    probs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.6], [1.0, 1.0]])
    found = counting(Presence(probs), blanks(4), torch.tensor([0, 1, 2, 1]))
    assert found.count_accuracy == 0.75 and found.count_accuracy_floor == 0.5
    assert found.count_accuracy_sample in (0.5, 0.75)  # the third count is a coin's


def test_many_images_are_counted_a_chunk_at_a_time(monkeypatch):
    sizes = []

    def guide(images):
        sizes.append(len(images))
        Presence(images.new_tensor([[1.0, 0.0]]).expand(len(images), -1))(images)

    monkeypatch.setattr("pyro_scenes.evaluation.counts.CHUNK", 4)
    counts = counting(guide, blanks(10), torch.tensor([1] * 9 + [0]))
    assert set(sizes) == {4, 2}
    assert likeliest_counts(guide, blanks(10)).tolist() == [1] * 10
    assert (
        counts.count_accuracy == counts.count_accuracy_sample == counts.count_accuracy_floor == 0.9
    )
