"""The weights that ship: they load at once, and do what their models are for."""

from pathlib import Path

import pytest
import torch

import pyro_scenes
from pyro_scenes import evaluation, load_pretrained
from pyro_scenes.data import coloured_shapes, digits, layered_digits, multi_digits
from pyro_scenes.inference import CheckpointError, read_checkpoint
from pyro_scenes.pretrained import PAIRS, pretrained_path, start_from
from pyro_scenes.recipes import air_pair


@pytest.fixture(scope="module")
def pairs():
    return {name: load_pretrained(name) for name in PAIRS}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_ready_to_use(name, pairs):
    state = torch.get_rng_state()
    model, guide = load_pretrained(name)
    assert torch.equal(torch.get_rng_state(), state)
    assert guide.model is model
    for module, other in zip((model, guide), pairs[name], strict=True):
        assert not any(part.training for part in module.modules())
        assert all(map(torch.equal, module.state_dict().values(), other.state_dict().values()))
        assert all(weight.dtype == torch.float32 for weight in module.parameters())


def test_air_counts_digits(pairs):
    scenes = multi_digits(digits().test, 100, seed=3)
    result = evaluation.counting(pairs["air"][1], scenes.floats(), scenes.counts)
    assert result.count_accuracy > 0.9 > 0.6 > result.count_accuracy_floor


def test_cst_vae_separates_digits(pairs):
    scenes = layered_digits(digits().test, 50, seed=3)
    layers = evaluation.see_layers(*pairs["cst_vae"], scenes.floats())
    found = evaluation.layer_iou(layers.masks.amax(2), scenes.masks).mean()
    copied = evaluation.layer_iou(scenes.floats().expand(-1, 2, -1, -1), scenes.masks).mean()
    assert found > copied + 0.05


def test_econ_completes_shapes(pairs):
    scenes = coloured_shapes(20, seed=3)
    answer = evaluation.decompose(*pairs["econ"], scenes.floats())
    numbers = evaluation.agreement(answer, scenes.masks, scenes.labels, experts=5, classes=3)
    assert numbers.amodal_iou > 0.8 and numbers.purity > 0.8


@pytest.mark.parametrize("name", PAIRS)
def test_the_card_says_how_to_repeat_it(name):
    card = read_checkpoint(pretrained_path(name))["extra"]
    example = card["command"].split()[1]
    assert (Path(__file__).parents[1] / example).is_file()
    assert card["metrics"]["steps"] >= 400


def test_the_files_are_small_and_in_the_package():
    files = [pretrained_path(name) for name in PAIRS]
    assert sum(file.stat().st_size for file in files) < 10e6
    assert all(Path(pyro_scenes.__file__).parent in file.parents for file in files)


def test_a_training_starts_from_them_with_its_own_constants_or_not_at_all(pairs):
    model, guide = air_pair((1, 50, 50))
    start_from("air", model, guide)
    assert all(map(torch.equal, guide.parameters(), pairs["air"][1].parameters()))
    for settings, name in (({"noise": 0.4}, "image.scale"), ({"scale": 0.3}, "z_where.loc")):
        with pytest.raises(ValueError, match=f"whose {name} is .* here it is"):
            start_from("air", *air_pair((1, 50, 50), window=(28, 28), **settings))


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(ValueError, match="of air, cst_vae, econ, got 'dair'"):
        load_pretrained("dair")


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    content = bytearray(pretrained_path("econ").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    (tmp_path / "econ.pt").write_bytes(content)
    monkeypatch.setattr("pyro_scenes.pretrained.pretrained_path", lambda name: tmp_path / "econ.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        load_pretrained("econ")
