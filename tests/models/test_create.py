import pytest
import torch
from torch import nn

from convgate.errors import InputError
from convgate.models import ModelSpec, create, identify

CASES = [
    ("resnet18", {}),
    ("resnet50", {"num_classes": 10}),
    ("wide_resnet50_2", {}),
    ("mobilenet_v2", {"num_classes": 3}),
    ("regnet_y_400mf", {}),
    ("vgg11_bn", {"num_classes": 4}),
    ("timm/resnet18d", {"num_classes": 6, "in_chans": 1}),
    ("timm/mobilenetv3_large_100", {}),
    ("cifar_resnet20", {"shortcut": "A", "width": 8}),
    ("cifar_resnet8", {"stem_stride": 2, "num_classes": 100}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_models_are_identified_and_rebuilt(name, options):
    model = create(name, **options)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    spec = identify(model)
    assert torch.equal(torch.rand(1), expected), "identify drew from the caller's random numbers"
    assert spec.name == name
    again = spec.create()
    assert str(again) == str(model)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_changed_models_are_ones_own():
    model = create("resnet18")
    model.layer1 = nn.Identity()
    assert identify(model) is None
    model = create("cifar_resnet8")
    model.relu = nn.SiLU()
    assert identify(model) is None
    assert identify(nn.Sequential(nn.Conv2d(3, 4, 1))) is None


@pytest.mark.parametrize("name", ["resnet19", "timm/nothing", "", "cifar_resnet21", "maskrcnn_resnet50_fpn", "timm/"])
def test_unknown_models_are_refused(name):
    with pytest.raises(InputError):
        create(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {"weights": "DEFAULT"}), ("timm/resnet18d", {"pretrained": True}), ("cifar_resnet8", {"depth": 20})],
)
def test_unknown_options_are_named(name, options):
    with pytest.raises(InputError, match=next(iter(options))):
        create(name, **options)


def test_spec_creates():
    assert ModelSpec("cifar_resnet8", {"num_classes": 3}).create().fc.out_features == 3


def test_timms_padding_is_an_option_that_a_model_is_known_by_again():
    options = {"num_classes": 10, "in_chans": 3, "pad_type": "same"}
    model = create("timm/mobilenetv2_035", **options)
    assert identify(model) == ModelSpec("timm/mobilenetv2_035", options)
    with pytest.raises(InputError, match="pad_type"):
        create("timm/resnet10t", pad_type="same")
