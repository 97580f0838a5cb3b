"""The images' build, carried out in folders that debootstrap makes: each step succeeds, and boards train in what comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from dockerfile import build

from tinymetafed_codegen.locate import root

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
TRUSTED = "/etc/machine.crt"  # those of this machine, in the image; installing ca-certificates writes the usual file anew
# As a build is told of the machine's proxy and its certificate.
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
MACHINE = {name: os.environ[name] for name in PROXIES if name in os.environ} | {"PIP_CERT": TRUSTED, "PIP_TIMEOUT": "180"}

pytestmark = pytest.mark.xdist_group("chroot")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what debian:bookworm-slim has: the required packages and the three sources of the release."""
    if os.geteuid() != 0:
        pytest.skip("only root can build a root folder")
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not installed: apt-get install debootstrap")
    if not CERTIFICATES.is_file():
        pytest.skip(f"{CERTIFICATES} is missing: apt-get install ca-certificates")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False).returncode != 0:
        pytest.skip("no mounts of its own for a process here: unshare is refused")
    folder = tmp_path_factory.mktemp("debian") / "bookworm"
    # Its mount of /proc ends with it, however it ends: who removes the folder later must not find the machine's in it.
    words = ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", folder]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"debootstrap cannot fetch Debian's packages: {made.stdout[-300:]}")
    sources = folder / "etc/apt/sources.list"
    mirror = sources.read_text(encoding="ascii").split()[1]
    suites = ((mirror, "bookworm"), (mirror, "bookworm-updates"), (f"{mirror}-security", "bookworm-security"))
    sources.write_text("".join(f"deb {place} {suite} main\n" for place, suite in suites), encoding="ascii")
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    shutil.copy(CERTIFICATES, folder / TRUSTED.lstrip("/"))
    return folder


def test_the_image_is_built_and_boards_train_in_it(debian: Path, tmp_path: Path) -> None:
    for step, stage, said in build(root() / "Dockerfile", root(), debian, tmp_path, MACHINE):
        if step.name == "RUN" and "doctor" in step.rest:
            assert "✓ │ g++ " in said and "✓ │ qemu-system-arm " in said
        last, command = stage, step
    assert command.name == "CMD" and last.user != "root" and not any((last.folder / "setup").glob("*"))
    trained = last.run("tinymetafed demo --rounds 20 --out run && tinymetafed report run")
    assert trained.returncode == 0, trained.stderr
    assert (last.folder / "work/run/report.html").is_file()
    assert (last.folder / "work/run").stat().st_uid != 0


def test_the_image_of_the_development_container_is_built(debian: Path, tmp_path: Path) -> None:
    for _, stage, _ in build(root() / ".devcontainer/Dockerfile", root(), debian, tmp_path, MACHINE):
        last = stage
    found = last.run("git --version && make --version && sudo --non-interactive true && arm-none-eabi-g++ --version")
    assert found.returncode == 0, found.stderr
