"""What tests of several papers ask of a trace and of gradients."""

import torch
from pyro import poutine

from pyro_scenes.render import warp


def seeded(module, *args, seed=3, **kwargs):
    torch.manual_seed(seed)
    return poutine.trace(module).get_trace(*args, **kwargs)


def joint_of(model, proposed, images):
    return poutine.trace(poutine.replay(model, trace=proposed)).get_trace(images)


def latents(trace):
    return {n: trace.nodes[n] for n in trace.stochastic_nodes if n.startswith("z_")}


def values(trace):
    return {name: site["value"] for name, site in latents(trace).items()}


def gradients(*modules):
    """All, in order; they are cleared."""
    found = [p.grad.clone() for m in modules for p in m.parameters() if p.grad is not None]
    for module in modules:
        module.zero_grad()
    return found


def named_gradients(*modules):
    """Those that are not zero, by name; they are cleared."""
    found = {n: p.grad for m in modules for n, p in m.named_parameters() if p.grad is not None}
    for module in modules:
        module.zero_grad(set_to_none=True)
    return {name: grad for name, grad in found.items() if grad.any()}


def same(found, expected, rtol=1e-3):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * other.abs().max().item())


def placed(model, picture, transform, mask=None):
    """A picture on the canvas: its mask's centre of mass, if that is asked for, where T has the middle."""
    if model.centred:
        mass = picture if mask is None else mask
        mass = mass.sum(1) / mass.sum((1, 2, 3)).clamp(min=1e-6)[:, None, None]
        x, y = ((2 * torch.arange(size) + 1) / size - 1 for size in (mass.shape[2], mass.shape[1]))
        middle = torch.stack([(mass.sum(1) * x).sum(1), (mass.sum(2) * y).sum(1)], -1)
        transform = torch.cat([transform[..., :2], transform[..., 2:] + middle[..., None]], -1)
    return warp(picture, transform, model.image_shape)
