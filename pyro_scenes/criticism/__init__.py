"""Model criticism in ArviZ: draws under the model's names, predictive statistics, p-values; calibration.

:func:`to_arviz` gives an ``InferenceData`` (ArviZ 0.23) or a ``DataTree`` (ArviZ 1.x) of the groups

* ``posterior``: the guide's draws of the latents, given the images;
* ``posterior_pictures``: what has a value for each pixel (``canvas``, ``layers``, ``masks``, ``colours``,
  ``z_region``), apart from the latents so that ``arviz.summary(data)`` has few rows;
* ``posterior_predictive``: ``image`` drawn from the likelihood (``observed_data``: as observed);
* ``prior``, ``prior_pictures``, ``prior_predictive``: the same for scenes drawn from the prior.

Sites ``z_what_0, z_what_1, ...`` are one variable ``z_what`` with a dimension ``step`` (unless
their shapes differ). Where the model masks a latent out, as that of an absent object, it is NaN: where
an object is absent in some draws only, ``arviz.summary(data, skipna=True)`` averages over the others.
``count`` is the number of objects. Dimensions are ``chain`` (of length 1), ``draw``, ``image_id``,
``step``, then ``layer``, ``channel, row, column``, ``pose``, ``code``, ... or ``{variable}_dim_{i}``.

A guide's draws are independent: r_hat means nothing, use ``arviz.summary(data, kind="stats")``. Nor
does ``arviz.loo``, as a scene without its image is back at its prior. Example::

    checks = statistics(to_arviz(model.eval(), guide.eval(), images, seed=0))
    tail_shares(p_values(checks))  # beside what a calibrated model has

:func:`sbc` ranks scenes that the model draws among the guide's draws, and :func:`calibration` says how far
these ranks are from those of the posterior.
"""

from .draws import to_arviz
from .predictive import (
    STATISTICS,
    TailShare,
    p_values,
    roughness,
    statistics,
    tail_shares,
    total_ink,
)
from .quantities import order_free
from .sbc import Calibration, calibration, sbc

__all__ = [
    "Calibration",
    "STATISTICS",
    "TailShare",
    "calibration",
    "order_free",
    "p_values",
    "roughness",
    "sbc",
    "statistics",
    "tail_shares",
    "to_arviz",
    "total_ink",
]
