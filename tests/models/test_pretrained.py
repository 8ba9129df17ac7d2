"""Published weights: what is asked of torchvision and timm. Nothing is fetched."""

import pytest
import torchvision

from convgate.errors import CheckpointError, InputError
from convgate.models import create, pretrained


def test_torchvisions_first_weights_are_asked_for(monkeypatch):
    asked = {}

    def stand_in(name, weights, **options):
        asked.update(name=name, weights=weights)
        return create(name, **options)

    monkeypatch.setattr(torchvision.models, "get_model", stand_in)
    pretrained("resnet50")
    assert asked["name"] == "resnet50"
    assert asked["weights"].name == "IMAGENET1K_V1"


def test_what_cannot_be_had_is_explained(monkeypatch):
    with pytest.raises(InputError, match="nobody publishes"):
        pretrained("cifar_resnet20")
    with pytest.raises(InputError, match="no model 'nothing'"):
        pretrained("nothing")

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", no_network)
    with pytest.raises(CheckpointError, match=r"resnet18.*no route to host"):
        pretrained("resnet18")
