"""Names: registered models, lists, suggestions, and users' code by its place."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from convgate.errors import InputError
from convgate.models import ModelInput, ModelSpec, create_model, identify, list_models, model_input, register_model
from convgate.models import registry as rooms

CODE = """
from helpers import WIDTH
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=WIDTH):
        super().__init__(nn.Conv2d(3, width, 3))

def net(**options):
    return Net(**options)

def needs(width):
    return Net(width)

def fails():
    raise ValueError("no such luck")

number = 3
instance = Net()

def nothing():
    return 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A file of models, with a helper beside it, in the working directory."""
    (tmp_path / "helpers.py").write_text("WIDTH = 4\n")
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("helpers", "mine"):
        sys.modules.pop(name, None)


@pytest.fixture
def fresh(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(rooms, "_registered", dict(rooms._registered))


@pytest.mark.usefixtures("fresh")
def test_registered_models_are_known_by_name_everywhere():
    @register_model("narrow", input=ModelInput((1, 8, 8)), width=2)
    @register_model("wide", width=64)
    class Mine(nn.Sequential):
        def __init__(self, width=4, classes=3):
            super().__init__(nn.Conv2d(1, width, 3), nn.Conv2d(width, classes, 1))
            self.options = {"width": width, "classes": classes}

    assert create_model("narrow")[0].out_channels == 2
    assert {"narrow", "wide"} <= set(list_models())
    assert model_input("narrow").shape == (1, 8, 8)
    assert model_input("wide") is None
    assert identify(create_model("wide", classes=5)) == ModelSpec("wide", {"classes": 5})
    with pytest.raises(InputError, match=r"no option width; its options are: classes"):
        create_model("narrow", width=3)


@pytest.mark.usefixtures("fresh")
def test_names_that_are_taken_or_lead_elsewhere_are_refused():
    for name in ("cifar_resnet20", "", "timm/mine", "a:b"):
        with pytest.raises(InputError, match="name"):
            register_model(name)(nn.Sequential)
    register_model("mine")(nn.Sequential)
    register_model("mine")(nn.Sequential)  # the same again: a notebook's cell was run twice


def test_lists():
    assert "resnet18" in list_models()
    assert "timm/resnet18" in list_models()
    assert "fcn_resnet50" not in list_models()
    assert list_models("cifar_resnet5*") == ["cifar_resnet56"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resent18", "resnet18"),
        ("cifar_resnet21", "cifar_resnet20"),
        ("timm/mobilenetv3_larg_100", "timm/mobilenetv3_large_100"),
        ("mobilenetv3_large_100", "timm/mobilenetv3_large_100"),
    ],
)
def test_close_names_are_suggested(name, meant):
    with pytest.raises(InputError, match=f"did you mean .*{meant}"):
        create_model(name)


@pytest.mark.parametrize(
    ("name", "shape", "mean"),
    [
        ("cifar_resnet20", (3, 32, 32), None),
        ("resnet18", (3, 224, 224), 0.485),
        ("inception_v3", (3, 299, 299), 0.485),
        ("timm/inception_v4", (3, 299, 299), 0.5),
    ],
)
def test_inputs_are_known(name, shape, mean):
    known = model_input(name)
    assert known.shape == shape
    assert (known.mean and known.mean[0]) == mean
    assert (known.std is None) == (mean is None)


@pytest.mark.parametrize("place", ["mine:Net", "mine:net", "mine.py:Net", "./mine.py:net"])
def test_users_models_by_the_place_of_their_code(code, place):
    assert create_model(place)[0].out_channels == 4
    assert create_model(place, width=5)[0].out_channels == 5
    assert model_input(place) is None
    assert str(code) not in sys.path


def test_a_file_elsewhere_may_import_its_neighbours(code, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert create_model(f"{code / 'mine.py'}:needs", width=6)[0].out_channels == 6


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("nowhere.models:net", {}, "no module 'nowhere'"),
        ("nowhere.py:net", {}, "no file nowhere.py"),
        ("mine.py", {}, r"write it as package\.module:function"),
        ("mine:nett", {}, "did you mean net"),
        ("mine:zzz", {}, "it has Net"),
        ("mine:number", {}, "is a int"),
        ("mine:instance", {}, "is a Net; name a class or a function"),
        ("mine:nothing", {}, "returns a int, not a torch.nn.Module"),
        ("mine:needs", {}, "missing a required argument: 'width'"),
        ("mine:Net", {"depth": 3}, "no option depth; its options are: width"),
        ("mine:fails", {}, "cannot be built: ValueError: no such luck"),
    ],
)
def test_what_is_wrong_with_a_place_is_said(place, options, said):
    with pytest.raises(InputError, match=said):
        create_model(place, **options)


def test_code_that_cannot_be_imported_is_told_with_its_error(code):
    (code / "mine.py").write_text("import helpers\nhelpers.nothing\n")
    for place in ("mine:net", "mine.py:net"):
        with pytest.raises(InputError, match=r"importing mine.* fails: AttributeError"):
            create_model(place)
    (code / "mine.py").write_text("import nowhere_at_all\n")
    with pytest.raises(InputError, match="fails: ModuleNotFoundError: No module named 'nowhere_at_all'"):
        create_model("mine:net")


@pytest.mark.usefixtures("code")
def test_a_file_never_runs_users_code():
    with pytest.raises(InputError, match="must not run"):
        ModelSpec("mine:Net").create()
    assert "mine" not in sys.modules
    assert identify(create_model("mine:Net")) is None


def test_importing_models_loads_neither_torchvision_nor_timm():
    code = "import sys, convgate.models; print({'timm', 'torchvision'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_model_on_the_meta_device_costs_no_memory():
    with torch.device("meta"):
        assert create_model("cifar_resnet20").fc.weight.is_meta
