"""What is not finite in a training is named by its source."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_scenes import AIR, AIRGuide, fit
from pyro_scenes.inference import Diverged

IMAGES = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pair():
    model = AIR((1, 16, 16), (1, 8, 8), steps=2, code=4)
    return model, AIRGuide(model)


def nan_buffer(pair):
    pair[0].z_what.loc.fill_(torch.nan)
    pair[1].register_buffer("unused", torch.full((), torch.nan))


def infinite_weight(pair):
    pair[1].z_pres[0].weight.data.fill_(torch.inf)
    pair[0].unused = torch.nn.Parameter(torch.full((), torch.nan))


@pytest.mark.filterwarnings("ignore:Encountered")
@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("change", "batch", "words"),
    [
        (nan_buffer, IMAGES, "Not finite before it: buffer z_what.loc. No training"),
        (infinite_weight, IMAGES, r"Not finite before it: z_pres.0.weight\. (Try|Nothing)"),
        (lambda pair: None, IMAGES / 0, "Not finite before it: part 1 of the batch. No training"),
    ],
)
def test_divergence_names_its_source(pair, validation, first, change, batch, words):
    training = fit(*pair, [IMAGES, batch] if not first else [batch])
    with pyro.validation_enabled(validation):
        if not first:
            next(training)
        change(pair)
        kind = ValueError if first and batch is not IMAGES else Diverged
        with pytest.raises(kind, match="first batch has" if kind is ValueError else words):
            next(training)


def test_a_buffer_that_nothing_reads_is_no_source(pair):
    pair[0].register_buffer("unused", torch.full((), torch.nan))
    pair[1].z_pres[0].weight.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(
        Diverged, match=r"parameters are those of step 0\. Nothing has been learned"
    ):
        next(fit(*pair, [IMAGES]))


def test_a_finite_number_outside_its_constraint_is_no_divergence_at_the_first_step(pair):
    pair[0].z_where = lambda scene: dist.Normal(torch.zeros(3), -1.0).to_event(1)
    with pytest.raises(ValueError, match="Expected parameter scale"):
        next(fit(*pair, [IMAGES]))


@pytest.mark.filterwarnings("ignore:Encountered")
def test_every_norm_is_told(pair):
    """That of one group may be finite where that of another is not."""
    pair[1].z_pres[0].weight.register_hook(lambda grad: grad * torch.nan)
    groups = [{"params": pair[0].parameters()}, {"params": pair[1].parameters()}]
    optim = torch.optim.SGD(groups, lr=0.0)
    with pytest.raises(Diverged, match=r"gradient norm [\d.e+]+, nan"):
        next(fit(*pair, [IMAGES], optim=optim))
