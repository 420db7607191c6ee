"""Training of a PreActResNet-18 in PyTorch's eager mode, for comparison.

usage: pytorch_training.py DEVICE PRECISION THREADS WIDTH      (lofthpc-benchmarks starts it)

Prints one line when it is ready. For each line "BATCH LAYOUT STEPS" of its input it then does so many optimizer steps on
synthetic images that lie on the device, waits for the device, and prints the loss of the last one.
"""
import sys

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class PreActResNet18(nn.Module):
    def __init__(self, width, channels=3, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        blocks = []
        before = width
        for stage in range(4):
            after = width << stage
            blocks += [Block(before, after, 1 if stage == 0 else 2), Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, classes)

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.conv1(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Training:
    def __init__(self, batch, layout, width, device, precision):
        self.device, self.half = device, precision == "bfloat16"
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        torch.manual_seed(1)
        self.images = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=memory_format)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.model = PreActResNet18(width).to(device).to(memory_format=memory_format).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def steps(self, count):
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
                loss = F.cross_entropy(self.model(self.images).float(), self.labels)
            loss.backward()
            self.optimizer.step()
        # The value comes to the host when the device has done all that was asked of it before.
        return loss.item()


device, precision, threads, width = torch.device(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
if device.type == "cuda":
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
print("PyTorch %s, %s, %d thread(s)" % (torch.__version__, name, torch.get_num_threads()), flush=True)

trainings = {}
for line in sys.stdin:
    batch, layout, count = line.split()
    if (batch, layout) not in trainings:
        # Those of another batch size are done with: their memory is given back.
        trainings = {key: value for key, value in trainings.items() if key[0] == batch}
        trainings[batch, layout] = Training(int(batch), layout, width, device, precision)
    print(repr(trainings[batch, layout].steps(int(count))), flush=True)
