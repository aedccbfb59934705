"""One paper per file: its generative process, and a guide."""

from .air import AIR, AIRGuide
from .cst_vae import CSTVAE, CSTVAEGuide
from .cvae import CVAE, CVAEGuide
from .econ import ECON, ECONGuide
from .sprites import sprite_scenes
from .sprites_guide import SpritesGuide
from .st_vae import STVAE, STVAEGuide
from .vae import VAE, VAEGuide
from .vaeac import VAEAC, VAEACGuide

__all__ = [
    "AIR",
    "AIRGuide",
    "CSTVAE",
    "CSTVAEGuide",
    "CVAE",
    "CVAEGuide",
    "ECON",
    "ECONGuide",
    "STVAE",
    "SpritesGuide",
    "STVAEGuide",
    "VAE",
    "VAEAC",
    "VAEACGuide",
    "VAEGuide",
    "sprite_scenes",
]
