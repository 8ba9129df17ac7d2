"""Images in: the embedded digits, CIFAR, arrays; batch loaders and whole-batch augmentation."""
