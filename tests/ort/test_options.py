"""SessionOptions, RunOptions, enumerations and what is set for the whole process."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest

import tilewise.ort
from tests.ort.models import relu

SESSION_DEFAULTS = {
    "enable_cpu_mem_arena": True,
    "enable_mem_pattern": True,
    "enable_mem_reuse": True,
    "enable_profiling": False,
    "inter_op_num_threads": 0,
    "intra_op_num_threads": 0,
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "optimized_model_filepath": "",
    "profile_file_prefix": "onnxruntime_profile_",
    "use_deterministic_compute": False,
    "use_per_session_threads": True,
}
RUN_DEFAULTS = {
    "log_severity_level": -1,
    "log_verbosity_level": 0,
    "logid": "",
    "only_execute_path_to_fetches": False,
    "terminate": False,
}


def test_defaults(ort) -> None:
    options, run = ort.SessionOptions(), ort.RunOptions()
    assert {name: getattr(options, name) for name in SESSION_DEFAULTS} == SESSION_DEFAULTS
    assert {name: getattr(run, name) for name in RUN_DEFAULTS} == RUN_DEFAULTS
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.execution_order == ort.ExecutionOrder.DEFAULT


def test_every_option_can_be_set(ort) -> None:
    options = ort.SessionOptions()
    for name, value in SESSION_DEFAULTS.items():
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "text"
        setattr(options, name, new)
        assert getattr(options, name) == new
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    options.intra_op_num_threads = np.int64(3)
    assert options.intra_op_num_threads == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intra_op_num_threads", "1"),
        ("intra_op_num_threads", 1.5),
        ("inter_op_num_threads", None),
        ("graph_optimization_level", 99),
        ("graph_optimization_level", "ORT_ENABLE_ALL"),
        ("execution_mode", 1),
        ("logid", 5),
        ("optimized_model_filepath", 5),
        ("enable_profiling", "yes"),
    ],
)
def test_values_of_other_types_are_refused(ort, name: str, value) -> None:
    with pytest.raises(TypeError, match="incompatible function arguments"):
        setattr(ort.SessionOptions(), name, value)


@pytest.mark.parametrize("cls", ["SessionOptions", "RunOptions"])
def test_unknown_attributes_are_refused(ort, cls: str) -> None:
    with pytest.raises(AttributeError, match=f"{cls}' object has no attribute 'threads'"):
        getattr(ort, cls)().threads = 1


@pytest.mark.parametrize(("cls", "what"), [("SessionOptions", "session"), ("RunOptions", "run")])
def test_config_entries(ort, cls: str, what: str) -> None:
    options = getattr(ort, cls)()
    add, get = getattr(options, f"add_{what}_config_entry"), getattr(options, f"get_{what}_config_entry")
    add("a.key", "1")
    add("a.key", "2")
    assert get("a.key") == "2"
    with pytest.raises(RuntimeError, match="does not have configuration with key: other"):
        get("other")
    with pytest.raises(RuntimeError, match="Config key is empty"):
        add("", "1")
    with pytest.raises(TypeError):
        add("a.key", 1)


def test_custom_operators_cannot_be_loaded(ort) -> None:
    state = ort.capi.onnxruntime_pybind11_state
    with pytest.raises((state.Fail, state.NotImplemented), match=r"no-such\.so"):
        ort.SessionOptions().register_custom_ops_library("no-such.so")


def test_enumerations(ort) -> None:
    levels = ort.GraphOptimizationLevel
    assert {name: int(level) for name, level in levels.__members__.items()} == {
        "ORT_DISABLE_ALL": 0,
        "ORT_ENABLE_BASIC": 1,
        "ORT_ENABLE_EXTENDED": 2,
        "ORT_ENABLE_LAYOUT": 3,
        "ORT_ENABLE_ALL": 99,
    }
    assert levels(99) == levels.ORT_ENABLE_ALL
    assert (levels.ORT_ENABLE_ALL.name, levels.ORT_ENABLE_ALL.value) == ("ORT_ENABLE_ALL", 99)
    assert str(levels.ORT_ENABLE_ALL) == "GraphOptimizationLevel.ORT_ENABLE_ALL"
    assert [int(mode) for mode in ort.ExecutionMode.__members__.values()] == [0, 1]
    assert [int(order) for order in ort.ExecutionOrder.__members__.values()] == [0, 1, 2]


def test_the_module(ort) -> None:
    assert ort.get_device() == "CPU"
    assert "CPUExecutionProvider" in ort.get_available_providers()
    assert {"CPUExecutionProvider", "CUDAExecutionProvider"} <= set(ort.get_all_providers())
    assert tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 20)
    assert ort.get_version_string() == ort.__version__
    assert ort.get_build_info()
    ort.disable_telemetry_events()
    ort.enable_telemetry_events()
    ort.set_default_logger_verbosity(0)


def test_logger_severity(ort) -> None:
    ort.set_default_logger_severity(4)
    with pytest.raises(RuntimeError, match="Invalid logging severity"):
        ort.set_default_logger_severity(9)
    with pytest.raises(TypeError):
        ort.set_default_logger_severity("4")


def test_our_severity_is_a_logger_level() -> None:
    logger = logging.getLogger("tilewise")
    before = logger.level
    try:
        tilewise.ort.set_default_logger_severity(3)
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)


def test_names_by_other_paths(ort) -> None:
    capi = ort.capi
    assert capi._pybind_state.SessionOptions is ort.SessionOptions
    assert capi.onnxruntime_pybind11_state.RunOptions is ort.RunOptions
    assert capi.onnxruntime_inference_collection.InferenceSession is ort.InferenceSession
    assert "CPUExecutionProvider" in capi._pybind_state.get_available_providers()


def test_ours_copy_and_pickle() -> None:
    options = tilewise.ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("a", "b")
    for other in (copy.deepcopy(options), pickle.loads(pickle.dumps(options)), options.copy()):
        assert (other.intra_op_num_threads, other.get_session_config_entry("a")) == (2, "b")
        other.intra_op_num_threads = 1
        assert options.intra_op_num_threads == 2


def test_our_sessions_pickle() -> None:
    options = tilewise.ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = tilewise.ort.InferenceSession(relu(), options)
    x = np.arange(-6, 6, dtype=np.float32).reshape(1, 3, 4)
    session.run(None, {"x": x})
    other = pickle.loads(pickle.dumps(session))
    assert other.get_session_options().intra_op_num_threads == 1
    np.testing.assert_array_equal(other.run(None, {"x": x})[0], np.maximum(x, 0))
