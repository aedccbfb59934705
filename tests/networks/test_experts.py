"""Experts: all, or the chosen one, of several modules; beside a loop over rows."""

import pytest
import torch
from torch import nn

from pyro_scenes.networks import (
    EmptyDecoder,
    FlatDecoder,
    SpriteDecoder,
    apply_each,
    apply_selected,
    select,
)

SHAPE = (3, 6, 5)


class Scaled(nn.Module):
    """A module with a buffer, which counts as much as its weights."""

    def __init__(self, factor):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, inputs, *others):
        return self.factor * self.linear(inputs) + sum(others)


class Other(nn.Module):
    def forward(self, inputs, *others):
        return inputs[:, :3] + sum(others)


class Activated(nn.Module):
    """A module with a function of its own."""

    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.function = function

    def forward(self, inputs):
        return self.function(self.linear(inputs))


KINDS = {
    "functions": lambda: [Activated(torch.tanh), Activated(torch.neg), Activated(torch.neg)],
    "one": lambda: [nn.Linear(4, 3)],
    "alike": lambda: [nn.Linear(4, 3) for _ in range(4)],
    "buffers": lambda: [Scaled(1.0), Scaled(-2.0), Scaled(5.0)],
    "widths": lambda: [
        nn.Sequential(nn.Linear(4, hidden), nn.Linear(hidden, 3)) for hidden in (2, 2, 7, 2)
    ],
    "kinds": lambda: [Scaled(1.0), Scaled(2.0), Other(), nn.Linear(4, 3), Scaled(3.0)],
    "decoders": lambda: [
        *[SpriteDecoder(4, SHAPE, shape=shape) for shape in (0, 0, 1)],
        FlatDecoder(4, SHAPE),
        EmptyDecoder(SHAPE),
    ],
}


@pytest.fixture(params=KINDS)
def modules(request):
    return KINDS[request.param]()


def row_by_row(modules, choice, *inputs):
    rows = zip(choice.tolist(), *inputs, strict=True)
    return torch.cat([modules[k](*(part[None] for part in row)) for k, *row in rows])


def every(modules, rows=9):
    """Choices in which each comes, in no order."""
    return torch.arange(rows).mul(7) % len(modules)


def test_the_chosen_module_sees_its_rows(modules):
    choice, inputs = every(modules), torch.randn(9, 4)
    found = apply_selected(modules, choice, inputs)
    torch.testing.assert_close(found, row_by_row(modules, choice, inputs), atol=1e-5, rtol=1e-5)
    listed = apply_selected(nn.ModuleList(modules), choice, inputs)
    assert torch.equal(found, listed)


def test_gradients_are_those_of_a_loop_over_rows(modules):
    choice, weight, found = every(modules), None, []
    for apply in (apply_selected, row_by_row):
        inputs = torch.linspace(-1, 1, 36).view(9, 4).requires_grad_()
        made = apply(modules, choice, inputs)
        weight = torch.randn_like(made) if weight is None else weight
        parameters = [inputs, *(p for module in modules for p in module.parameters())]
        loss = (made * weight).sum()
        found.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_modules_that_no_row_chose_get_no_gradient():
    modules = KINDS["kinds"]()
    apply_selected(modules, torch.tensor([1, 3, 1]), torch.randn(3, 4)).sum().backward()
    trained = [any(p.grad is not None and p.grad.any() for p in m.parameters()) for m in modules]
    assert trained == [False, True, False, True, False]


def test_modules_take_several_inputs():
    modules, choice = [Scaled(1.0), Scaled(2.0), Other()], torch.tensor([2, 1, 0, 1])
    inputs = torch.randn(4, 4), torch.randn(4, 3), torch.randn(4, 1)
    found = apply_selected(modules, choice, *inputs)
    torch.testing.assert_close(found, row_by_row(modules, choice, *inputs))


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(ValueError, match="no modules"):
        apply_selected([], torch.tensor([0]), torch.randn(1, 4))


def test_each_module_is_applied_to_its_own_slice(modules):
    inputs = torch.randn(2, 3, len(modules), 4)
    found = apply_each(modules, inputs, event_dims=1)
    assert found.shape[:3] == (2, 3, len(modules))
    for k, module in enumerate(modules):
        expected = module(inputs[:, :, k].flatten(0, 1)).unflatten(0, (2, 3))
        torch.testing.assert_close(found[:, :, k], expected)


def test_batches_and_experts_are_broadcast():
    """A slice for all experts alike, and batches of other shapes."""
    modules = KINDS["alike"]()
    each, shared = torch.randn(5, 1, 4, 4), torch.randn(3, 1, 4)
    found = apply_each([lambda x, y, m=m: m(x + y) for m in modules], each, shared, event_dims=1)
    assert found.shape == (5, 3, 4, 3)
    for k, module in enumerate(modules):
        torch.testing.assert_close(found[:, :, k], module(each[:, :, k] + shared[:, 0]))


def test_to_apply_each_and_to_select_is_to_apply_the_selected(modules):
    choice, inputs = every(modules), torch.randn(9, 4)
    all_of_them = apply_each(modules, inputs[:, None], event_dims=1)
    found = select(all_of_them, choice, event_dims=all_of_them.dim() - 2)
    torch.testing.assert_close(found, apply_selected(modules, choice, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("event", [(), (4,), (2, 3, 1)])
@pytest.mark.parametrize(
    ("stacked", "choice"), [((5,), (5,)), ((5,), (7, 1)), ((7, 1, 5), (3, 1, 1, 1)), ((), (5,))]
)
def test_a_selection_is_of_each_batch_element(stacked, choice, event):
    """As by advanced indexing, after both batches are broadcast."""
    values, number = torch.randn(*stacked, 6, *event), torch.randint(6, choice)
    found = select(values, number, event_dims=len(event))
    batch = torch.broadcast_shapes(stacked, choice)
    assert found.shape == (*batch, *event)
    wide, index = values.expand(*batch, 6, *event), number.expand(batch)
    for place in torch.cartesian_prod(*map(torch.arange, batch)).view(-1, len(batch)).tolist():
        torch.testing.assert_close(found[tuple(place)], wide[(*place, index[tuple(place)])])
