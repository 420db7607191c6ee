"""A network that lofthpc exported: rebuilds it, loads its weights and evaluates it. Needs PyTorch and nothing else.

    from model import evaluate, load
    network = load()                            # a torch.nn.Module in evaluation mode
    logits = network(normalise(images))         # images: uint8 [N, C, H, W]
    hits, loss = evaluate(network, images, labels)

    python3 model.py IMAGES LABELS              # IDX files, plain or .gz: MNIST's, or those of lofthpc export --images
    python3 model.py FILE.bin [FILE.bin ...]    # binary files of CIFAR-10 or CIFAR-100
"""
import gzip
import json
import math
import pathlib
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F

FOLDER = pathlib.Path(__file__).resolve().parent
ARCHITECTURE = json.loads((FOLDER / "architecture.json").read_text())
TYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}


def convolution(architecture, name):
    c = architecture["convolutions"][name]
    return nn.Conv2d(c["inputs"], c["outputs"], c["kernel"], c["stride"], c["padding"], bias=False)


class Block(nn.Module):
    def __init__(self, architecture, name):
        super().__init__()
        self.pre_activation = architecture["pre_activation"]
        self.conv1, self.conv2 = convolution(architecture, name + ".conv1"), convolution(architecture, name + ".conv2")
        channels = "in_channels" if self.pre_activation else "out_channels"
        self.bn1, self.bn2 = nn.BatchNorm2d(getattr(self.conv1, channels)), nn.BatchNorm2d(getattr(self.conv2, channels))
        self.shortcut = nn.Sequential()  # the identity
        if name + ".shortcut.0" in architecture["convolutions"]:
            self.shortcut.append(convolution(architecture, name + ".shortcut.0"))
            if not self.pre_activation:
                self.shortcut.append(nn.BatchNorm2d(self.shortcut[0].out_channels))

    def forward(self, x):
        if not self.pre_activation:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + self.shortcut(x))
        y = F.relu(self.bn1(x))
        shortcut = self.shortcut(y) if len(self.shortcut) else x
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + shortcut


class Network(nn.Module):
    def __init__(self, architecture=ARCHITECTURE):
        super().__init__()
        self.stages = len(architecture["blocks"])
        self.conv1 = convolution(architecture, "conv1")
        self.bn1 = nn.Identity() if architecture["pre_activation"] else nn.BatchNorm2d(self.conv1.out_channels)
        self.pool = nn.MaxPool2d(3, 2, 1) if architecture["form"] == "imagenet" else nn.Identity()
        for stage, count in enumerate(architecture["blocks"], 1):
            blocks = [Block(architecture, "layer%d.%d" % (stage, index)) for index in range(count)]
            setattr(self, "layer%d" % stage, nn.Sequential(*blocks))
        features = blocks[-1].conv2.out_channels
        self.bn = nn.BatchNorm2d(features) if architecture["pre_activation"] else nn.Identity()
        self.linear = nn.Linear(features, architecture["classes"])

    def forward(self, x):
        x = self.conv1(x)
        if isinstance(self.bn1, nn.BatchNorm2d):
            x = F.relu(self.bn1(x))
        x = self.pool(x)
        for stage in range(1, self.stages + 1):
            x = getattr(self, "layer%d" % stage)(x)
        if isinstance(self.bn, nn.BatchNorm2d):
            x = F.relu(self.bn(x))
        return self.linear(x.mean((2, 3)))


def read_safetensors(path):
    data = bytearray(pathlib.Path(path).read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    state = {}
    for name, entry in json.loads(data[8:8 + length].decode()).items():
        if name != "__metadata__":
            start, shape = 8 + length + entry["data_offsets"][0], entry["shape"]
            state[name] = torch.frombuffer(data, dtype=TYPES[entry["dtype"]], count=math.prod(shape), offset=start).reshape(shape)
    return state


def write_safetensors(state, path):
    """Writes a state_dict in the form that lofthpc import reads."""
    names, header, data = {dtype: name for name, dtype in TYPES.items()}, {}, bytearray()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        start = len(data)
        data += bytes(tensor.reshape(-1).numpy().tobytes())
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path=FOLDER / "model.safetensors"):
    network = Network()
    network.load_state_dict(read_safetensors(path))
    return network.eval()


def normalise(images):
    """Of bytes the float32 values that lofthpc trains on; the same bits."""
    mean, deviation = (torch.tensor(ARCHITECTURE[key]).double().reshape(-1, 1, 1) for key in ("mean", "standard_deviation"))
    return ((images.double() / 255 - mean) / deviation).float()


@torch.no_grad()
def evaluate(network, images, labels, batch=500):
    """Images (uint8 [N, C, H, W]) whose class is hit, and the mean loss."""
    hits, loss, device = 0, 0.0, next(network.parameters()).device
    for start in range(0, len(labels), batch):
        logits = network(normalise(images[start:start + batch]).to(device))
        expected = labels[start:start + batch].long().to(device)
        hits += int((logits.argmax(1) == expected).sum())
        loss += float(F.cross_entropy(logits, expected, reduction="sum"))
    return hits, loss / len(labels)


def read_idx(path):
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        data = bytearray(file.read())
    shape = struct.unpack(">%dI" % data[3], data[4:4 + 4 * data[3]])
    return torch.frombuffer(data, dtype=torch.uint8, offset=4 + 4 * data[3]).reshape(shape)


def read_images(files):
    """Images [N, C, H, W] and labels [N], as bytes."""
    shape = [-1, ARCHITECTURE["image_channels"], ARCHITECTURE["image_side"], ARCHITECTURE["image_side"]]
    if not str(files[0]).endswith(".bin"):
        images, labels = map(read_idx, files)
        return images.reshape(shape), labels
    label_bytes = 2 if ARCHITECTURE["classes"] == 100 else 1
    data = bytearray(b"".join(pathlib.Path(file).read_bytes() for file in files))
    records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, label_bytes + math.prod(shape[1:]))
    return records[:, label_bytes:].reshape(shape), records[:, label_bytes - 1]


if __name__ == "__main__":
    model = load()
    print("{family} {depth} ({form}), {weights} weights of run {run}".format(**ARCHITECTURE), end=", ")
    print("%d parameters" % sum(p.numel() for p in model.parameters()))
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit()
    images, labels = read_images(sys.argv[1:])
    hits, loss = evaluate(model, images, labels)
    print("accuracy %r, loss %r: %d of %d images" % (hits / len(labels), loss, hits, len(labels)))
    if ARCHITECTURE["test_accuracy"] is not None:
        print("lofthpc measured accuracy %r, loss %r on its test images" % (ARCHITECTURE["test_accuracy"], ARCHITECTURE["test_loss"]))
