"""Which parameters a training has, and its optimiser: as modules name them, and as Pyro sees them in use."""

from collections.abc import Callable, Iterable
from numbers import Real

from pyro import poutine
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..pairs import modules_of

__all__ = ["Parameters", "adam"]

Named = list[tuple[str, Tensor]]


def adam(model: Callable, guide: Callable, *, lr: float = 1e-3, baseline_lr: float = 1e-2) -> Adam:
    """One Adam over both; parameters with ``baseline`` in their name have a learning rate of their own.

    Args:
        model: A module, or one inside Pyro's wrappers, such as ``poutine.condition(model, ...)``.
        guide: The same.
        lr: Learning rate, from 0 up.
        baseline_lr: Learning rate of the baselines.

    Raises:
        TypeError: One of them is a function: what it uses is known only where it runs, in :func:`fit`.
    """
    for function in (model, guide):
        if not isinstance(poutine.unwrap(function), nn.Module):
            raise TypeError(
                f"adam needs modules, got {function!r:.60}: of a function's parameters fit makes an "
                "optimiser, if optim= is not given"
            )
    return _adam([*_named(model), *_named(guide)], lr, baseline_lr)


class Parameters:
    """The parameters that a training knows, and the optimiser of those that it trains.

    Args:
        model: A Pyro model, module or function.
        guide: Its guide.
        optim: The caller's optimiser. None: an Adam over all parameters, as of :func:`adam`.
        used: Trace of the parameters that a run of both used.

    Raises:
        RuntimeError: There are no parameters, or all are frozen.
    """

    def __init__(
        self, model: Callable, guide: Callable, optim: Optimizer | None, used: poutine.Trace
    ) -> None:
        self.programs, self.is_own = (model, guide), optim is None
        named = self._in_use(used)
        if not named and optim is None:
            raise RuntimeError(
                "model and guide have no parameters that Pyro knows: register the networks of a function "
                "by pyro.module, or give optim="
            )
        self.optim = _adam(named, 1e-3, 1e-2) if optim is None else optim
        trained = [value for group in self.optim.param_groups for value in group["params"]]
        if not any(value.requires_grad for value in trained):
            raise RuntimeError(
                "every parameter of the optimiser is frozen: set requires_grad=True for some"
            )
        # The tensors are kept too: the id of one that is gone may be that of a new one.
        self.known = {id(value): value for value in [*trained, *(value for _, value in named)]}

    def update(self, used: poutine.Trace) -> None:
        """Trains parameters that came with a part swapped in since, or refuses them.

        Args:
            used: Trace of the parameters that a step used, after its backward pass.

        Raises:
            RuntimeError: There are new ones, and the optimiser is the caller's.
        """
        new = [(name, value) for name, value in self._in_use(used) if id(value) not in self.known]
        new = [(name, value) for name, value in new if value.grad is not None]
        if new and not self.is_own:
            raise RuntimeError(
                f"{', '.join(name for name, _ in new)}: new since the first step, and in no group of the "
                "optimiser. Use optim.add_param_group, or start another fit with a new optimiser"
            )
        for name, value in new:
            # Into a group that is there, so that clipping and the reported norm cover it.
            group = self.optim.param_groups[-1 if "baseline" in name else 0]
            group["params"].append(value)
            self.known[id(value)] = value

    def _in_use(self, used: poutine.Trace) -> Named:
        # The modules' own come first: where a part was swapped for one with weights of the same names, Pyro's
        # store, and so the trace, still has the weights of the part before.
        sites = {name: used.nodes[name]["value"].unconstrained() for name in used.param_nodes}
        # Pyro writes $$$ between the name of a module and that of its weight.
        names = [name.replace("$$$", ".") for name in sites]
        own = [pair for program in self.programs for pair in _own(program, names)]
        return _unique([*own, *sites.items()])


def _adam(named: Named, lr: float, baseline_lr: float) -> Adam:
    for name, rate in (("lr", lr), ("baseline_lr", baseline_lr)):
        if not (isinstance(rate, Real) and 0 <= rate < float("inf")):
            raise ValueError(f"{name} must be a number from 0 up, got {rate!r:.60}")
    named = _unique(named)
    groups = [
        {"params": [value for name, value in named if "baseline" not in name], "lr": lr},
        {"params": [value for name, value in named if "baseline" in name], "lr": baseline_lr},
    ]
    return Adam([group for group in groups if group["params"]], fused=True)


def _named(function: Callable) -> Named:
    module = poutine.unwrap(function)
    return [*module.named_parameters()] if isinstance(module, nn.Module) else []


def _own(program: Callable, registered: list[str]) -> Named:
    """Of a module its parameters; of a function those of its modules that Pyro knows by name."""
    if isinstance(poutine.unwrap(program), nn.Module):
        return _named(program)
    named = (pair for module in modules_of(program) for pair in module.named_parameters())
    return [pair for pair in named if any(name.endswith(pair[0]) for name in registered)]


def _unique(named: Iterable[tuple[str, Tensor]]) -> Named:
    first: dict[int, tuple[str, Tensor]] = {}
    for name, value in named:
        first.setdefault(id(value), (name, value))
    return [*first.values()]
