"""Where workers come from: Parsl's executors and providers for an ``[execution]`` table."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from metamd.config import Execution
from metamd.errors import InputError
from metamd.programs import thread_settings

#: Labels of the two pools of workers; the second exists where there are GPUs.
CPU, GPU = "metamd", "metamd-gpu"
_PROVIDERS = {
    "slurm": "SlurmProvider",
    "pbs": "PBSProProvider",
    "lsf": "LSFProvider",
    "kubernetes": "KubernetesProvider",
}
_SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
#: Seconds that Parsl gets to end its processes; Ctrl-C is to take less than ten.
STOP_S = 8.0
#: Jobs in a row that die before a worker calls: then the set-up is wrong, not the weather.
FAILED_JOBS = 3
#: Seconds between looks at a local pool, and how long one of its processes may be missing.
_LOOK_S, MISSING_S = 2.0, 30.0


def workers_per_node(config: Execution) -> int | None:
    """Tasks at a time on a node; None: as many as a compute node has cores for."""
    if config.workers is not None or config.kind != "local":
        return config.workers
    return max(1, _cores() // config.threads)


def _cores() -> int:
    """Cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0))


def check_execution(config: Execution) -> None:
    """Refuse options that Parsl's provider does not know, before anything is submitted.

    Raises:
        InputError: names the key.
    """
    if config.kind == "local":
        return
    command = _SUBMIT.get(config.kind)
    if command is not None and shutil.which(command) is None:
        raise InputError(
            f'execution.kind = "{config.kind}": there is no {command} command on this machine.'
        )
    cls = _provider_class(config.kind)
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "launcher"}
    for table, options in (("provider", config.provider), ("gpu_provider", config.gpu_provider)):
        for key in options:
            if key not in known:
                raise InputError(
                    f"execution.{table}.{key}: {cls.__name__} of Parsl has no such option; it "
                    f"has {', '.join(sorted(known))}."
                )
    try:
        _provider(config, {})
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f'execution.provider: kind = "{config.kind}" refuses these options ({error}).'
        ) from error


class Kernel:
    """A Parsl kernel of our own; nothing global is touched but the children's environment."""

    def __init__(self, config: Execution, run_dir: Path) -> None:
        import parsl

        executors = [_executor(config, CPU)]
        if config.gpus:
            executors.append(_executor(config, GPU))
        self.parsl = parsl.DataFlowKernel(
            parsl.Config(
                executors=executors,
                run_dir=str(run_dir),
                initialize_logging=False,
                strategy="simple",
                strategy_period=1,
                exit_mode="cleanup",
            )
        )
        self._pools = [_LocalPool(e) for e in executors] if config.kind == "local" else []

    def submit(self, function: Callable[..., Any], arguments: Sequence[Any], gpu: bool) -> Any:
        """The future of a call in a worker."""
        return self.parsl.submit(
            function,
            app_args=tuple(arguments),
            executors=[GPU if gpu else CPU],
            cache=False,
            ignore_for_cache=(),
            app_kwargs={},
        )

    def lives(self) -> bool:
        """Whether the processes that hand tasks on are there."""
        return not self._cut_off() and all(pool.whole() for pool in self._pools)

    def _cut_off(self) -> bool:
        processes = [getattr(e, "interchange_proc", None) for e in self.parsl.executors.values()]
        return any(p is not None and p.poll() is not None for p in processes)

    def stop(self) -> None:
        """End the kernel and its jobs; never hangs, whatever state Parsl is in.

        Parsl asks its interchange about workers before it cancels their jobs, and waits for an
        answer for ever.
        """
        if self._cut_off():
            for executor in self.parsl.executors.values():
                if hasattr(executor, "command_client"):
                    executor.command_client.ok = False
                if jobs := list(getattr(executor, "blocks_to_job_id", {}).values()):
                    with contextlib.suppress(Exception):
                        executor.provider.cancel(jobs)

        def clean() -> None:
            with contextlib.suppress(Exception):
                self.parsl.cleanup()

        thread = threading.Thread(target=clean, daemon=True, name="metamd-stop-parsl")
        thread.start()
        thread.join(STOP_S)


class _LocalPool:
    """Notices that a pool on this machine has lost a process for good.

    Parsl replaces a worker that died, but not the process that its pool keeps its books in: without
    it the workers end one by one, and tasks wait for ever.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._most = 0
        self._next_look = self._whole_at = time.monotonic()

    def whole(self) -> bool:
        """False when processes have been missing for longer than a new worker takes to start."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_S
            count = self._processes()
            self._most = max(self._most, count)
            if count >= self._most:
                self._whole_at = now
        return now - self._whole_at < MISSING_S

    def _processes(self) -> int:
        """Workers and the keeper of the books; children of Parsl's process_worker_pool."""
        count = 0
        for job in list(self._executor.blocks_to_job_id.values()):
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(int(job)).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if "process_worker_pool" in " ".join(process.cmdline()[:2]):
                            below = [" ".join(child.cmdline()) for child in process.children()]
                            count += sum("spawn_main" in words for words in below)
        return count


def _executor(config: Execution, label: str) -> Any:
    from parsl.executors import HighThroughputExecutor
    from parsl.jobs.error_handlers import windowed_error_handler

    local = config.kind == "local"
    on_gpu = label == GPU
    return HighThroughputExecutor(
        label=label,
        address="127.0.0.1" if local else config.address,
        # More threads than there are cores leave Parsl no worker at all, and nothing would happen.
        cores_per_worker=min(config.threads, _cores()) if local else config.threads,
        max_workers_per_node=config.gpus if on_gpu else workers_per_node(config),
        available_accelerators=config.gpus if on_gpu else (),
        interchange_launch_cmd=[sys.executable, "-m", "metamd.interchange"],
        heartbeat_period=2 if local else 5,
        heartbeat_threshold=20 if local else 40,
        # On one machine nothing leaves the loopback; on a network workers must prove themselves.
        encrypted=not local,
        block_error_handler=functools.partial(windowed_error_handler, threshold=FAILED_JOBS),
        provider=_provider(config, config.gpu_provider if on_gpu else {}),
    )


def _provider(config: Execution, other: dict[str, Any]) -> Any:
    lines = [f"export {k}={v}" for k, v in thread_settings(config.threads).items()]
    # In front of what the person's lines make of these: a module's program must stay there.
    prefix = Path(sys.prefix)
    lines += [
        f'export PATH={shlex.quote(str(prefix / "bin"))}:"$PATH"',
        f"export LD_LIBRARY_PATH={shlex.quote(str(prefix / 'lib'))}"
        '"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"',
    ]
    if config.kind == "local":
        from parsl.providers import LocalProvider

        return LocalProvider(
            init_blocks=1, min_blocks=1, max_blocks=1, worker_init="\n".join(lines)
        )
    options = {**config.provider, **other}
    # The person's own lines (modules, environments) come first, ours make sure of the rest.
    options["worker_init"] = "\n".join([str(options.get("worker_init", "")), *lines])
    launcher = _launcher(config.kind, int(options.get("nodes_per_block", 1)))
    if launcher is not None:
        options["launcher"] = launcher
    return _provider_class(config.kind)(**options)


def _provider_class(kind: str) -> Any:
    """Parsl's provider, asked about its jobs every few seconds: a lost one is replaced soon."""
    import parsl.providers

    cls: Any = getattr(parsl.providers, _PROVIDERS[kind])

    class Attentive(cls):  # type: ignore[misc]
        @property
        def status_polling_interval(self) -> int:
            return 15

    Attentive.__name__ = cls.__name__
    return Attentive


def _launcher(kind: str, nodes: int) -> Any:
    """What starts workers on every node of a job of several."""
    from parsl import launchers

    if nodes == 1 or kind == "kubernetes":
        return None
    by_kind = {"slurm": "SrunLauncher", "pbs": "MpiExecLauncher", "lsf": "JsrunLauncher"}
    return getattr(launchers, by_kind[kind])()
