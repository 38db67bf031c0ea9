"""`rtseg import`: graphs from elsewhere yield the same labels here, and the user is asked for what cannot be known."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from foreign import CLASSES, foreign
from test_commands import call

import rtseg
from rtseg.core.card import Card
from rtseg.core.errors import ParityError, RtsegError, UsageError, WeightsError
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve
from rtseg.engines import candidates
from rtseg.importing import network as importing
from rtseg.importing.classes import named
from rtseg.importing.label_sets import LABEL_SETS
from rtseg.importing.network import ImportOptions, import_network
from rtseg.int8.fold import load_float_graph
from rtseg.live.labellers.averaging import Averaging
from rtseg.live.segmenter import Segmenter
from rtseg.live.spec import check_spec, default_size
from rtseg.pictures.resize import resize_labels
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

pytestmark = pytest.mark.slow

FIVE = named("five", [f"class {number}" for number in range(CLASSES)])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of RGB in 0..1
IMAGENET = ImportOptions(preset="imagenet", size=(96, 128))


@pytest.fixture(autouse=True)
def _one_engine_where_one_will_do(request, monkeypatch):
    """OpenVINO takes a second to compile a graph; its tests have its marker."""
    if not request.node.get_closest_marker("openvino"):
        monkeypatch.setattr(importing, "_OTHER_ENGINES", ())


@pytest.fixture(scope="module")
def frame():
    return StreetScene((96, 128), seed=2).render(5)[0]


def original(path, frame, *, nhwc=False, dtype=np.float32, batch=1):
    """The file's output for a frame, with the pictures scaled here as its user would."""
    rgb = frame[..., ::-1]
    values = rgb.astype(dtype) if dtype is np.uint8 else ((rgb / 255 - MEAN) / STD).astype(dtype)
    given = np.repeat((values if nhwc else values.transpose(2, 0, 1))[None], batch, 0)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["out"], {session.get_inputs()[0].name: given})[0][0].astype(np.float32)


def imported(tmp_path, options=IMAGENET, labels=FIVE, **form):
    """The card of an imported form; its files are tmp_path/mine.*."""
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    path = foreign(source / "net.onnx", **form)
    return path, import_network(path, "mine", labels, tmp_path, options).artifact.card


FORMS = {  # -> how it is written, what the card says
    "nchw": ({}, {"size_multiple": 1, "logits_stride": 4, "fixed_size": None, "output": "logits"}),
    "nhwc": ({"nhwc": True, "name": "image"}, {"logits_stride": 4}),
    "uint8": ({"nhwc": True, "dtype": np.uint8}, {"normalisation": {}}),
    "fp16": ({"dtype": np.float16, "half_weights": True}, {"logits_stride": 4}),
    "external": ({"external": True, "half_weights": True}, {"parameters": 3 * CLASSES}),
    "fixed": ({"size": (96, 128), "batch": 1}, {"fixed_size": (96, 128), "train_size": (96, 128)}),
    "batch": ({"batch": 2, "opset": 11}, {"size_multiple": 1}),
    "multiple": ({"multiple": 16}, {"size_multiple": 16}),
    "stride": ({"stride": 8, "opset": 22}, {"logits_stride": 8}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_its_own_labels(tmp_path, frame, name):
    form, said = FORMS[name]
    options = ImportOptions(order="rgb", size=(96, 128)) if form.get("dtype") is np.uint8 else IMAGENET
    path, card = imported(tmp_path, options, **form)
    logits = original(path, frame, **{key: form[key] for key in ("nhwc", "dtype", "batch") if key in form})
    if form.get("nhwc"):
        logits = np.ascontiguousarray(logits.transpose(2, 0, 1))
    expected = upsample_labels(logits, frame.shape[:2])
    assert len(np.unique(expected)) > 1
    assert {key: getattr(card, key) for key in said} == said
    assert Card.load(tmp_path / "mine.json") == card
    with rtseg.load(tmp_path / "mine.onnx", "onnxruntime", size=(96, 128)) as segmenter:
        assert (segmenter(frame) == expected).mean() > 0.999


def test_only_what_a_network_needs_is_kept_and_no_notes(tmp_path):
    imported(tmp_path, replace(IMAGENET, output_name="out"), ends="two")
    data = (tmp_path / "mine.onnx").read_bytes()
    model = onnx.load(tmp_path / "mine.onnx")
    assert b"somebody" not in data
    assert [output.name for output in model.graph.output] == ["logits"]
    assert "Neg" not in {node.op_type for node in model.graph.node}  # belongs to the auxiliary output


def test_probabilities_are_enlarged_as_their_logits_are(tmp_path, frame):
    labels = []
    for ends in ("logits", "probabilities"):
        imported(tmp_path, ends=ends)
        with rtseg.load(tmp_path / "mine.onnx", "onnxruntime", size=(48, 64)) as segmenter:
            labels.append(segmenter(frame))
    assert (labels[0] == labels[1]).mean() > 0.999


def test_one_channel_is_the_second_of_two_classes(tmp_path, frame):
    two = named("two", ["background", "person"])
    with pytest.raises(UsageError, match="--output logits, or --output probabilities"):
        imported(tmp_path, labels=two, ends="sigmoid")
    path, _ = imported(tmp_path, replace(IMAGENET, output="probabilities"), two, ends="sigmoid")
    person = original(path, frame)
    expected = upsample_labels(np.concatenate([np.zeros_like(person), np.log(person / (1 - person))]), frame.shape[:2])
    assert len(np.unique(expected)) == 2
    with rtseg.load(tmp_path / "mine.onnx", "onnxruntime", size=(96, 128)) as segmenter:
        assert (segmenter(frame) == expected).mean() > 0.999


def test_a_last_enlargement_is_left_out(tmp_path, frame):
    path, card = imported(tmp_path, enlarge=True)
    assert card.logits_stride == 4
    with rtseg.load(tmp_path / "mine.onnx", "onnxruntime", size=(96, 128)) as segmenter:
        assert (segmenter(frame) == original(path, frame).argmax(0)).mean() > 0.999


@pytest.mark.parametrize("ends", ["labels", "labels4"])
@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino)])
def test_labels_are_enlarged_by_nearest(tmp_path, frame, ends, engine):
    path, card = imported(tmp_path, ends=ends)
    assert card.gives_labels
    expected = resize_labels(original(path, frame).reshape(24, 32).astype(np.uint8), (96, 128))
    assert len(np.unique(expected)) > 1
    with rtseg.load(tmp_path / "mine.onnx", engine, size=(96, 128)) as segmenter:
        assert (segmenter(frame) == expected).mean() > 0.999


def test_labels_cannot_be_averaged_nor_enlarged_on_a_gpu(tmp_path):
    imported(tmp_path, ends="labels")
    artifact = resolve(tmp_path / "mine.onnx")
    with pytest.raises(UsageError, match="gives labels"):
        Averaging(Segmenter(RunSpec(artifact)), (1.0,), flip=True)
    with pytest.raises(UsageError, match="--engine onnxruntime or openvino"):
        candidates("tensorrt", artifact)


def test_a_fixed_size_is_taken_and_no_other(tmp_path):
    _, card = imported(tmp_path, ImportOptions(preset="imagenet"), size=(96, 128))
    artifact = resolve(tmp_path / "mine.onnx")
    assert default_size(card, (720, 1280)) == (96, 128)
    with pytest.raises(UsageError, match="takes 96x128 only"):
        check_spec(RunSpec(artifact, size_hw=(128, 128)))
    with pytest.raises(UsageError, match="96x128 only"):
        Averaging(Segmenter(RunSpec(artifact)), (0.5, 1.0))


def test_a_size_in_the_graph_that_its_shape_hides(tmp_path):
    """Exported without free axes by mistake: the last Resize contains the export's size."""
    path = foreign(tmp_path / "net.onnx", enlarge=True)
    model = onnx.load(path)
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    resize.input[:] = [resize.input[0], "", "", "sizes"]
    sizes = np.array([1, CLASSES, 96, 128], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(sizes, "sizes"))
    onnx.save(model, path)
    with pytest.raises(UsageError, match="give the --size"):
        import_network(path, "mine", FIVE, tmp_path, ImportOptions(preset="imagenet"))
    made = import_network(path, "mine", FIVE, tmp_path, IMAGENET)
    assert made.artifact.card.fixed_size == (96, 128)


REFUSED = {  # -> form, options, classes, expected message
    "no scaling": ({}, ImportOptions(), FIVE, "--mean, --std, --order not given.*--preset imagenet"),
    "no order": ({}, ImportOptions(mean=(0,), std=(1,)), FIVE, "--order not given"),
    "bytes without order": ({"dtype": np.uint8}, ImportOptions(), FIVE, "--order rgb or --order bgr"),
    "bytes with a mean": ({"dtype": np.uint8}, IMAGENET, FIVE, "leave --preset"),
    "two outputs": ({"ends": "two"}, IMAGENET, FIVE, "2 outputs.*--output-name.*out float.*aux float"),
    "no such output": ({}, replace(IMAGENET, output_name="uot"), FIVE, "did you mean out"),
    "two inputs": ({"inputs": 2}, IMAGENET, FIVE, "takes 2 inputs.*mask1"),
    "layout": ({"size": (96, 3)}, IMAGENET, FIVE, "--layout nchw or --layout nhwc"),
    "other layout": ({"size": (96, 128)}, replace(IMAGENET, layout="nhwc"), FIVE, "--layout nhwc does not fit"),
    "other layout, free": ({}, replace(IMAGENET, layout="nhwc"), FIVE, r"\(batch, 3, h, w\): that is nchw"),
    "other layout, behind": ({"nhwc": True}, replace(IMAGENET, layout="nchw"), FIVE,
                             r"\(batch, h, w, 3\): that is nhwc"),
    "other size": ({"size": (96, 128)}, replace(IMAGENET, size=(64, 64)), FIVE, "takes 96x128 only"),
    "one side": ({"size": (96, "w")}, replace(IMAGENET, size=None), FIVE, "96xfree.*--size HEIGHTxWIDTH"),
    "classes": ({}, IMAGENET, LABEL_SETS["voc"], "none of its axes has the 21 classes of voc"),
    "too many": ({"classes": 300}, IMAGENET, FIVE, "256 classes are the most"),
    "labels beyond": ({"ends": "labels"}, IMAGENET, named("two", ["a", "b"]), "has the classes 0 to 1"),
    "scores as labels": ({}, replace(IMAGENET, output="labels"), FIVE,
                         r"float32 \(1, 5, \d+, \d+\), 5 numbers for each pixel, which are scores, not labels"),
    "scores behind as labels": ({"nhwc": True}, replace(IMAGENET, output="labels"), named("seven", list("abcdefg")),
                                "5 numbers for each pixel"),
    "a score as labels": ({"ends": "sigmoid"}, replace(IMAGENET, output="labels"), named("two", ["a", "b"]),
                          r"with values such as 0\.\d+, which are not class ids"),
    "labels as logits": ({"ends": "labels"}, replace(IMAGENET, output="logits"), FIVE, "are labels, not logits"),
    "no probabilities": ({}, replace(IMAGENET, output="probabilities"), FIVE, "are not probabilities"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_known_is_asked_for(tmp_path, name):
    form, options, labels, said = REFUSED[name]
    path = foreign(tmp_path / "net.onnx", **form)
    with pytest.raises(UsageError, match=said):
        import_network(path, "mine", labels, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_graph_as_it_is_trained_is_refused(tmp_path):
    path = foreign(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, onnx.helper.make_node("RandomNormalLike", ["x"], ["noise"]))
    onnx.save(model, path)
    with pytest.raises(UsageError, match=r"model\.eval\(\)"):
        import_network(path, "mine", FIVE, tmp_path, IMAGENET)


def test_a_batch_that_is_in_the_graph_is_refused(tmp_path):
    path = foreign(tmp_path / "net.onnx", batch=2, size=(96, 128))
    model = onnx.load(path)
    model.graph.node[-1].input[0] = "shaped"
    shape = onnx.numpy_helper.from_array(np.array([2, CLASSES, 24, 32], np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.insert(
        len(model.graph.node) - 1, onnx.helper.make_node("Reshape", ["scores", "shape"], ["shaped"])
    )
    onnx.save(model, path)
    with pytest.raises(UsageError, match="takes 2 pictures at once"):
        import_network(path, "mine", FIVE, tmp_path, ImportOptions(preset="imagenet"))


@pytest.mark.parametrize("kinds", [("Identity",), ("Neg",), ("QuantizeLinear", "DequantizeLinear")])
def test_weights_computed_from_weights_can_be_quantised_and_those_that_are_already_not(tmp_path, kinds):
    path = foreign(tmp_path / "net.onnx")
    model = onnx.load(path)
    next(node for node in model.graph.node if node.op_type == "Conv").input[1] = kinds[-1]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.01), "scale"))
    given = "weights"
    for place, kind in enumerate(kinds):
        more = ["scale"] if kind.endswith("Linear") else []
        model.graph.node.insert(place, onnx.helper.make_node(kind, [given, *more], [kind]))
        given = kind
    onnx.save(model, tmp_path / "other.onnx")
    import_network(tmp_path / "other.onnx", "mine", FIVE, tmp_path, IMAGENET)
    if len(kinds) == 1:
        load_float_graph(tmp_path / "mine.onnx")
    else:
        with pytest.raises(WeightsError, match="no INT8 form"):
            load_float_graph(tmp_path / "mine.onnx")


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "net.tflite").touch()
    (tmp_path / "selfie.tflite").write_bytes(b"\x18\0\0\0TFL3" + bytes(40) + b"Convolution2DTransposeBias\0")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08 not a graph")
    for name, kind, said in [("net.tflite", UsageError, r"tf2onnx.convert --tflite \S*net.tflite --output net.onnx"),
                             ("selfie.tflite", UsageError, r"MediaPipe's own \(Convolution2DTransposeBias\)"),
                             ("cut.onnx", WeightsError, "cut.onnx"),
                             ("none.onnx", WeightsError, "no such file")]:  # fmt: skip
        with pytest.raises(kind, match=said):
            import_network(tmp_path / name, "mine", FIVE, tmp_path, IMAGENET)
    path = foreign(tmp_path / "net.onnx", external=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(WeightsError, match="external data"):
        import_network(path, "mine", FIVE, tmp_path, IMAGENET)


def test_other_labels_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    real = importing.DeploymentGraph

    def turned(source, scaling, *rest):
        return real(source, replace(scaling, order="bgr"), *rest)

    monkeypatch.setattr(importing, "DeploymentGraph", turned)
    path = foreign(tmp_path / "net.onnx")
    with pytest.raises(ParityError, match="the original's label"):
        import_network(path, "mine", FIVE, tmp_path / "out", IMAGENET)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    foreign(tmp_path / "net.onnx", ends="labels")
    (tmp_path / "five.json").write_text(json.dumps(list(FIVE.names)), encoding="utf-8")
    line = "rtseg import net.onnx --name mine --classes five.json --folder made --size 96x128"
    assert call(line) == 2
    assert "--mean, --std, --order not given" in capsys.readouterr().err
    assert call(f"{line} --mean 0.485,0.456,0.406 --std 0.229 0.224 0.225 --order rgb") == 0
    assert "nearest neighbour" in capsys.readouterr().out
    assert call("rtseg-cam --model made/mine.onnx --source synthetic --no-window --frames 2 --json seen.json") == 0
    made, again = (tmp_path / "made/mine.onnx").read_bytes(), f"{line} --preset half"
    assert call(again) == 4
    assert "made/mine.onnx exists already: choose another --name" in capsys.readouterr().err.replace("\\", "/")
    assert (tmp_path / "made/mine.onnx").read_bytes() == made
    assert call(f"{again} --overwrite") == 0
    assert (tmp_path / "made/mine.onnx").read_bytes() != made
    assert call("rtseg import net.onnx --name net --classes five.json --preset imagenet") == 2  # would overwrite itself
    assert "net.onnx" in capsys.readouterr().err


def test_the_command_says_that_onnx_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("rtseg.apps.import_network.find_spec", lambda name: None)
    assert call("rtseg import net.onnx --name mine --classes voc --preset imagenet") == 5
    assert "pip install onnx" in capsys.readouterr().err


def test_torchvision_as_it_is_exported(tmp_path, frame):
    import torch
    from tiny import randomise
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    from rtseg.models import build_model

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = randomise(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21))

        def forward(self, x):
            return self.network(x)["out"]

    torch.manual_seed(0)
    network = Logits().eval()
    example = torch.from_numpy(((frame[..., ::-1] / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None])
    axes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    torch.onnx.export(network, (example.repeat(2, 1, 1, 1),), str(tmp_path / "net.onnx"), dynamo=True, verbose=False,
                      dynamic_shapes=(axes,))  # fmt: skip
    made = import_network(tmp_path / "net.onnx", "mine", LABEL_SETS["voc"], tmp_path / "out", IMAGENET)
    card = made.artifact.card
    assert (card.size_multiple, card.logits_stride) == (1, 8)  # its last enlargement is left out
    with torch.inference_mode():
        expected = network(example)[0].argmax(0).numpy()
    with rtseg.load(tmp_path / "out" / "mine.onnx", "onnxruntime", size=(96, 128)) as segmenter:
        assert (segmenter(frame) == expected).mean() > 0.999
    with pytest.raises(RtsegError, match="cannot be trained"):
        build_model(card.model, card.config)
