"""PlatformIO script of real boards: before an upload it looks whether the port really has such a board on it."""

import os
from fnmatch import fnmatch
from pathlib import Path

from serial.tools import list_ports

Import("env")  # SCons puts it, and `env`, into this script's namespace


def trouble(name, manifest, ids, given, ports):
    """Why nothing is uploaded, and what to do; empty when `given`, or else the one fitting port, may have the board.

    `ids` are the USB vendor and product ids that board `name`, described in the file `manifest`, may have; `given` is the
    port or pattern that the user wants, if any.
    """
    there = ", ".join(f"{port.device} ({port.description}, {ids_of(port)})" for port in ports) or "none"
    fitting = [port.device for port in ports if (port.vid, port.pid) in ids]
    looks = f"looks like one: {', '.join(fitting)}" if fitting else f"none of the ports looks like one; there are: {there}"
    if given and not set(given) & set("*?["):
        chosen = next((port for port in ports if port.device in (given, os.path.realpath(given))), None)
        if chosen is None:
            return f"{given}: no such port; {looks}"
        if chosen.device in fitting:
            return ""
        remedy = f"if it is a board all the same, add its ids to hwids in {manifest}"
        return f"{given}: {chosen.description} ({ids_of(chosen)}) is no {name}; {looks}; {remedy}"
    fitting = [device for device in fitting if fnmatch(device, given or "*")]
    if not fitting:
        return f"no {name} is attached; {looks}; plug it in with a cable that carries data, or reset it"
    if len(fitting) > 1:
        return f"several ports look like {name}: {', '.join(fitting)}; choose one with --upload-port"
    return ""


def ids_of(port):
    return "no USB ids" if port.vid is None else f"{port.vid:04x}:{port.pid:04x}"


def check_port(target, source, env):
    board = env.BoardConfig()
    if env.subst("$UPLOAD_PROTOCOL") != board.get("upload.protocol"):
        return None  # a debug probe or the network, which the user has chosen
    ids = {tuple(int(number, 16) for number in pair) for pair in board.get("build.hwids", [])}
    ports = sorted(list_ports.comports(), key=lambda port: port.device)
    why = trouble(board.id, Path(board.manifest_path).name, ids, env.subst("$UPLOAD_PORT"), ports)
    if why:
        print(f"Error: {why}")
    return int(bool(why))


env.AddPreAction("upload", env.VerboseAction(check_port, "Looking at the upload port..."))
