"""One paper per file: its generative process, and the guide that inverts it."""

from .air import AIR, AIRGuide
from .cst_vae import CSTVAE, CSTVAEGuide
from .st_vae import STVAE, STVAEGuide
from .vae import VAE, VAEGuide

__all__ = ["AIR", "AIRGuide", "CSTVAE", "CSTVAEGuide", "STVAE", "STVAEGuide", "VAE", "VAEGuide"]
