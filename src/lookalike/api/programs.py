"""An encoder as a program that needs neither lookalike nor timm: torch.export's file, and ONNX."""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

Features = Callable[[Tensor], Tensor]

PIXELS = ("uint8", "float")  # what a program may take; one program takes one of them
OPSET = 18  # of ONNX; what torch's exporter writes without conversion
ONNX_LIMIT = 2**31 - 2**20  # bytes of weights: one protobuf message ends at 2 GiB, and the graph needs room
INPUT, OUTPUT = "pixels", "features"


def as_pixels(images: Tensor, kind: str) -> Tensor:
    """uint8 images as a program takes them: as they are, or as floats in [0, 1]."""
    return images if kind == "uint8" else images.float() / 255


def torch_program(encoder: nn.Module, example: Tensor) -> bytes:
    """The bytes of a .pt2 file for pixels of the example's type and size, in batches of any size.

    They hold no path and no time: the same weights and the same torch give the same bytes.
    """
    program = torch.export.export(encoder, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    program.example_inputs = None  # torch would pickle them
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def onnx_program(encoder: nn.Module, example: Tensor) -> bytes:
    """The bytes of an .onnx file with its weights inside; otherwise as `torch_program`.

    Raises ValueError where the packages are missing, or the weights are too large for one file.
    """
    _demand_onnx()
    size = sum(tensor.numel() * tensor.itemsize for tensor in encoder.state_dict().values())
    if size > ONNX_LIMIT:
        raise ValueError(f"one ONNX file holds up to 2 GiB, and the weights have {size:,} bytes: use --to torch")
    program = torch.onnx.export(
        encoder,
        (example,),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: Dim("batch", min=1)},),
    )
    assert program is not None
    return _without_origin(program.model_proto).SerializeToString(deterministic=True)


def opened_torch(file: bytes) -> Features:
    """The features that a .pt2 file computes."""
    return torch.export.load(io.BytesIO(file)).module()


def opened_onnx(file: bytes) -> Features:
    """The features that an .onnx file computes, by onnxruntime on the CPU. Raises ValueError without that package."""
    _demand_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])


def _demand_onnx() -> None:
    """Raises ValueError where a package of the extra is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f"ONNX needs the package {error.name}: pip install 'lookalike[export]'") from None


def _without_origin(model: Any) -> Any:
    """An ONNX model without what tells of the machine that made it: lines and paths of source code."""
    graphs = [model.graph, *model.functions]
    parts = [model, *graphs, *model.graph.input, *model.graph.output, *model.graph.initializer]
    for graph in graphs:
        parts += [*graph.node, *graph.value_info]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
