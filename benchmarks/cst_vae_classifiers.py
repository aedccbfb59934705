"""Classifiers on pixels, with which the codes of VAE, ST-VAE and CST-VAE are compared (Fig. 6b and 7b).

    python benchmarks/cst_vae_classifiers.py --data-root DIR

Huang and Murphy (2016) read the digits of Translated and Superimposed MNIST from codes without labels; these
networks have the same two hidden layers, and the pixels of the same scenes, also through a spatial
transformer. Prints accuracies on training and test scenes. Without --data-root, the built-in digits.
"""

import argparse

import torch
from torch import Tensor, nn

from pyro_scenes.data import Scenes
from pyro_scenes.evaluation.training import descend
from pyro_scenes.experiment import layered_split, natural, path
from pyro_scenes.networks import PoseEncoder, mlp
from pyro_scenes.render import warp

#: Data, canvas, hidden units, classes.
KINDS = (("translated", 36, 32, 10), ("superimposed", 50, 256, 100))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=path, metavar="DIR", help="folder with MNIST in DIR/MNIST/raw")
    add("--seeds", type=natural, nargs="+", default=[0, 1, 2], metavar="N", help="(%(default)s)")
    add("--smoke", action="store_true", help="few scenes, to check that everything runs")
    return parser


def main(args: argparse.Namespace) -> None:
    for seed in args.seeds:
        torch.manual_seed(seed)
        for data, side, hidden, classes in KINDS:
            split = layered_split(data, args.data_root, seed=seed, small=args.smoke)
            sizes = side * side, hidden, hidden, classes
            networks = {"pixels": nn.Sequential(nn.Flatten(), mlp(*sizes))}
            if data == "translated":
                networks["pixels through a spatial transformer"] = Transformer(side, mlp(*sizes))
            for name, network in networks.items():
                learn(network, split.train)
                shares = [f"{accuracy(network, part):.4f}" for part in (split.train, split.test)]
                print(f"seed {seed}: {data}, {name}, 2 x {hidden}: training, test", *shares)


class Transformer(nn.Module):
    """A classifier behind a spatial transformer (Jaderberg et al., 2015) that starts at the identity."""

    def __init__(self, side: int, classify: nn.Module) -> None:
        super().__init__()
        self.locate = nn.Sequential(PoseEncoder((1, side, side), 64), nn.Linear(64, 6))
        nn.init.zeros_(self.locate[1].weight)
        self.locate[1].bias.data = torch.eye(2, 3).flatten()
        self.classify = classify

    def forward(self, images: Tensor) -> Tensor:
        transform = self.locate(images).unflatten(-1, (2, 3))
        return self.classify(warp(images, transform, images.shape).flatten(1))


def learn(network: nn.Module, scenes: Scenes) -> None:
    """Ten epochs of Adam, its learning rate falling linearly to 0."""
    images, labels = scenes.images, as_number(scenes)
    indices = [index for _ in range(10) for index in torch.randperm(len(images)).split(100)]
    descend(
        torch.optim.Adam(network.parameters(), 1e-3),
        indices,
        lambda index: nn.functional.cross_entropy(network(images[index] / 255), labels[index]),
    )


@torch.no_grad()
def accuracy(network: nn.Module, scenes: Scenes) -> float:
    found = torch.cat([network(part.floats()).argmax(1) for part in scenes.chunks(1000)])
    return (found == as_number(scenes)).double().mean().item()


def as_number(scenes: Scenes) -> Tensor:
    """Both digits in any order as one class, or the only one."""
    return scenes.labels.sort(1).values @ torch.tensor([10, 1])[-scenes.labels.shape[1] :]


if __name__ == "__main__":
    main(parser().parse_args())
