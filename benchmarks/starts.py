"""Is a trained network still itself right after `gate()`? Each method on CIFAR ResNets and three ImageNet networks.

    python benchmarks/starts.py --weights WEIGHTS --images PHOTOS --cifar CIFAR10.npz

Images are test images of CIFAR-10 and photographs at 224 pixels, batches of 25. In training mode the network's own
batch norms keep their statistics, as in finetuning, and gates sample. Writes benchmarks/results/starts.csv, a row as
soon as it is measured; what is there already is not measured again.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from finetune import Prepare, files, of_photographs, read
from records import RESULTS, add_row, rows_of
from safetensors.torch import load_file
from torch import Tensor, nn

import convgate
from convgate.data.cifar import MEAN, STD
from convgate.finetuning import train_gates
from convgate.gated import Method
from convgate.methods import METHODS


def subjects(options: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """(name, trained network, images, labels)."""
    cifar = np.load(options.cifar)
    chosen = np.random.default_rng(0).permutation(10000)[: options.n]
    images = Prepare(MEAN, STD)(torch.from_numpy(cifar["test_x"][chosen]).permute(0, 3, 1, 2))
    for depth in (20, 56):
        model = convgate.create_model(f"cifar_resnet{depth}", shortcut="A")
        state = load_file(options.weights / f"cifar10-resnet{depth}.safetensors")
        model.load_state_dict({key.replace("linear.", "fc."): value for key, value in state.items()})
        yield f"cifar_resnet{depth}", model.eval(), images, torch.from_numpy(cifar["test_y"][chosen])
    photos = files(options.images)
    photos = photos[:: max(len(photos) // options.photos, 1)][: options.photos]
    labels = torch.tensor([int(path.parent.name) for path in photos])
    pictures = read(photos, 224)
    for name, (model, file, normalisation) in of_photographs().items():
        model.load_state_dict(load_file(options.weights / file))
        yield name, model.eval(), Prepare(*normalisation)(pictures), labels


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> Tensor:
    """The classes with the highest logit, int64 [N]."""
    return torch.cat([model(batch).argmax(1) for batch in images.split(25)])


def made(method: str) -> Method:
    """A method with its defaults; one that has a network for a trunk gets a small one."""
    if method == "GlobalGater":
        return METHODS[method](gater={"name": "cifar_resnet8", "options": {"width": 8}}, bottleneck=16)
    return METHODS[method]()


def main() -> None:
    """Measure what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1000, help="test images of CIFAR-10")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = RESULTS / "starts.csv"
    known = {(row["network"], row["method"]) for row in rows_of(path)}
    for name, model, images, labels in subjects(options):
        dense = answers(model, images)
        for method in METHODS:
            if (name, method) in known:
                continue
            torch.manual_seed(0)
            row = {"network": name, "method": method, "images": len(images)}
            try:
                network = convgate.gate(model, made(method), images[:2])
            except convgate.ConvgateError as error:
                row |= {"note": str(error).split(";")[0]}
            else:
                ours = answers(network.eval(), images)
                training = answers(train_gates(network), images)
                row |= {
                    "dense": float((dense == labels).float().mean()),
                    "accuracy": float((ours == labels).float().mean()),
                    "agreement": float((ours == dense).float().mean()),
                    "training_accuracy": float((training == labels).float().mean()),
                    "note": "",
                }
            print(row, flush=True)
            add_row(path, row)


if __name__ == "__main__":
    main()
