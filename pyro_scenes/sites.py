"""Sample sites of a model beside those of its guide: what must agree, or the objective is no bound."""

import re
import warnings
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Bool
from pyro import poutine
from pyro.distributions import Distribution
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import TransformedDistribution

from .supports import is_within, unwrapped

__all__ = [
    "check_drawn",
    "check_observed",
    "check_pair",
    "check_sites",
    "latents",
    "warn_unsupported",
    "where_counted",
]

_REBUILD = "if the prior was changed after the guide was built, build a new guide"


def check_pair(joint: poutine.Trace, proposed: poutine.Trace) -> None:
    """Raises a ValueError unless the guide drew just what the model draws, in the same shapes and masks.

    Args:
        joint: Trace of the model, replayed at the guide's draws.
        proposed: Trace of the guide.
    """
    check_sites(joint, proposed)
    for name, site in latents(proposed).items():
        _check_mask(name, joint, site)


def check_sites(joint: poutine.Trace, proposed: poutine.Trace) -> None:
    """The same but for masks, which depend on the draws: the model's trace may have draws of its own."""
    check_observed(proposed)
    drawn, proposals = latents(joint), latents(proposed)
    if {*drawn} != {*proposals} or not drawn:
        raise ValueError(
            f"model and guide do not belong together: the model draws {sorted(drawn)}, the guide "
            f"{sorted(proposals)}. The guide must draw each latent of the model by pyro.sample, and no "
            'other (or with infer={"is_auxiliary": True})'
        )
    check_drawn(joint, proposed)


def check_drawn(joint: poutine.Trace, proposed: poutine.Trace) -> None:
    """The same of what the guide has drawn so far, if more is to come."""
    drawn = latents(joint)
    for name, proposal in latents(proposed).items():
        if name in drawn:
            _check_distribution(name, drawn[name]["fn"], proposal)
            _check_plates(name, drawn[name], proposal)
            _check_scale(name, drawn[name], proposal)


def check_observed(proposed: poutine.Trace) -> None:
    for name in proposed.observation_nodes:
        infer = proposed.nodes[name]["infer"]
        if not (infer.get("_deterministic") or infer.get("is_auxiliary")):
            raise ValueError(
                f"the guide observes {name}, so its log q would count: write "
                f"poutine.block(guide, hide=[{name!r}]), and condition the model on it"
            )


def warn_unsupported(joint: poutine.Trace) -> None:
    """Warns of observed values outside the support of their distribution."""
    for name in joint.observation_nodes:
        site = joint.nodes[name]
        if not _is_supported(site):
            advice = ": round the images, or use Pixels(dist.Normal, scale=0.3)" * (name == "image")
            support = unwrapped(site["fn"]).support
            words = (
                f"{name} has values outside the support {support} of its distribution, so its log "
            )
            warnings.warn(f"{words}density is not defined{advice}", stacklevel=3)


def _is_supported(site: Any) -> bool:
    """Whether a site's values lie in its distribution's support, wherever they count."""
    fn = unwrapped(site["fn"])
    if isinstance(fn, dist.Unit | dist.Delta):
        return True  # a factor, or a deterministic site
    try:
        inside = fn.support.check(site["value"])
    except NotImplementedError:  # a distribution need not say
        return True
    inside = inside | _is_unseen(site["value"], fn.event_dim)
    if (counted := where_counted(site)) is not None:
        first: Any = (..., *[0] * fn.event_dim)
        inside = inside | ~counted[first]
    return bool(inside.all())


def _is_unseen(value: Tensor, events: int) -> Tensor:
    unseen = value.isnan()
    return unseen.flatten(-events).any(-1) if events else unseen


def latents(trace: poutine.Trace) -> dict[str, Any]:
    sites = {name: trace.nodes[name] for name in trace.stochastic_nodes if name != "image"}
    others = [n for n, s in sites.items() if site_is_subsample(s) or s["infer"].get("is_auxiliary")]
    return {name: site for name, site in sites.items() if name not in others}


def _check_distribution(name: str, prior: Distribution, proposed: Any) -> None:
    proposal = proposed["fn"]
    shapes = tuple(prior.event_shape), tuple(proposal.event_shape)
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} has event shape {shapes[0]} in the model, {shapes[1]} in the guide: {_REBUILD}; "
            "else see .to_event"
        )
    if (
        isinstance(unwrapped(prior), dist.Delta)
        and prior.log_prob(proposed["value"]).isneginf().any()
    ):
        raise ValueError(
            f"{name} is a point in the model: the guide must draw it from the same dist.Delta"
        )
    if isinstance(unwrapped(proposal), dist.Delta):
        if not prior.support.check(proposed["value"]).all():
            raise ValueError(f"{name} lies outside the support {prior.support} of its prior")
        return
    try:
        kinds = [fn.support.is_discrete for fn in (prior, proposal)]
    except NotImplementedError:
        return  # a distribution need not say, and a flow of Zuko does not
    if kinds[0] != kinds[1] or not is_within(prior, proposal):
        raise ValueError(
            f"{name} has support {prior.support} in the model, {proposal.support} in the guide, which "
            f"must lie inside: {_REBUILD}"
        )


def _check_scale(name: str, drawn: Any, proposed: Any) -> None:
    own, other = (torch.as_tensor(site["scale"]).cpu().double() for site in (drawn, proposed))
    if ((own != other) & (own != 0) & (other != 0)).any():  # 0 is a mask, and checked as one
        raise ValueError(
            f"{name} is scaled by {own.unique().tolist()} in the model and by "
            f"{other.unique().tolist()} in the guide: scale both alike, or the result is no bound"
        )


def _check_plates(name: str, drawn: Any, proposed: Any) -> None:
    plates, other = (
        {(f.name, f.size, f.dim) for f in site["cond_indep_stack"] if f.vectorized}
        for site in (drawn, proposed)
    )
    if lacking := sorted(plates - other):
        frame = 'pyro.plate("{}", {}, dim={})'.format(*lacking[0])
        raise ValueError(
            f"the model draws {name} inside {frame}, the guide does not: put `with {frame}:` around it"
        )
    if extra := sorted(other - plates):
        frame = 'pyro.plate("{}", {}, dim={})'.format(*extra[0])
        raise ValueError(
            f"the guide draws {name} inside {frame}, the model does not: put both in the same plates"
        )
    shapes = [
        re.sub(r"^\[(1, )*1?", "[", str([*site["fn"].batch_shape])) for site in (drawn, proposed)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} has batch shape {shapes[0]} in the model, {shapes[1]} in the guide: it must be the "
            "plates' in both"
        )


def _check_mask(name: str, joint: poutine.Trace, proposed: Any) -> None:
    drawn = joint.nodes[name]
    if isinstance(unwrapped(proposed["fn"]), dist.Delta):
        return  # without a spread there is nothing to gain
    kept, counted = (where_counted(site) for site in (drawn, proposed))
    if kept is counted is None:
        return
    everywhere = torch.ones((), dtype=torch.bool, device=proposed["value"].device)
    kept, counted = torch.broadcast_tensors(
        *(everywhere if part is None else part for part in (kept, counted))
    )
    if (counted & ~kept).any():
        presence = _presence_of(name, joint, kept)
        where = f" ({presence} = 0)" if presence else ""
        mask = re.sub(r"_\d+$", "", presence) + ".bool()" if presence else "..."
        raise ValueError(
            f"the guide draws {name} where the model masks it out{where}: put "
            f"`with poutine.mask(mask={mask}):` around it, as in the model. Without it the objective "
            "has no upper bound"
        )
    if (kept & ~counted).any():
        raise ValueError(
            f"the guide masks {name} out where the model draws it: mask it where the model does, and "
            "nowhere else. Without its log q the objective is no bound"
        )


def where_counted(site: Any) -> Bool[Tensor, "..."] | None:
    """Where a site's density counts, broadcastable to its value. None: everywhere."""
    fn, masks = site["fn"], [(site["mask"], site["fn"].event_dim)]
    if isinstance(site["scale"], Tensor) and site["scale"].dim():
        masks.append((site["scale"] != 0, fn.event_dim))  # a scale for each image is a mask, too
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        if isinstance(fn, dist.MaskedDistribution):
            masks.append((fn._mask, fn.event_dim))
        fn = fn.base_dist
    counted = None
    for mask, events in masks:
        if mask is not None:
            mask = torch.as_tensor(mask, device=site["value"].device)
            mask = mask[(..., *[None] * events)]
            counted = mask if counted is None else counted & mask
    return counted


def _presence_of(name: str, joint: poutine.Trace, kept: Tensor) -> str:
    """The discrete latent that is 0 just where a site is masked out, of the same step if there is one."""
    step = re.search(r"_\d+$", name)
    names = [other for other in joint.nodes if step and other.endswith(step[0])]
    for other in [*names, *reversed(joint.stochastic_nodes)]:
        site = joint.nodes[other]
        if site["type"] == "sample" and getattr(site["fn"], "has_enumerate_support", False):
            present = site["value"] != 0
            if present.numel() == kept.numel() and torch.equal(present.flatten(), kept.flatten()):
                return other
    return ""
