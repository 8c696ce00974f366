#!/usr/bin/env python3
"""What Perito's decoder and engine are compared with, as a process that works when asked.

    peers.py pillow SIDE                     a photograph to a square, as torchvision's transforms have it decoded and resized
    peers.py onnxruntime MODEL BATCH THREADS a ResNet18 of a safetensors file, on ready tensors of 224 pixels

It writes `ready`, then for each line `ITERATIONS WHAT` the seconds that they took. WHAT is a photograph's path for Pillow, and nothing
for ONNX Runtime.
"""

import json
import struct
import sys
import time


def pillow(side):
    import io

    from PIL import Image

    def prepare(path):
        with open(path, "rb") as file:
            data = file.read()
        return lambda: Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)

    return prepare


def tensors(path):
    import numpy

    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: numpy.frombuffer(data[slice(*entry["data_offsets"])], dtype=numpy.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }


def resnet18(weights, batch):
    """torchvision's ResNet18 as an ONNX graph; ONNX Runtime folds and fuses it by itself."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], {}

    def constant(name):
        constants[name] = numpy_helper.from_array(weights[name], name)
        return name

    def node(kind, inputs, **attributes):
        output = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution_norm(value, convolution, norm, stride, padding):
        weight = constant(f"{convolution}.weight")
        value = node("Conv", [value, weight], strides=[stride] * 2, pads=[padding] * 4)
        parts = [constant(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        return node("BatchNormalization", [value, *parts], epsilon=1e-5)

    value = node("Relu", [convolution_norm("input", "conv1", "bn1", 2, 3)])
    value = node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for layer in range(1, 5):
        for block in range(2):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            hidden = node("Relu", [convolution_norm(value, f"{name}.conv1", f"{name}.bn1", stride, 1)])
            hidden = convolution_norm(hidden, f"{name}.conv2", f"{name}.bn2", 1, 1)
            if stride == 2:
                value = convolution_norm(value, f"{name}.downsample.0", f"{name}.downsample.1", 2, 0)
            value = node("Relu", [node("Add", [hidden, value])])
    value = node("Flatten", [node("GlobalAveragePool", [value])])
    value = node("Gemm", [value, constant("fc.weight"), constant("fc.bias")], transB=1)
    shaped = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "resnet18", [shaped("input", [batch, 3, 224, 224])], [shaped(value, [batch, 3])], list(constants.values())
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnxruntime(model, batch, threads):
    import numpy
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = resnet18(tensors(model), batch).SerializeToString()
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    pixels = numpy.random.default_rng(1).normal(size=(batch, 3, 224, 224)).astype(numpy.float32)
    session.run(None, {"input": pixels})
    return lambda _: lambda: session.run(None, {"input": pixels})


def main():
    kind, *arguments = sys.argv[1:]
    if kind == "pillow":
        prepare = pillow(int(arguments[0]))
    else:
        prepare = onnxruntime(arguments[0], int(arguments[1]), int(arguments[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        iterations, _, what = line.strip().partition(" ")
        work = prepare(what)
        began = time.perf_counter()
        for _ in range(int(iterations)):
            work()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
