"""Profiles in the form of Chrome's trace events, as ONNX Runtime writes them."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from tilewise.ort.providers import CPU
from tilewise.plan.plan import StepInfo

MAX_EVENTS = 1_000_000


class Profile:
    """Collects the events of a session; runs may end in any thread."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.start_ns = time.monotonic_ns()
        self.events: list[dict[str, Any]] = []

    def add_run(self, began_ns: int, ended_ns: int, steps: list[tuple[StepInfo, int]]) -> None:
        """One run, in times of `time.monotonic_ns`, and its kernel steps, which are placed one after another."""
        if len(self.events) + len(steps) >= MAX_EVENTS:
            return
        found = [self._event("Session", "model_run", began_ns, ended_ns - began_ns)]
        at = began_ns
        for step, spent in steps:
            args = {"op_name": step.op_type, "provider": CPU, "kernel": step.kernel, "tasks": step.tasks}
            found.append(self._event("Node", f"{step.node}_kernel_time", at, spent, args))
            at += spent
        self.events += found

    def write(self) -> str:
        """The path of the file with all events so far."""
        path = (
            f"{self.prefix}_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{time.monotonic_ns() % 1_000_000:06d}.json"
        )
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.events, file)
        return path

    def _event(
        self, category: str, name: str, began_ns: int, spent_ns: int, args: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            "cat": category,
            "pid": os.getpid(),
            "tid": threading.get_native_id(),
            "ts": (began_ns - self.start_ns) // 1000,
            "dur": spent_ns // 1000,
            "ph": "X",
            "name": name,
            "args": args or {},
        }
