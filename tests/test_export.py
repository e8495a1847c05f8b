"""A model as an ONNX file gives the answers of PyTorch, whatever the batch and the occupancy."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from course import commands, export
from lib.data.encoding import encode_cms8
from lib.data.tokens import TOP_QCD, Grid
from lib.models.rivals import ResNet15
from lib.models.vit import R1, JetViT, ViTConfig

OURS = dict(tokens="two_scale", position="factorised", pool="energy", dim=32, depth=1, heads=2,
            head_hidden=16)
QUARK_GLUON = Grid(3, 125, 125, 5, 5)


def graph(kind="image", grid=TOP_QCD, **settings):
    torch.manual_seed(0)
    settings = {**OURS, **settings}
    return export.Graph(JetViT(ViTConfig.of(grid, **settings)), grid, settings["tokens"], kind)


@pytest.fixture(scope="module")
def frame_file(tmp_path_factory):
    """Ours, by PyTorch's exporter of today; `export` itself compares it with PyTorch."""
    return export.export(graph("frame"), tmp_path_factory.mktemp("onnx") / "frame.onnx")


def test_a_file_holds_the_8_bit_pipeline_and_meets_the_contract(frame_file):
    first, second, third = export.check(frame_file)
    assert "opset 18, IR 8, input frame" in first
    assert "13_1" in second
    assert "jet by jet" in third
    assert export.parity(export.OnnxModel(frame_file), graph("frame")) < 1
    other = graph("frame")
    torch.nn.init.normal_(other.model.class_head.weight)
    assert export.parity(export.OnnxModel(frame_file), other) > 1
    assert len(list(frame_file.parent.iterdir())) == 1  # one file


@pytest.mark.parametrize(("kind", "grid", "settings"), [
    ("tokens", TOP_QCD, {}),
    ("image", QUARK_GLUON, {"tokens": "active", "pool": "mean_max"}),
    ("image", QUARK_GLUON, {}),
    ("image", TOP_QCD, {"tokens": "active", "attention": "softmax", "mass_head": False}),
    ("image", TOP_QCD, {**R1, "dim": 32, "depth": 1, "heads": 2}),
    ("tokens", TOP_QCD, {"tokens": "active", "pool": "cls"}),
    ("image", Grid(2, 21, 33, 4, 8), {"tokens": "active", "attention": "additive"}),
], ids=str)
def test_every_kind_of_model_and_input_by_the_exporter_for_old_releases(
        tmp_path, kind, grid, settings):
    path = export.export(graph(kind, grid, **settings), tmp_path / "m.onnx", opset=15)
    assert "opset 15, IR 8" in export.check(path)[0]


def test_the_rival_is_exported_from_its_image(tmp_path):
    path = export.export(export.Graph(ResNet15(8, 4), TOP_QCD, "active", "image"),
                         tmp_path / "r.onnx", opset=15)
    assert [o.name for o in export.OnnxModel(path).session.get_outputs()] == ["score", "mass"]


def test_dense_encoding_is_that_of_the_sparse_images_to_the_bit():
    for jets in export.examples(TOP_QCD, "frame"):
        images = jets.dense(slice(None))
        flat = np.flatnonzero(images)
        wanted = np.zeros(images.shape, np.float32)
        where, levels = encode_cms8(flat, images.numpy().ravel()[flat])
        wanted.ravel()[where] = levels
        assert np.array_equal(export.encode_dense(images).numpy(), wanted)


def test_many_patches_do_not_take_their_square_for_a_whole_batch():
    wide = Grid(1, 320, 320, 5, 5)  # 4,096 patches
    tokens = [jets.batch(slice(None), "active").tokens for jets in export.examples(wide, "tokens")]
    assert sorted(map(len, tokens)) == [1, 1, 1, 2, 3, 7]
    assert max(t.valid.shape[1] for t in tokens) == wide.patches  # one image, filled
    assert max(len(t) * t.valid.shape[1] ** 2 for t in tokens) <= wide.patches**2
    for jets in export.examples(TOP_QCD, "image"):  # the grid of the course: anywhere
        held = jets.batch(slice(None), "active").tokens.position
        assert len(jets) < 3 or held.max() == TOP_QCD.patches - 1


def test_packed_images_are_the_tokens_of_their_hits():
    for keep in ("active", "two_scale", "all"):
        for jets in export.examples(TOP_QCD, "image"):
            made = export.packed(jets.dense(slice(None)), TOP_QCD, keep)
            tokens = jets.batch(slice(None), keep).tokens
            assert torch.equal(made.valid.sum(1), tokens.valid.sum(1))
            assert torch.equal(made.position[made.valid], tokens.position[tokens.valid])
            assert torch.equal(made.features[made.valid], tokens.features[tokens.valid])


def broken(path, kind=TensorProto.FLOAT, batch="batch", out=("batch", 2)):
    """An ONNX file of somebody else: the largest value of an image, twice."""
    node = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["float"], ["score"], axes=[1, 2, 3] if len(out) < 2
                             else [2, 3], keepdims=0)]
    made = helper.make_model(helper.make_graph(
        node, "g", [helper.make_tensor_value_info("image", kind, [batch, 2, 9, 9])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, out)]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(made, path)
    return path


def test_check_takes_the_file_of_anyone_and_says_what_is_wrong_with_it(tmp_path):
    assert "opset 13, IR 7" in export.check(broken(tmp_path / "good.onnx"))[0]
    for wrong, settings in (("no float32", dict(kind=TensorProto.DOUBLE)),
                            ("batch first", dict(batch=1, out=(1, 2))),
                            ("another dimension", dict(out=("batch",)))):
        with pytest.raises(ValueError, match=wrong):
            export.check(broken(tmp_path / "wrong.onnx", **settings))
    (tmp_path / "none.onnx").write_text("no graph")
    with pytest.raises(ValueError, match="cannot read"):
        export.check(tmp_path / "none.onnx")


def test_8_bit_weights_are_smaller_and_nearly_agree(tmp_path):
    made = graph(dim=64, depth=2)
    path = export.export(made, tmp_path / "m.onnx", opset=15)
    small = export.quantized(path, tmp_path / "small.onnx")
    assert small.stat().st_size < 0.8 * path.stat().st_size
    jets = next(export.examples(TOP_QCD, "image"))
    inputs = export.feed(made, jets.hits([0]))
    score, mass = export.OnnxModel(path)(inputs)
    assert np.allclose(export.OnnxModel(small)(inputs)[0], score, atol=0.05)
    assert mass.shape == (1, 1)


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use image or tokens"):
        graph("frame", QUARK_GLUON)
    with pytest.raises(ValueError, match="opset 12"):
        export.export(graph(), tmp_path / "m.onnx", opset=12)
    with pytest.raises(ValueError, match="two_scale"):
        export.export(graph(grid=Grid(2, 21, 33, 4, 8)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_exports_weights_and_checks_the_file_against_them(tmp_path, capsys):
    made = graph()
    made.model.save_pretrained(tmp_path / "weights")
    path = str(tmp_path / "m.onnx")
    weights = str(tmp_path / "weights")
    assert commands.main(["export", weights, path, "--opset", "15", "--target", "pt"]) == 0
    assert commands.main(["export", "--check", path]) == 0
    assert commands.main(["export", weights, "--check", path]) == 0
    assert "agrees with weights" in capsys.readouterr().out
    assert [o.name for o in export.OnnxModel(path).session.get_outputs()] == ["score", "pt"]
    torch.nn.init.normal_(made.model.class_head.weight)
    made.model.save_pretrained(tmp_path / "weights")
    assert commands.main(["export", weights, "--check", path]) == 2
    assert commands.main(["export", weights]) == 2


def test_8_bit_frames_are_measured_on_jets_in_gev_or_not_written(tmp_path, packed, capsys):
    graph().model.save_pretrained(tmp_path / "weights")
    command = ["export", str(tmp_path / "weights"), str(tmp_path / "m.onnx"), "--int8", "--opset",
               "15", "--file", str(packed)]
    assert commands.main(command) == 2
    assert "--input image" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()
    assert commands.main([*command, "--input", "image"]) == 0
    assert "8-bit minus float, mass_mae" in capsys.readouterr().out
