"""Programs of Linux that take serial ports from boards: brltty and ModemManager, whether they are there and what to do."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_UNITS = "etc/systemd/system"
_OWN_RULES = "etc/udev/rules.d"
_RULES = ("usr/lib/udev/rules.d", "lib/udev/rules.d", _OWN_RULES)
_PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/libexec")


@dataclass(frozen=True)
class PortProgram:
    """A program that takes serial ports: what it ``does`` to them; ``running`` or only installed; ``kept_off`` by a rule."""

    name: str
    does: str
    remedy: str
    running: bool
    kept_off: bool


def port_programs(root: Path = Path("/")) -> list[PortProgram]:
    """The programs that may take a board's port on this machine; none where they are masked. ``root``: of its files."""
    found = []
    if _is_running(root, "brltty") or _brltty_rules(root):
        found.append(
            PortProgram(
                "brltty",
                "takes USB bridges (CP2102, CH340, FT232) for braille displays: a board's port vanishes soon after plugging in",
                "`sudo apt remove brltty`, then plug the board in again; to keep it for a braille display: "
                f"`sudo ln -s /dev/null /{_OWN_RULES}/{next(iter(_brltty_rules(root)), '85-brltty.rules')}`",
                _is_running(root, "brltty"),
                kept_off=False,
            )
        )
    name = "ModemManager"
    masked = (root / _UNITS / f"{name}.service").is_symlink()
    if _is_running(root, name) or (_is_installed(root, name) and not masked):
        found.append(
            PortProgram(
                name,
                "looks for a modem on each new port, which is then busy for some seconds, and sends its questions to the board",
                f"`sudo systemctl mask --now {name}`; where a modem is used, a udev rule for the board: see docs/boards.md",
                _is_running(root, name),
                kept_off=any("ID_MM_DEVICE_IGNORE" in _text(rule) for rule in (root / _OWN_RULES).glob("*.rules")),
            )
        )
    return found


def _brltty_rules(root: Path) -> dict[str, Path]:
    """brltty's udev rules that are in force, by file name: one in /etc replaces the one of its name, with /dev/null none is."""
    found = {rule.name: rule for folder in _RULES for rule in sorted((root / folder).glob("*brltty*.rules"))}
    return {name: rule for name, rule in found.items() if _text(rule).strip()}


def _is_installed(root: Path, name: str) -> bool:
    return any((root / folder / name).exists() for folder in _PROGRAMS) or (
        root == Path("/") and shutil.which(name) is not None
    )


def _is_running(root: Path, name: str) -> bool:
    return any(_text(comm).strip() == name for comm in (root / "proc").glob("[0-9]*/comm"))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a process that has ended, or a file of another user
        return ""
