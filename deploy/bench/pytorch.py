#!/usr/bin/env python3
"""Trains by the notebook's recipes as a plain PyTorch script does, and prints images/s: what `run` compares with.

Eager mode, torchvision's transforms on Pillow's images, `ImageFolder` and `DataLoader`. Needs torch, torchvision and numpy.
"""

import argparse
import time

import torch
import torchvision
from torch import nn
from torchvision import transforms


class Cnn4(nn.Module):
    def __init__(self, side: int):
        super().__init__()
        filters, layers = [3, 32, 64, 128, 256], []
        for before, after in zip(filters, filters[1:]):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(256 * (side // 16) ** 2, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 3)
        )

    def forward(self, images):
        return self.head(self.features(images))


def build(name: str, side: int):
    if name == "cnn4":
        model = Cnn4(side)
        return model, torch.optim.SGD(model.parameters(), lr=0.0005, momentum=0.9)
    model = torchvision.models.resnet18()
    if name == "resnet18-frozen":
        for child in [model.conv1, model.bn1, model.layer1, model.layer2, model.layer3]:
            child.requires_grad_(False)
    model.fc = nn.Sequential(nn.Dropout(0.6), nn.Linear(512, 3))
    return model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.001)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with one folder for each class")
    parser.add_argument("network", choices=["cnn4", "resnet18", "resnet18-frozen"])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="autocast to 16 bits")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(42)
    steps = [
        transforms.Resize((options.side, options.side)),
        transforms.RandomHorizontalFlip(),
        transforms.RandomRotation(15),
        transforms.ColorJitter(brightness=0.2, contrast=0.2),
        transforms.RandomPerspective(distortion_scale=0.2, p=0.5),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    images = torchvision.datasets.ImageFolder(options.folder, transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        images, batch_size=options.batch_size, shuffle=True, num_workers=options.workers, persistent_workers=True
    )
    model, optimizer = build(options.network, options.side)
    loss_of = nn.CrossEntropyLoss()
    fastest = 0.0
    for _ in range(options.epochs):
        model.train()
        began, seen = time.perf_counter(), 0
        for pixels, labels in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bfloat16):
                loss = loss_of(model(pixels), labels)
            loss.backward()
            optimizer.step()
            seen += len(labels)
        fastest = max(fastest, seen / (time.perf_counter() - began))
    print(f"{fastest:.1f}")


if __name__ == "__main__":
    main()
