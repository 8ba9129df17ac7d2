"""Names that are known without torch are the names that are known with it."""

import subprocess
import sys

from convgate.commands.names import method_names, model_names
from convgate.methods import list_methods
from convgate.models import list_models, registered

TYPOS = [
    (["trian"], "did you mean train?"),
    (["plan", "resnet5"], "did you mean resnet50"),
    (["plan", "timm/resnet5"], "did you mean timm/resnet50"),
    (["plan", "cifar_resnet21"], "did you mean cifar_resnet"),
    (["plan", "resnet18", "--method", "DualGatting"], "did you mean DualGating?"),
    (["plan", "resnet18", "--method", "dul"], "did you mean DualGating?"),
    (["plan", "resnet18", "--meth", "DualGating"], "did you mean --method?"),
    (["bench", "resnet5"], "did you mean resnet50"),
    (["bench", "resnet18", "--method", "BatchShapin"], "did you mean BatchShaping?"),
    (["bench", "nothing.safetensors"], "no file nothing.safetensors"),
    (["bench", "resnet18", "--rond", "3"], "did you mean --rounds?"),
    (["bench", "resnet18", "--out", __file__], "is a file, not a folder"),
    (["train", "digit-demo"], "did you mean digits-demo or digits-detection?"),
    (["train", "digits-demo", "--gated.epoch", "3"], "did you mean --gated.epochs?"),
    (["train", "digits-demo", "--epoch=3"], "did you mean --epochs?"),
    (["train", "digits-demo", "--budget", "60"], "budget"),
    (["train", "digits-demo", "--model.name", "resnet5"], "did you mean resnet50"),
    (["train", "digits-demo", "--method.name", "LayerSkiping"], "did you mean LayerSkipping?"),
    (["demo", "--fres"], "did you mean --fresh?"),
    (["sweep", "digits-demo", "--budgets", "half"], "--budgets half"),
    (["recipe", "digits"], "did you mean digits-demo?"),
    (["evaluate", "nothing"], "no file and no folder nothing"),
    (["compare", "nothing"], "no folder nothing"),
    (["report", "nothing"], "no folder nothing"),
    (["results", ".", "--add", "nothing"], "no folder nothing"),
    (["hardware", "simulat"], "did you mean simulate?"),
    (["hardware", "simulate", "--acelerator", "x", "y", "z"], "did you mean --accelerator?"),
    (["predict", "x.cgm", "--tpo", "2", "y.png"], "did you mean --top?"),
    (["compile", "nothing", "-o", "x.cgm"], "no file and no folder nothing"),
]


def test_the_sources_register_what_the_packages_know():
    own = list(registered())
    assert sorted(own) == sorted(model_names("convgate"))
    foreign = [*model_names("torchvision"), *(f"timm/{name}" for name in model_names("timm"))]
    assert sorted(foreign) == sorted(set(list_models()) - set(own))


def test_the_sources_register_the_methods():
    assert sorted(list_methods()) == sorted(method_names())


def test_a_package_without_sources_has_no_names():
    assert model_names("a_package_that_is_not_installed") == ()


def test_mistakes_are_answered_before_torch_is_imported(tmp_path):
    """All in one process, which would have imported torch by the end; and none leaves anything behind."""
    code = f"""
import sys
from convgate.cli import main
for arguments, named in {TYPOS}:
    print(arguments[0], end=": ", file=sys.stderr)
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2, arguments
    assert not {{"torch", "numpy", "lightning"}} & set(sys.modules), arguments
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stderr.splitlines()
    assert len(answers) == len(TYPOS)
    for (arguments, named), answer in zip(TYPOS, answers, strict=True):
        assert named in answer, arguments
    assert not list(tmp_path.iterdir())


def test_names_with_tags_former_names_and_places_pass():
    names = ["timm/resnet50.a1_in1k", "timm/convnext_tiny_in22ft1k", "my.module:function", "x.py:Net"]
    code = f"from convgate.commands.names import check_model; [check_model(name) for name in {names}]"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
