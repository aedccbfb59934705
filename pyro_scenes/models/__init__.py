"""One paper per file: its generative process, and the guide that inverts it."""

from .air import AIR, AIRGuide
from .cst_vae import CSTVAE, CSTVAEGuide
from .econ import ECON
from .econ_guide import ECONGuide
from .econ_start import colour_experts, separate_experts
from .st_vae import STVAE, STVAEGuide
from .vae import VAE, VAEGuide

__all__ = [
    "AIR",
    "AIRGuide",
    "CSTVAE",
    "CSTVAEGuide",
    "ECON",
    "ECONGuide",
    "STVAE",
    "STVAEGuide",
    "VAE",
    "VAEGuide",
    "colour_experts",
    "separate_experts",
]
