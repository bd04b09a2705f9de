"""A real Slurm on this machine alone: munged, slurmctld and slurmd on loopback, as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")


def missing() -> str:
    """Why no Slurm can be started here; empty where it can."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lost = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lost:
        return f"Slurm is not installed ({', '.join(lost)}); apt-get install slurm-wlm munge"
    return "" if os.getuid() == 0 else "slurmd needs root"


def _port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


_CONF = """
ClusterName=here
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
MinJobAge=300
KillWait=2
InactiveLimit=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """The running daemons; ``env`` is what commands need to reach them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, *words: str) -> str:
        """Run a Slurm command; its output."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def start(self, name: str, *words: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        self._daemons[name] = subprocess.Popen(
            [shutil.which(name, path=self.env["PATH"]) or name, *words],
            env=self.env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )

    def stop(self, name: str) -> None:
        process = self._daemons.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_control(self) -> None:
        self.start("slurmctld", "-D")

    def wait_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while "idle" not in self.command("sinfo", "-h", "-o", "%T"):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)

    def logs(self) -> str:
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
            for path in self.folder.glob("*.[lo][ou][gt]")
        )

    def jobs(self) -> list[str]:
        """Ids of the jobs in the queue."""
        return self.command("squeue", "-h", "-o", "%i").split()


@contextmanager
def slurm(folder: Path, cpus: int) -> Iterator[Slurm]:
    """A Slurm with one node of this machine; everything ends with the block."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "slurm.conf").write_text(
        _CONF.format(folder=folder, control=_port(), daemon=_port(), cpus=cpus)
    )
    here = Slurm(folder)
    try:
        here.start(
            "munged", "-F", "--force", f"--socket={folder}/munge.socket",
            f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log",
        )  # fmt: skip
        time.sleep(0.5)
        here.start_control()
        here.start("slurmd", "-D", "-N", "localhost")
        here.wait_ready()
        yield here
    finally:
        for job in here.jobs() if "slurmctld" in here._daemons else []:
            here.command("scancel", job)
        for name in ("slurmd", "slurmctld", "munged"):
            here.stop(name)
