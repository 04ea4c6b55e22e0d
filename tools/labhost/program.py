# SPDX-License-Identifier: Apache-2.0
"""Build the guest program, and try it to see whether KVM truly works."""

import os
import subprocess
import tempfile
from pathlib import Path

from labhost import terminal
from labhost.failure import LabError
from labhost.layout import ASSETS

SOURCES = ASSETS / "guest"
KVM_TRIAL_S = 5

_COMPILE = (
    *("gcc", "-m32", "-march=i686", "-O2", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pic"),
    *("-fno-stack-protector", "-fcf-protection=none"),
    *("-mgeneral-regs-only", "-Wl,-m,elf_i386", "-Wl,--build-id=none"),
)


def build(target: Path) -> None:
    """Compile the guest program.

    :raises LabError: if the compiler refuses.
    """
    sources = [str(SOURCES / "entry.S"), str(SOURCES / "guest.c")]
    script = f"-Wl,-T,{SOURCES / 'guest.ld'}"
    command = [*_COMPILE, script, "-o", str(target), *sources]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"the guest program: gcc says\n{result.stderr}")


def kvm_works(program: Path) -> bool:
    """Whether the guest program gets anywhere under KVM.

    The device node alone proves nothing: it may be there and fail.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    terminal.say(f"trying KVM (at most {KVM_TRIAL_S} s)")
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "kvm"),
        *("-cpu", "host", "-m", "32", "-nodefaults", "-display", "none"),
        *("-kernel", str(program), "-serial", "stdio"),
    ]
    with tempfile.TemporaryFile() as output:
        _run_for_a_while(command, output.fileno())
        output.seek(0)
        return b"ok 100" in output.read()


def _run_for_a_while(command: list[str], output: int) -> None:
    """Run a command for as long as the trial may take, then end it."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait(KVM_TRIAL_S)
        except subprocess.TimeoutExpired:
            process.kill()
