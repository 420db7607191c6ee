"""Loads a weights file of lofthpc into a PreActResNet-18 written here and prints its logits.

usage: preactresnet.py WEIGHTS IMAGES.f32 N C SIZE     (needs torch; the file is read with the standard library)
"""
import array
import json
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F


def load(path):
    types = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            tensors[name] = torch.frombuffer(data[start:end], dtype=types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False))

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class PreActResNet18(nn.Module):
    def __init__(self, channels, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        before = width
        for stage in range(4):
            after = width << stage
            blocks = [Block(before, after, 1 if stage == 0 else 2), Block(after, after, 1)]
            setattr(self, "layer%d" % (stage + 1), nn.Sequential(*blocks))
            before = after
        self.bn = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.linear(F.adaptive_avg_pool2d(F.relu(self.bn(x)), 1).flatten(1))


weights, images_file, count, channels, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
state = load(weights)
model = PreActResNet18(channels, state["conv1.weight"].shape[0], state["linear.bias"].shape[0])
model.load_state_dict(state, strict=True)
model.eval()
with open(images_file, "rb") as file:
    images = torch.tensor(array.array("f", file.read())).reshape(count, channels, size, size)
with torch.no_grad():
    for row in model(images).tolist():
        print(" ".join(repr(value) for value in row))
