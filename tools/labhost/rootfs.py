# SPDX-License-Identifier: Apache-2.0
"""Make a host's file tree from Debian packages, with the mtty drivers."""

import os
import shutil
import subprocess
from pathlib import Path

from labhost import mtty, terminal
from labhost.failure import LabError

SUITE = "trixie"
BASE_PACKAGES = ("dbus", "iproute2", "kmod", "udev")
PACKAGES = (
    *("linux-image-amd64", "linux-headers-amd64", "gcc", "make"),
    *("libvirt-daemon-system", "libvirt-clients", "mdevctl"),
    *("qemu-system-x86", "seabios", "socat"),
    # What nova-compute runs; the libraries of a Python from elsewhere.
    *("e2fsprogs", "genisoimage", "procps", "qemu-utils"),
    *("openssh-client", "openssh-server"),
    *("libbz2-1.0", "libffi8", "liblzma5", "libsqlite3-0", "libssl3t64"),
)
#: Only needed to build the driver, or by nobody here.
DROPPED = (
    *("usr/src", "usr/lib/gcc", "usr/libexec/gcc", "usr/share/doc"),
    *("usr/share/locale", "usr/share/man", "var/cache/apt"),
    *("var/lib/apt/lists", "var/tmp/mtty"),
)
STEP_LIMIT_S = 900

_SETTINGS = {
    # No service starts while packages are being installed.
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",
    "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n",
    "etc/initramfs-tools/conf.d/lab": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/lab": (
        "virtio_pci\nvirtio_blk\next4\n"
    ),
}


def mirror() -> str:
    """Return the Debian mirror this machine's apt uses, or nothing."""
    wanted = "$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", wanted]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    rows = (line.split("|") for line in result.stdout.splitlines())
    return next(
        (uri for origin, component, release, uri in rows
         if (origin, component) == ("Debian", "main") and "-" not in release),
        "",
    )  # fmt: skip


def make(tree: Path, log: Path) -> None:
    """Fill an empty folder.

    :param log: gets the output of all steps.
    :raises LabError: if a step fails.
    """
    _install_base(tree, log)
    _install_packages(tree, log)
    _build_drivers(tree, log)
    for path in DROPPED:
        shutil.rmtree(tree / path, ignore_errors=True)


def kernel_release(tree: Path) -> str:
    """Return the version of the kernel that was installed."""
    return next(iter(sorted(os.listdir(tree / "lib/modules"))))


def _install_base(tree: Path, log: Path) -> None:
    terminal.say(f"installing Debian {SUITE} (log: {log})")
    include = "--include=" + ",".join(BASE_PACKAGES)
    command = ["debootstrap", "--variant=minbase", include, SUITE, str(tree)]
    _run([*command, *filter(None, [mirror()])], log)


def _install_packages(tree: Path, log: Path) -> None:
    terminal.say("installing the kernel, libvirt and QEMU")
    for name, text in _SETTINGS.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree / "usr/sbin/policy-rc.d").chmod(0o755)
    install = "apt-get install --yes --no-install-recommends "
    _run_inside(tree, install + " ".join(PACKAGES), log)


def _build_drivers(tree: Path, log: Path) -> None:
    terminal.say("building the mtty drivers from the kernel's source package")
    release = kernel_release(tree)
    build = tree / "var/tmp/mtty"
    build.mkdir()
    package = mtty.source_package(release)
    _run_inside(tree, f"cd /var/tmp/mtty && apt-get download {package}", log)
    _run(["sh", "-c", mtty.unpacking(build, package)], log)
    modules = mtty.write_sources(build)
    make_it = f"make -C /lib/modules/{release}/build M=/var/tmp/mtty modules"
    _run_inside(tree, make_it, log)
    (tree / "lab").mkdir()
    for module in modules:
        shutil.copy(build / module, tree / "lab" / module)


def _run_inside(tree: Path, script: str, log: Path) -> None:
    """Run a script in the tree, with /proc for as long as it runs."""
    enter = (
        'mount -t proc proc "$0/proc" && '
        'exec chroot "$0" /bin/sh -c "$1"'
    )  # fmt: skip
    shell = ["sh", "-c", enter, str(tree), script]
    _run(["unshare", "--mount", *shell], log)


def _run(command: list[str], log: Path) -> None:
    environment = os.environ | {
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    with log.open("ab") as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=STEP_LIMIT_S,
                check=True,
            )
        except subprocess.SubprocessError as exc:
            raise LabError(f"{exc}; see {log}") from exc
