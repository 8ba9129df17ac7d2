import subprocess
import sys

import pytest
import torch

from convgate.data import digits, list_datasets, load, register_dataset
from convgate.errors import DataError, InputError


def test_load_passes_the_options_on():
    options = {"size": 24, "train": 20, "validation": 5, "test": 5, "seed": 3}
    assert torch.equal(load("digits", **options).train.images, digits(**options).train.images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_load_reaches_cifar(name, tmp_path):
    with pytest.raises(DataError, match=f"torchvision's {name.upper()}"):
        load(name, root=tmp_path / "nowhere")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=r"'mnist'.*digits, cifar10, cifar100"):
        load("mnist")


def test_the_closest_name_is_offered():
    with pytest.raises(DataError, match=r"did you mean cifar10\?"):
        load("cifar-10")


def test_a_name_is_one_functions():
    def digits():
        return None

    with pytest.raises(InputError, match="two data sets are called 'digits'"):
        register_dataset(digits)
    assert list_datasets("digits*") == ["digits"]


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"digits: .*'sise'.*size: int = 48"):
        load("digits", sise=24)
    with pytest.raises(InputError, match="cifar10: missing a required argument: 'root'"):
        load("cifar10")


def test_importing_the_package_is_light():
    heavy = "{'sklearn', 'torchvision', 'PIL', 'lightning'}"
    code = f"import sys, convgate.data; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
