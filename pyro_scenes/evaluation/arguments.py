"""Arguments that are not what a public function's annotations name are refused in words."""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import signature
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args

from jaxtyping import AbstractArray, Float, UInt8, jaxtyped
from torch import Tensor

from ..checks import check_sizes, is_integer
from ..missing import taking_unseen

__all__ = ["checked", "split"]

Function = TypeVar("Function", bound=Callable)


def checked(function: Function) -> Function:
    """Decorates a function: it takes tensors and named tuples as its annotations have them, and no others.

    Each is looked at alone: whether they fit each other is the function's own to say. It then raises

    * a TypeError where an argument is no tensor, or not that named tuple;
    * a ValueError where a tensor has another dtype or rank, or ``images`` are not finite. To a function that
      has a ``guide``, NaN is a pixel that is not seen; a guide that makes NaN of it is named.
    """
    arguments = signature(function)
    hints = {name: _classes(p.annotation) for name, p in arguments.parameters.items()}

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = arguments.bind(*args, **kwargs).arguments
        for name, value in given.items():
            _check(name, value, hints[name])
        images = given.get("images")
        _check_values(images, may_be_unseen="guide" in given)
        with taking_unseen(images):
            return function(*args, **kwargs)

    return cast(Function, call)


def split(
    images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"], size: int
) -> Iterator[Float[Tensor, "m c h w"] | UInt8[Tensor, "m c h w"]]:
    """Images, so many at a time.

    Raises:
        ValueError: There are none, or the size is not a whole number from 1 up.
    """
    check_sizes(chunk=size)
    if len(images) == 0:
        raise ValueError("images is an empty batch: at least one image is needed")
    return iter(images.split(int(size)))


def _classes(hint: Any) -> tuple[type, ...]:
    """The classes of an annotation; none where it is not of tensors or named tuples alone."""
    classes = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    known = (_is_array(each) or each is NoneType or hasattr(each, "_fields") for each in classes)
    return classes if all(known) else ()


def _is_array(kind: Any) -> bool:
    return isinstance(kind, type) and (kind is Tensor or issubclass(kind, AbstractArray))


def _check(name: str, value: Any, classes: tuple[type, ...]) -> None:
    # A context of its own: a caller's shapes may have the same letters.
    with jaxtyped("context"):
        fits = not classes or isinstance(value, classes)
    if fits:
        return
    wanted = " or ".join(_words(kind) for kind in classes)
    if isinstance(value, Tensor) and any(map(_is_array, classes)):
        hint = f": give {name}.long()" * (is_integer(value) and "integers" in wanted)
        raise ValueError(f"{name} must be {wanted}, got {value.dtype} {tuple(value.shape)}{hint}")
    raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")


def _check_values(images: Any, may_be_unseen: bool) -> None:
    if not isinstance(images, Tensor) or images.isfinite().all():
        return
    if images.isinf().any() or not may_be_unseen:
        raise ValueError("images must be finite numbers, found NaN or infinity: see data.as_images")


def _words(kind: Any) -> str:
    """Such as ``a tensor (n, objects, h, w) of bool``."""
    if kind is NoneType:
        return "None"
    if not _is_array(kind):
        return f"a {kind.__name__}"
    if kind is Tensor:
        return "a tensor"
    dtype = {"Int": "signed integers", "Float": "floats"}.get(kind.dtype.__name__)
    shape = ", ".join(kind.dim_str.replace("#", "").split())
    return f"a tensor ({shape}) of {dtype or kind.dtype.__name__.lower()}"
