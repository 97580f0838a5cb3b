"""PlatformIO script of real boards: before an upload, checks that the port has a board of this kind."""

import os
from fnmatch import fnmatch
from pathlib import Path

from serial.tools import list_ports

Import("env")  # SCons puts it, and `env`, into this script's namespace


def trouble(name, manifest, ids, given, ports):
    """Checks the port for an upload.

    Args:
        name: The board's name.
        manifest: The name of its JSON file.
        ids: The (USB vendor id, product id) pairs that the board may have.
        given: The port or pattern that the user has given; may be empty.
        ports: All serial ports, as pyserial lists them.

    Returns:
        Why nothing can be uploaded and what to do; empty if the given port, or the only fitting one, may have the board.
    """
    there = ", ".join(f"{port.device} ({port.description}, {ids_of(port)})" for port in ports) or "none"
    fitting = [port.device for port in ports if (port.vid, port.pid) in ids]
    looks = f"ports that may have one: {', '.join(fitting)}" if fitting else f"no port has one; ports: {there}"
    if given and not set(given) & set("*?["):
        chosen = next((port for port in ports if port.device in (given, os.path.realpath(given))), None)
        if chosen is None:
            return f"{given}: no such port; {looks}"
        if chosen.device in fitting:
            return ""
        remedy = f"if it is a {name} with other ids, add them to hwids in {manifest}"
        return f"{given}: {chosen.description} ({ids_of(chosen)}) is not a known {name}; {looks}; {remedy}"
    fitting = [device for device in fitting if fnmatch(device, given or "*")]
    if not fitting:
        return f"no {name} is attached; {looks}; connect it with a cable that carries data, or reset it"
    if len(fitting) > 1:
        return f"several ports may have a {name}: {', '.join(fitting)}; choose one with --upload-port"
    return ""


def ids_of(port):
    return "no USB ids" if port.vid is None else f"{port.vid:04x}:{port.pid:04x}"


def check_port(target, source, env):
    board = env.BoardConfig()
    if env.subst("$UPLOAD_PROTOCOL") != board.get("upload.protocol"):
        return None  # the user uploads by a debug probe or the network
    ids = {tuple(int(number, 16) for number in pair) for pair in board.get("build.hwids", [])}
    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    why = trouble(board.id, Path(board.manifest_path).name, ids, env.subst("$UPLOAD_PORT"), ports)
    if why:
        print(f"Error: {why}")
    return int(bool(why))


env.AddPreAction("upload", env.VerboseAction(check_port, "Checking the upload port..."))
