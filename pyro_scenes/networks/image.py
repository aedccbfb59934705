"""An encoder of whole images."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ImageEncoder"]


class ImageEncoder(nn.Module):
    """Encodes an image by strided convolutions and a linear layer.

    Convolutions, because an object looks the same everywhere; strides, no pooling, because its place matters.

    Args:
        image_shape: (C, H, W).
        features: Width of the last layer.
    """

    def __init__(self, image_shape: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.filters = nn.Sequential(
            nn.Conv2d(image_shape[0], 16, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.filters(torch.zeros(1, *image_shape)).numel()
        self.features = nn.Sequential(nn.Linear(size, features), nn.ReLU())

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        return self.features(self.filters(images))
