"""The precision audit of layer reports in the formats of TensorRT 10 and TensorRT 11."""

import json

import pytest

from rtseg.core.errors import EngineError
from rtseg.engines.tensorrt.audit import audit, read_layers, require, type_name
from rtseg.engines.tensorrt.typed_graph import Convolution

WORK = {"conv_1": Convolution(600, "fp16"), "conv_2": Convolution(350, "fp16"), "conv_3": Convolution(50, "fp16")}


def layer(form, name, nodes, kind, layer_type="CaskConvolution", weights=True, layout="Channel major"):
    """One layer as in the documentation of either version."""
    long = {"Half": "FP16", "Float": "FP32", "Int8": "INT8"}[kind]
    tensor = {"Name": "x", "Dimensions": [1, 64, 32, 32]}
    if form == 10:
        tensor["Format/Datatype"] = f"{layout} {long} format where channel % 8 == 0"
    else:
        tensor |= {"Format": f"{layout} format where channel % 8 == 0 (kHWC8)", "DataType": kind}
    made = {
        "Name": name,
        "LayerType": layer_type,
        "Inputs": [tensor],
        "Outputs": [tensor],
        "TacticName": "sm90_xmma_fprop_implicit_gemm",
        "Metadata": "\x1e".join(f"[ONNX Layer: {node}]" for node in nodes),
    }
    if weights:
        made |= {"ParameterType": "Convolution", "Weights": {"Type": kind, "Count": 4096}}
    return made


def report(form, *layers):
    ends = {"Bindings": ["image", "logits"]} if form == 10 else {"I/O Tensors": [{"Name": "image", "IOMode": "Input"}]}
    return json.dumps({"Layers": list(layers), **ends})


@pytest.mark.parametrize("form", [10, 11])
class TestForms:
    def test_what_a_layer_says(self, form):
        text = report(form, layer(form, "conv_1 + relu_1", ["conv_1", "relu_1"], "Half"))
        (found,) = read_layers(text, {"conv_1 + relu_1": 0.125})
        assert (found.name, found.kind, found.nodes) == ("conv_1 + relu_1", "CaskConvolution", ("conv_1", "relu_1"))
        assert (found.precision, found.ms) == ("fp16", 0.125)
        assert found.format.startswith("Channel major")
        assert found.tactic == "sm90_xmma_fprop_implicit_gemm"

    def test_all_as_asked(self, form):
        layers = [layer(form, name, [name], "Half") for name in WORK]
        result = audit(read_layers(report(form, *layers)), WORK)
        assert (result.as_asked, result.attributable, result.shares, result.wrong) == (1, 1, {"fp16": 1}, ())
        require(result)

    def test_a_silent_fallback_is_found(self, form):
        layers = [layer(form, name, [name], "Float" if name == "conv_2" else "Half") for name in WORK]
        result = audit(read_layers(report(form, *layers)), WORK)
        assert result.as_asked == pytest.approx(0.65)
        assert result.shares == pytest.approx({"fp16": 0.65, "fp32": 0.35})
        with pytest.raises(EngineError, match=r"only 65\.0% .* 90% is needed: conv_2: fp32 instead of fp16, 35\.0% of"):
            require(result)

    def test_small_layers_may_differ_and_are_listed(self, form):
        layers = [layer(form, name, [name], "Float" if name == "conv_3" else "Half") for name in WORK]
        result = audit(read_layers(report(form, *layers)), WORK)
        require(result)
        assert [line.split(",")[0] for line in result.wrong] == ["conv_3: fp32 instead of fp16"]

    def test_layers_without_weights_are_told_by_their_input(self, form):
        layers = [layer(form, "kgen", list(WORK), "Int8", "kgen", weights=False)]
        result = audit(read_layers(report(form, *layers)), {n: Convolution(c.macs, "int8") for n, c in WORK.items()})
        assert (result.as_asked, result.shares) == (1, {"int8": 1})

    def test_a_reformatting_copy_does_not_stand_for_its_convolution(self, form):
        copy = layer(form, "Reformatting CopyNode for conv_1", ["conv_1"], "Float", "Reformat", weights=False)
        for layers in (
            [copy, layer(form, "conv_1", ["conv_1"], "Half")],
            [layer(form, "conv_1", ["conv_1"], "Half"), copy],
        ):
            result = audit(read_layers(report(form, *layers)), {"conv_1": WORK["conv_1"]})
            assert result.shares == {"fp16": 1}

    def test_what_nobody_owns_up_to_is_counted(self, form):
        layers = [layer(form, "conv_1", ["conv_1"], "Half"), layer(form, "rest", [], "Half")]
        result = audit(read_layers(report(form, *layers)), WORK)
        assert result.attributable == pytest.approx(0.6)
        assert result.as_asked == 1


def test_an_engine_that_names_nothing_is_refused():
    with pytest.raises(EngineError, match="names no convolution"):
        require(audit([], WORK))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"Layers": ["conv_1 + relu_1"]}), "names only"),
        ("no JSON", "cannot be read"),
        ("[]", "cannot be read"),
        (json.dumps({"Layers": [{"LayerType": "x"}]}), "cannot be read"),
    ],
)
def test_a_report_of_another_form_is_told(text, told):
    with pytest.raises(EngineError, match=told):
        read_layers(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Row major linear FP16 format (kLINEAR)", "fp16"),
        ("Half", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("BFloat16", "bf16"),
        ("N/A due to dynamic shapes", ""),
        ("Int64", ""),
    ],
)
def test_type_names(text, name):
    assert type_name(text) == name
