"""Which models are run, and one of them by all engines."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from bench.models import random_inputs
from bench.problem_models import make_model
from bench.problems import parse
from bench.whole_models import chosen, compare, model_file, model_names
from tilewise.cli.race import Pace

KNOWN = ["light/vgg19", "shared/mobilenetv2", "torch/lenet", "torch/mobilenetv2"]


def test_names(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    names = model_names(tmp_path)
    assert "light/resnet50" in names
    assert names[-1] == "torch/net"
    assert model_file("torch/net", tmp_path, tmp_path) == tmp_path / "net.onnx"
    assert model_file("torch/none", tmp_path, tmp_path) is None


def test_choosing() -> None:
    assert chosen([], KNOWN) == KNOWN
    assert chosen(["mobilenetv2"], KNOWN) == ["shared/mobilenetv2", "torch/mobilenetv2"]
    assert chosen(["torch/lenet", "light/vgg19"], KNOWN) == ["light/vgg19", "torch/lenet"]
    with pytest.raises(ValueError, match="no model vgg, there are: light/vgg19"):
        chosen(["vgg"], KNOWN)


@pytest.mark.parametrize("absent", [(), ("openvino",), ("onnxruntime", "openvino")])
def test_compare_with_the_peers_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    peers = ["onnxruntime", "openvino"]
    for name in peers:
        if name in absent:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            pytest.importorskip(name)
    path = tmp_path / "net.onnx"
    onnx.save(make_model(parse("conv n1g1c3o4_ih8oh8kh3sh1dh1ph1_iw8ow8kw3sw1dw1pw1"))[0], path)
    result = compare("torch/net", path, 1, Pace(rounds=2, warm_up=0.0, warm_up_runs=1))
    assert list(result.times) == ["tilewise", *(p for p in peers if p not in absent)]
    assert all(time > 0 for time in result.times.values())
    assert all(gap < 1e-4 for gap in result.differences.values())
    assert (result.name, result.group, result.threads) == ("torch/net", "torch", 1)
    told = capsys.readouterr().err
    assert all(f"without {name}: {name} is not installed" in told for name in absent)


def test_exported_networks_run(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from bench.export import export
    from bench.nets import NETS
    from tests.models.oracle import assert_agree, run_onnxruntime
    from tilewise import load

    path = tmp_path / "lenet.onnx"
    export(NETS["lenet"], path, 0)
    feeds = random_inputs(onnx.load(path))
    assert_agree(load(path).run(feeds), run_onnxruntime(path.read_bytes(), feeds))
