import os

import numpy as np
import pytest
import torch

from pyro_scenes import AIR, AIRGuide, Persist, adam, fit, load_checkpoint, save_checkpoint
from pyro_scenes.inference import CheckpointError, read_checkpoint

IMAGES = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def pair(**settings):
    model = AIR(
        **{"image_shape": (1, 16, 16), "window": (1, 8, 8), "steps": 2, "code": 4, **settings}
    )
    return model, AIRGuide(model)


def weights(modules):
    return torch.cat(
        [p.detach().flatten().clone() for module in modules for p in module.parameters()]
    )


def test_going_on_equals_never_having_stopped(tmp_path):
    modules = pair()
    optim = adam(*modules)
    list(fit(*modules, [IMAGES] * 3, optim=optim))
    save_checkpoint(tmp_path / "c.pt", *modules, optim=optim, step=3, extra={"note": [1, "a"]})
    list(fit(*modules, [IMAGES] * 3, optim=optim))
    others = pair()
    other_optim = adam(*others)
    content = load_checkpoint(tmp_path / "c.pt", *others, optim=other_optim)
    assert content["step"] == 3 and content["extra"] == {"note": [1, "a"]}
    list(fit(*others, [IMAGES] * 3, optim=other_optim))
    assert torch.equal(weights(modules), weights(others))


def test_it_holds_no_code(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()), optim=adam(*modules))
    torch.load(tmp_path / "c.pt", weights_only=True)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    save_checkpoint(path, *(modules := pair()), step=1)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, full)
            with pytest.raises(OSError, match="no space"):
                save_checkpoint(path, *modules, step=2)
        assert read_checkpoint(path)["step"] == 1
        assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("other", [{"steps": 3, "code": 5}, {"z_pres": Persist([0.1, 0.1])}])
def test_another_model_is_refused_and_nothing_changes(tmp_path, other):
    save_checkpoint(tmp_path / "c.pt", *pair())
    modules = pair(**other)
    before = weights(modules)
    with pytest.raises(CheckpointError, match=r"another (model|guide).*in the file.*here"):
        load_checkpoint(tmp_path / "c.pt", *modules)
    assert torch.equal(weights(modules), before)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()), step=1)
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        save_checkpoint(tmp_path / "c.pt", *modules, step=2, extra={"rows": [{"x": np.float64(1)}]})
    assert read_checkpoint(tmp_path / "c.pt")["step"] == 1


def test_another_class_is_refused(tmp_path):
    class Other(AIRGuide):
        pass

    model, guide = pair()
    save_checkpoint(tmp_path / "c.pt", model, guide)
    with pytest.raises(CheckpointError, match="another model"):
        load_checkpoint(tmp_path / "c.pt", model, Other(model))


def test_damage_is_named(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_checkpoint(path)
    save_checkpoint(path, *pair())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint", whole[:100] + b"x" * 50):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged or of another kind"):
            load_checkpoint(path, *pair())
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not written by save_checkpoint"):
        load_checkpoint(path, *pair())


def test_without_an_optimiser_it_cannot_be_resumed(tmp_path):
    save_checkpoint(tmp_path / "c.pt", *(modules := pair()))
    with pytest.raises(CheckpointError, match="evaluated, not resumed"):
        load_checkpoint(tmp_path / "c.pt", *modules, optim=adam(*modules))


def test_another_optimiser_is_refused(tmp_path):
    modules = pair()
    save_checkpoint(tmp_path / "c.pt", *modules, optim=adam(*modules))
    before = weights(modules)
    with pytest.raises(CheckpointError, match="another optimiser"):
        load_checkpoint(
            tmp_path / "c.pt", *modules, optim=torch.optim.SGD(modules[0].parameters(), 0.1)
        )
    assert torch.equal(weights(modules), before)
