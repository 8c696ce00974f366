#!/usr/bin/env python3
"""Bulk scoring as one would write it in an afternoon: boto3 in a DataLoader with two workers, Pillow, torchvision's transforms and ResNet18,
COPY by psycopg. What Perito's whole job is compared with; it prints images/s.

    script.py WEIGHTS PREFIX [--frozen]    --frozen: a frozen TorchScript module, channels last
    script.py WEIGHTS --check              only whether everything is there
"""

import io
import os
import sys
import time

try:
    import boto3
    import psycopg
    import torch
    import torchvision
    from PIL import Image
except ImportError as error:
    sys.exit(f"the PyTorch script is not measured: {error} (see deploy/bench/README.md)")

BATCH = 16
WORKERS = 2
CLASSES = ["minor", "moderate", "severe"]


class Photographs(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows, self.client = rows, None
        self.transform = torchvision.transforms.Compose([
            torchvision.transforms.Resize((224, 224)),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        # A client for each process.
        self.client = self.client or store()
        image, bucket, key = self.rows[index]
        data = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return image, self.transform(Image.open(io.BytesIO(data)).convert("RGB"))


def store():
    return boto3.client(
        "s3",
        endpoint_url=os.environ["PERITO_S3_ENDPOINT"],
        region_name=os.environ["PERITO_S3_REGION"],
        aws_access_key_id=os.environ["PERITO_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["PERITO_S3_SECRET_ACCESS_KEY"],
    )


def network(path, frozen):
    import json
    import struct

    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    weights = {
        name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]), dtype=torch.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }
    model = torchvision.models.resnet18(num_classes=3)
    model.load_state_dict(weights, strict=False)
    model.eval()
    if frozen:
        model = model.to(memory_format=torch.channels_last)
        example = torch.zeros(BATCH, 3, 224, 224).to(memory_format=torch.channels_last)
        model = torch.jit.freeze(torch.jit.trace(model, example))
    return model


def main():
    path, prefix = sys.argv[1], sys.argv[2]
    if prefix == "--check":
        return
    frozen = "--frozen" in sys.argv
    torch.set_num_threads(os.cpu_count())
    model = network(path, frozen)
    with psycopg.connect(os.environ["PERITO_DATABASE_URL"]) as database, torch.inference_mode():
        database.execute("create temporary table scores (image_id bigint, severity text, minor real, moderate real, severe real)")
        database.commit()
        warm = torch.zeros(BATCH, 3, 224, 224)
        for _ in range(3):
            model(warm.to(memory_format=torch.channels_last) if frozen else warm)
        began = time.perf_counter()
        rows = database.execute(
            "select id, bucket, key from images where key like %s and superseded_at is null order by id", (prefix + "%",)
        ).fetchall()
        loader = torch.utils.data.DataLoader(Photographs(rows), batch_size=BATCH, num_workers=WORKERS)
        with database.cursor().copy("copy scores from stdin") as copy:
            for images, pixels in loader:
                if frozen:
                    pixels = pixels.to(memory_format=torch.channels_last)
                for image, scores in zip(images.tolist(), torch.softmax(model(pixels), 1).tolist()):
                    copy.write_row([image, CLASSES[scores.index(max(scores))], *scores])
        database.commit()
        print(round(len(rows) / (time.perf_counter() - began), 2))


if __name__ == "__main__":
    main()
