"""Where workers come from: Parsl's executors and providers for an ``[execution]`` table."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from metamd.config import Execution
from metamd.errors import InputError
from metamd.programs import program_environment, thread_settings

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


def workers_per_node(config: Execution) -> int | None:
    """Tasks at a time on a node; None: as many as a compute node has cores for."""
    if config.workers is not None or config.kind != "local":
        return config.workers
    return max(1, len(os.sched_getaffinity(0)) // config.threads)


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


def start_kernel(config: Execution, run_dir: Path) -> Any:
    """A Parsl kernel of our own; nothing global is touched but the children's environment."""
    import parsl

    executors = [_executor(config, CPU)]
    if config.gpus:
        executors.append(_executor(config, GPU))
    return parsl.DataFlowKernel(
        parsl.Config(
            executors=executors,
            run_dir=str(run_dir),
            initialize_logging=False,
            strategy="simple",
            strategy_period=1,
            exit_mode="cleanup",
        )
    )


def kernel_lives(kernel: Any) -> bool:
    """Whether the processes between the kernel and its workers are there."""
    for executor in kernel.executors.values():
        process = getattr(executor, "interchange_proc", None)
        if process is not None and process.poll() is not None:
            return False
    return True


def stop_kernel(kernel: Any) -> None:
    """End a kernel and its jobs; never hangs, whatever state Parsl is in.

    Parsl asks its interchange about workers before it cancels their jobs, and waits for an answer
    for ever.
    """
    if not kernel_lives(kernel):
        for executor in kernel.executors.values():
            if hasattr(executor, "command_client"):
                executor.command_client.ok = False
            if jobs := list(getattr(executor, "blocks_to_job_id", {}).values()):
                with contextlib.suppress(Exception):
                    executor.provider.cancel(jobs)

    def clean() -> None:
        with contextlib.suppress(Exception):
            kernel.cleanup()

    thread = threading.Thread(target=clean, daemon=True, name="metamd-stop-parsl")
    thread.start()
    thread.join(STOP_S)


def _executor(config: Execution, label: str) -> Any:
    from parsl.executors import HighThroughputExecutor
    from parsl.jobs.error_handlers import windowed_error_handler

    local = config.kind == "local"
    on_gpu = label == GPU
    return HighThroughputExecutor(
        label=label,
        address="127.0.0.1" if local else config.address,
        cores_per_worker=config.threads,
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
    settings = program_environment(config.threads)
    lines += [f"export {k}='{settings[k]}'" for k in ("PATH", "LD_LIBRARY_PATH")]
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
