"""Builds and runs one convolution with TensorRT: the first check on a GPU machine. Exits with 0 on success."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from rtseg.engines.cuda.memory import Device
from rtseg.engines.tensorrt.build import build
from rtseg.engines.tensorrt.cache import BuildOptions
from rtseg.engines.tensorrt.fixed_graph import with_shapes
from rtseg.engines.tensorrt.half import to_half
from rtseg.engines.tensorrt.plan import VERSION
from rtseg.engines.tensorrt.runner import Runner
from rtseg.engines.tensorrt.typed_graph import Convolution, TypedGraph

SIZE = (64, 96)


def network() -> TypedGraph:
    """uint8 picture -> FP16 3x3 convolution to 16 'classes'."""
    weights = np.random.default_rng(0).normal(0, 0.01, (16, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["logits"], "conv", pads=[1, 1, 1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SIZE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 16, *SIZE])
    graph = helper.make_graph(nodes, "smoke", [image], [logits], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return TypedGraph(to_half(with_shapes(model)), {"conv": Convolution(16 * 27 * SIZE[0] * SIZE[1], "fp16")})


def main() -> None:
    device = Device()
    print(f"{device.info}, TensorRT {VERSION}", flush=True)
    built = build(network(), BuildOptions(optimization_level=1))
    print(f"built: {len(built.plan)} bytes, types {built.types}", flush=True)
    runner = Runner(device, built.plan)
    image = np.random.default_rng(1).integers(0, 255, (*SIZE, 3), np.uint8)
    logits = runner.infer(image)
    labels = runner.finish(runner.start(image, SIZE))
    agreeing = float((logits.argmax(0) == labels).mean())
    print(f"ran: logits {logits.shape}, {agreeing:.2%} of the labels are their argmax, CUDA graph {runner.graph}")
    runner.close()
    if agreeing < 0.999:
        raise SystemExit("the labels are not the argmax of the logits")


if __name__ == "__main__":
    main()
