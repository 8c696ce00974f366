#!/usr/bin/env python3
"""Computes in PyTorch what the tests of this crate compare with, and writes it beside this file.

Run by hand, when a test needs another reference value, in an environment with torch 2.13.0 and torchvision 0.28.0 (CPU):

    python3 services/libs/nets/tests/golden/generate.py

Weights and pictures are too large to keep. Both sides make them from the same formula instead: `unit` here and in
`tests/common/mod.rs`.
"""

import json
import pathlib

import numpy
import torch
import torchvision
from torch import nn

FOLDER = pathlib.Path(__file__).parent
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def unit(name: str, count: int) -> numpy.ndarray:
    """`count` numbers in -1 to 1: splitmix64 of (FNV-1a of the name) + index, its upper 24 bits."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return ((z >> numpy.uint64(40)).astype(numpy.float64) / 2**23 - 1).astype(numpy.float32)


def fill(model: nn.Module) -> nn.Module:
    """Gives every tensor values by its name, of a size that keeps activations in bounds."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        values = torch.from_numpy(unit(name, tensor.numel())).reshape(tensor.shape)
        if name.endswith("running_var"):
            values = 1 + 0.5 * values
        elif tensor.dim() > 1:
            values = values * float(numpy.float32((3 / tensor[0].numel()) ** 0.5))
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        with torch.no_grad():
            tensor.copy_(values)
    return model


def pictures(count: int, side: int) -> torch.Tensor:
    """Normalised pictures of bytes (batch, 3, side, side)."""
    values = [numpy.floor((unit(f"picture {i}", side * side * 3).astype(numpy.float64) + 1) * 127.99) for i in range(count)]
    pixels = torch.from_numpy(numpy.stack(values)).float().reshape(count, side, side, 3).permute(0, 3, 1, 2)
    return (pixels / 255 - MEAN) / STD


class Cnn4(nn.Module):
    """The same network as in src/cnn4.rs, ReLU before the pooling as it is usually written."""

    def __init__(self, side: int):
        super().__init__()
        channels = [3, 32, 64, 128, 256]
        for block in range(4):
            layer = nn.Module()
            layer.conv = nn.Conv2d(channels[block], channels[block + 1], 3, padding=1)
            layer.bn = nn.BatchNorm2d(channels[block + 1])
            setattr(self, f"layer{block + 1}", layer)
        self.fc1 = nn.Linear(256 * (side // 16) ** 2, 512)
        self.fc2 = nn.Linear(512, 3)

    def forward(self, x):
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = torch.max_pool2d(torch.relu(layer.bn(layer.conv(x))), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def network(architecture: str, side: int) -> nn.Module:
    model = Cnn4(side) if architecture == "cnn4" else torchvision.models.resnet18(num_classes=3)
    return fill(model)


def optimizer(spec: dict, parameters):
    settings = {key: value for key, value in spec.items() if key not in ("name", "learning_rate", "epsilon")}
    if "epsilon" in spec:
        settings["eps"] = spec["epsilon"]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[spec["name"]]
    return kind(parameters, lr=spec["learning_rate"], **settings)


def networks() -> list:
    cases = []
    for architecture, side, spec in [
        ("cnn4", 48, {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.001}),
        ("resnet18", 64, {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}),
        ("resnet18", 224, None),
    ]:
        model = network(architecture, side)
        images = pictures(4, side)
        labels = torch.tensor([0, 1, 2, 1])
        model.eval()
        with torch.no_grad():
            case = {"architecture": architecture, "side": side, "logits": model(images).tolist()}
        if spec:
            model.train()
            optim = optimizer(spec, model.parameters())
            losses = []
            for _ in range(3):
                optim.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optim.step()
                losses.append(loss.item())
            model.eval()
            with torch.no_grad():
                logits = model(images).tolist()
            state = model.state_dict()
            norm = "layer1.bn" if architecture == "cnn4" else "layer2.0.bn1"
            buffers = {f"{norm}.{part}": state[f"{norm}.{part}"].tolist() for part in ("running_mean", "running_var")}
            case["training"] = {"optimizer": spec, "losses": losses, "logits": logits, "buffers": buffers}
        cases.append(case)
    return cases


def optimizers() -> dict:
    count, steps = 16, 20
    # Away from zero, so that a relative error means something.
    start = [2 + float(value) for value in unit("start", count)]
    gradients = [unit(f"gradient {step}", count).tolist() for step in range(steps)]
    rates = [0.01 * 0.9**step for step in range(steps)]
    cases = []
    for spec in [
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
        {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
        {"name": "adam"},
        {"name": "adam", "betas": [0.8, 0.95], "epsilon": 1e-6, "weight_decay": 0.01},
        {"name": "adamw"},
        {"name": "adamw", "betas": [0.8, 0.95], "epsilon": 1e-6, "weight_decay": 0.1},
    ]:
        spec["learning_rate"] = 0.01
        parameter = nn.Parameter(torch.tensor(start))
        optim = optimizer(spec, [parameter])
        after = []
        for gradient, rate in zip(gradients, rates):
            optim.param_groups[0]["lr"] = rate
            parameter.grad = torch.tensor(gradient)
            optim.step()
            after.append(parameter.tolist())
        cases.append({"optimizer": spec, "parameters": after})
    return {"start": start, "gradients": gradients, "learning_rates": rates, "cases": cases}


def schedules() -> list:
    schedule = torch.optim.lr_scheduler

    def cosine(optim, epochs, warmup, minimum):
        falling = schedule.CosineAnnealingLR(optim, epochs - warmup, eta_min=minimum)
        if not warmup:
            return falling
        rising = schedule.LinearLR(optim, start_factor=1 / (warmup + 1), total_iters=warmup)
        return schedule.SequentialLR(optim, [rising, falling], milestones=[warmup])

    cases = []
    for spec, epochs, make in [
        ({"name": "constant"}, 4, lambda optim: schedule.ConstantLR(optim, factor=1)),
        ({"name": "step", "epochs": 3, "gamma": 0.5}, 11, lambda optim: schedule.StepLR(optim, 3, 0.5)),
        ({"name": "cosine"}, 10, lambda optim: cosine(optim, 10, 0, 0.0)),
        ({"name": "cosine", "warmup_epochs": 1, "minimum": 0.001}, 8, lambda optim: cosine(optim, 8, 1, 0.001)),
        ({"name": "cosine", "warmup_epochs": 5, "minimum": 0.0002}, 30, lambda optim: cosine(optim, 30, 5, 0.0002)),
        (
            {"name": "plateau", "factor": 0.5, "patience": 2},
            40,
            lambda optim: schedule.ReduceLROnPlateau(optim, factor=0.5, patience=2),
        ),
        (
            {"name": "plateau", "factor": 0.1, "patience": 0, "minimum": 0.0003},
            12,
            lambda optim: schedule.ReduceLROnPlateau(optim, factor=0.1, patience=0, min_lr=0.0003),
        ),
    ]:
        optim = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
        scheduler = make(optim)
        # They fall ever less, with noise.
        losses = [float(1 / (1 + epoch) + 0.1 * noise) for epoch, noise in enumerate(unit("losses", epochs))]
        rates = []
        for loss in losses:
            rates.append(optim.param_groups[0]["lr"])
            optim.step()
            scheduler.step(*([loss] if spec["name"] == "plateau" else []))
        case = {"schedule": spec, "epochs": epochs, "learning_rate": 0.02, "rates": rates, "losses": losses}
        cases.append(case)
    return cases


def losses() -> dict:
    """Cross-entropy of four images of the classes 0, 2, 1, 2 that have a share of their own label, and the label of the one before."""
    logits = torch.from_numpy(unit("logits", 12)).reshape(4, 3) * 3
    labels = torch.tensor([0, 2, 1, 2])
    own = nn.functional.one_hot(labels, 3).float()
    cases = []
    for smoothing in [0.0, 0.1]:
        for weights in [None, [0.5, 1.0, 2.0]]:
            for share in [None, 0.7]:
                weight = None if weights is None else torch.tensor(weights)
                target = labels if share is None else share * own + (1 - share) * own.roll(1, 0)
                loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)(logits, target).item()
                spec = {"label_smoothing": smoothing, "class_weights": weights}
                cases.append({"spec": spec, "share": share, "loss": loss})
    return {"logits": logits.flatten().tolist(), "cases": cases}


def main():
    values = {"networks": networks(), "optimizers": optimizers(), "schedules": schedules(), "losses": losses()}
    for name, value in values.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
