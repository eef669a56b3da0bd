"""Make the demo model and its images again: `python models/make_digits.py`.

The story of the DALR paper (Masana et al., ICCV 2017) in small. A VGG-style network learns all ten handwritten digits;
then it moves to a narrower task, four of the digits, by the paper's recipe: convolutions frozen, fc6 and fc7 at a tenth
of the learning rate, a new fc8. Its fully connected layers stay as large as ten digits needed them.

Everything is seeded and runs on one thread: the same versions on the same kind of processor give the same bytes.
Needs PyTorch and scikit-learn: `pip install -e '.[models]'`.
"""

from __future__ import annotations

import argparse
import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

IMAGE_SIZE = 16
WIDTH = 512  # outputs of fc6 and fc7
CLASSES = {0: "zero", 3: "three", 8: "eight", 9: "nine"}  # the target task; class index is the position in here

# The order of the labels shows the sheets the writers filled in, and a new sheet starts at this index; everything from
# there on is test. Who wrote which is not recorded, but 14 sheets of 13 writers mean hands that are new in test.
FIRST_TEST_IMAGE = 1157

BATCH = 32
PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 15, 30
LEARNING_RATE, MOMENTUM = 0.02, 0.9
FC_FACTOR = 0.1  # fc6 and fc7 learn the target task at this fraction of the learning rate

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Grey images [n, height, width] with 8 bits a pixel, and the class of each."""

    pixels: Pixels
    labels: Labels

    def only(self, chosen: npt.NDArray[np.bool_]) -> Images:
        """The images of a mask."""
        return Images(self.pixels[chosen], self.labels[chosen])

    def of_target(self) -> Images:
        """The images of the target task, relabelled by their class index there."""
        mine = self.only(np.isin(self.labels, list(CLASSES)))
        return Images(mine.pixels, np.searchsorted(list(CLASSES), mine.labels))

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What a network sees: float32 in 0..1, [n, 1, height, width], and the labels."""
        return torch.from_numpy(to_input(self.pixels)), torch.from_numpy(self.labels)


def to_input(pixels: Pixels) -> npt.NDArray[np.float32]:
    """The whole preprocessing of this model: pixels become 0..1."""
    return pixels[:, None].astype(np.float32) / np.float32(255)


def load_images() -> tuple[Images, Images]:
    """The ten digits, enlarged from 8×8 to the model's input size and rounded to 8 bits: (train, test)."""
    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    pixels = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BILINEAR)) for one in small])
    everything = Images(pixels, digits.target.astype(np.int64))
    is_test = np.arange(len(pixels)) >= FIRST_TEST_IMAGE
    return everything.only(~is_test), everything.only(is_test)


def build_network() -> nn.Sequential:
    """The network for ten digits, with He initialization. Layer names are the names in the ONNX file."""
    flat = 32 * (IMAGE_SIZE // 4) ** 2
    network = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1_1=nn.Conv2d(1, 16, 3, padding=1),
            relu1_1=nn.ReLU(),
            conv1_2=nn.Conv2d(16, 16, 3, padding=1),
            relu1_2=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2_1=nn.Conv2d(16, 32, 3, padding=1),
            relu2_1=nn.ReLU(),
            conv2_2=nn.Conv2d(32, 32, 3, padding=1),
            relu2_2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc6=nn.Linear(flat, WIDTH),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(WIDTH, WIDTH),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(WIDTH, 10),
        )
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.constant_(layer.get_parameter("bias"), 0.0)
    return network


def train(network: nn.Sequential, images: Images, epochs: int, rates: dict[str, float], seed: int) -> None:
    """Stochastic gradient descent with a cosine schedule and no weight decay.

    Args:
        network: Trained in place and left in evaluation mode.
        images: The training images.
        epochs: Passes over the images.
        rates: Learning rate by layer name; layers not named are frozen.
        seed: Of the order of the images.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    groups = [
        {"params": list(network.get_submodule(name).requires_grad_(True).parameters()), "lr": rate}
        for name, rate in rates.items()
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    order = torch.Generator().manual_seed(seed)
    x, y = images.tensors()
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=order).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    network.eval()


def pretrain(images: Images, seed: int) -> nn.Sequential:
    """The source network: all ten digits, every layer at the full rate."""
    network = build_network()
    layers = [name for name, layer in network.named_children() if list(layer.parameters())]
    train(network, images, PRETRAIN_EPOCHS, dict.fromkeys(layers, LEARNING_RATE), seed)
    return network


def move_to_target(network: nn.Sequential, images: Images, seed: int) -> None:
    """The paper's recipe: convolutions frozen, fc6 and fc7 slowly, fc8 new."""
    network.fc8 = nn.Linear(WIDTH, len(CLASSES))
    slow = LEARNING_RATE * FC_FACTOR
    train(network, images, FINETUNE_EPOCHS, {"fc6": slow, "fc7": slow, "fc8": LEARNING_RATE}, seed)


@dataclass(frozen=True)
class Accuracy:
    """So many right of n; its text carries n and a 95 % Wilson interval."""

    right: int
    n: int

    @classmethod
    def of(cls, logits: npt.NDArray[np.float32], labels: Labels) -> Accuracy:
        """Count the logits [n, classes] whose largest entry is the label."""
        return cls(int((logits.argmax(1) == labels).sum()), len(labels))

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """The Wilson score interval of the share that is right."""
        share, n = self.right / self.n, self.n
        middle = share + z * z / (2 * n)
        half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.right}/{self.n} = {self.right / self.n:.2%}, 95 % interval {low:.2%} to {high:.2%}"


def torch_logits(network: nn.Sequential, images: Images) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = network(images.tensors()[0]).numpy()
    return logits


def to_onnx(network: nn.Sequential) -> onnx.ModelProto:
    """The network as a plain ONNX graph, built by hand so that no exporter version shows in the bytes."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    layers = [(name, layer) for name, layer in network.named_children() if not isinstance(layer, nn.Dropout)]
    tensor = "image"
    for name, layer in layers:
        inputs = [tensor]
        for kind, parameter in layer.named_parameters():
            inputs.append(f"{name}.{kind}")
            weights.append(numpy_helper.from_array(parameter.detach().numpy(), inputs[-1]))
        tensor = "logits" if name == layers[-1][0] else f"{name}.out"
        match layer:
            case nn.Conv2d():
                node = helper.make_node("Conv", inputs, [tensor], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            case nn.ReLU():
                node = helper.make_node("Relu", inputs, [tensor], name)
            case nn.MaxPool2d():
                node = helper.make_node("MaxPool", inputs, [tensor], name, kernel_shape=[2, 2], strides=[2, 2])
            case nn.Flatten():
                node = helper.make_node("Flatten", inputs, [tensor], name, axis=1)
            case nn.Linear():
                node = helper.make_node("Gemm", inputs, [tensor], name, transB=1)
            case _:
                raise TypeError(f"no ONNX operator is written down here for {type(layer).__name__}, layer {name}")
        nodes.append(node)

    shape_in: list[str | int | None] = ["batch", 1, IMAGE_SIZE, IMAGE_SIZE]
    shape_out: list[str | int | None] = ["batch", len(CLASSES)]
    graph = helper.make_graph(
        nodes,
        "digits-target",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape_out)],
        weights,
        doc_string="Handwritten digits, moved from all ten to the target task.",
    )
    model = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="onnx-dalr models/make_digits.py",
    )
    helper.set_model_props(model, {"classes": ",".join(CLASSES.values()), "license": "Apache-2.0"})
    onnx.checker.check_model(model, full_check=True)
    return model


def class_folders(root: Path) -> list[Path]:
    """One sub-folder per class; natural order is the class index."""
    return [root / f"{index}-{name}" for index, name in enumerate(CLASSES.values())]


def write_images(images: Images, root: Path) -> None:
    for index, folder in enumerate(class_folders(root)):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.png"):
            old.unlink()
        for number, pixels in enumerate(images.pixels[images.labels == index]):
            Image.fromarray(pixels).save(folder / f"{number:03d}.png", optimize=True)


def read_images(root: Path) -> Images:
    """The images as they lie on disk, the way a user of the model reads them."""
    files = [(path, index) for index, folder in enumerate(class_folders(root)) for path in sorted(folder.glob("*.png"))]
    pixels = np.stack([np.asarray(Image.open(path)) for path, _ in files])
    return Images(pixels, np.array([index for _, index in files], dtype=np.int64))


def onnx_logits(path: Path, images: Images) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    logits: npt.NDArray[np.float32] = session.run(["logits"], {"image": to_input(images.pixels)})[0]
    return logits


def print_table(network: nn.Sequential) -> None:
    total = sum(parameter.numel() for parameter in network.parameters())
    for name, layer in network.named_children():
        count = sum(parameter.numel() for parameter in layer.parameters())
        if count:
            print(f"  {name:8}{count:>9,}  {count / total:6.1%}")
    print(f"  {'total':8}{total:>9,}")


def report(path: Path, network: nn.Sequential, root: Path) -> None:
    """Measure the file on disk with the images on disk, and hold it to the network that was trained."""
    print(f"{path.name}: {path.stat().st_size:,} bytes")
    print_table(network)
    for part in ("calib", "test"):
        images = read_images(root / part)
        logits = onnx_logits(path, images)
        gap = float(np.abs(torch_logits(network, images) - logits).max())
        if gap > 1e-3:
            raise RuntimeError(f"the ONNX file and the trained network differ by {gap:.2g} on {part}")
        counts = zip(CLASSES.values(), np.bincount(images.labels), strict=True)
        print(f"{part}: accuracy {Accuracy.of(logits, images.labels)} ({', '.join(f'{c} {n}' for c, n in counts)})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo model digits-target.onnx and its images again.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the initialization, dropout and order of the images")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)

    train_images, test_images = load_images()
    root = options.out / "digits"
    write_images(train_images.of_target(), root / "calib")
    write_images(test_images.of_target(), root / "test")

    network = pretrain(train_images, options.seed)
    source = Accuracy.of(torch_logits(network, test_images), test_images.labels)
    print(f"source network, ten digits: test accuracy {source}")
    move_to_target(network, train_images.of_target(), options.seed)

    path = options.out / "digits-target.onnx"
    path.write_bytes(to_onnx(network).SerializeToString(deterministic=True))
    report(path, network, root)


if __name__ == "__main__":
    main()
