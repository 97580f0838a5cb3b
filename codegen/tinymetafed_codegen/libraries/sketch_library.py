"""Renders an experiment's firmware as an Arduino and PlatformIO library for a sketch of the user's own: all files as text."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import emit, included, rendering
from ..board import board_key
from ..board.board_facts import Board
from ..design import Design
from ..errors import UsageError
from ..locate import find
from ..ops import own_op
from ..options import sample_source
from ..protocol import Phase

NAME = "TinyMetaFed"
_SOURCES = "src/tinymetafed"  # Arduino compiles all below src/
_OWN = f"{_SOURCES}/own"  # files of the user's
_MODEL = f"{_SOURCES}/model"  # generated files
KEY_HEADER = f"{_MODEL}/{board_key.HEADER}"
_FORCED = f"{_SOURCES}/settings.h"
_INCLUDE = re.compile(r'(^[ \t]*#[ \t]*include[ \t]*|\b__has_include\()(?:"([^"\n]+)"|<([^>\n]+)>)', re.MULTILINE)


class LibraryError(UsageError):
    """The board cannot have a library for sketches; wrong usage."""


@dataclass(frozen=True)
class SketchLibrary:
    """What a library is rendered from.

    Attributes:
        design: The model on its board.
        phases: What the board trains when it adapts by itself.
        step_milliseconds: Lowest and highest estimate of the longest training step; None where the board has no figures.
        command: The command that writes it.
        version: Version of this package.
        key: The board's key that is compiled in; None if there is none.
    """

    design: Design
    phases: Sequence[Phase] = field(repr=False)
    step_milliseconds: tuple[float, float] | None
    command: str
    version: str
    key: bytes | None = field(default=None, repr=False)


def require_sketches(board: Board, known: Sequence[Board]) -> None:
    """Raises LibraryError unless sketches run on the board; ``known`` are the boards that the error can name."""
    if board.main == "sketch":
        return
    others = ", ".join(sorted(each.name for each in known if each.main == "sketch"))
    raise LibraryError(f"--library: {board.name} has no Arduino core, so no sketch runs on it; choose one of {others}")


def render(library: SketchLibrary) -> dict[str, str]:
    """All files of a library, by path within its folder.

    Raises:
        SpecError: The numbers of the normalisation are not measured yet, or the user's sample source cannot be used.
        OSError: A source cannot be read.
    """
    design = library.design.reading_floats()  # a sketch gives its samples as floats
    facts = {
        "name": NAME,
        "command": library.command,
        "version": library.version,
        "library_version": ".".join([*re.findall(r"\d+", library.version.partition("+")[0]), "0", "0", "0"][:3]),
        "layers": " -> ".join(call.op.name for call in design.graph.forward),
        "experiment": Path(design.source).name,
        "board": design.board.name,
        "board_title": design.board.title,
        "model_hash": design.manifest.model_hash,
        "ram_static": f"{design.manifest.memory.ram_static:,}",
        "receive_window": design.manifest.receive_window,
        "step": "" if library.step_milliseconds is None else "{:.2g} to {:.2g} ms".format(*library.step_milliseconds),
        "makes_samples": not design.manifest.streamed,
        "takes_label": design.graph.labels > 0,
        "features": design.graph.input.size,
    }
    texts = {
        "src/tinymetafed.h": rendering.render("sketch_library.h.j2", **facts),
        _FORCED: rendering.render("sketch_settings.h.j2", **facts),
        "examples/Federated/Federated.ino": rendering.render("sketch_federated.ino.j2", **facts),
        "README.md": rendering.render("sketch_library_readme.md.j2", **facts),
        "library.properties": rendering.render("sketch_library.properties.j2", **facts),
        "library.json": json.dumps(_platformio(library, str(facts["library_version"])), indent=2) + "\n",
        "manifest.json": json.dumps(design.manifest.as_json(), indent=1) + "\n",
    }
    generated = emit.headers(design, library.command, library.phases, key=library.key)
    return texts | _sources(design, generated, library.command)


def _platformio(library: SketchLibrary, version: str) -> dict[str, object]:
    """The content of library.json. Its flags apply to the library's sources, not to the sketch."""
    return {
        "name": NAME,
        "version": version,
        "description": f"Takes part in the federation of {Path(library.design.source).name}, predicts and learns",
        "keywords": "tinyml, federated learning, training",
        "frameworks": ["arduino"],
        "platforms": "*",
        "headers": "tinymetafed.h",
        "build": {
            "flags": ["-std=gnu++17", "-ffp-contract=off"],
            "unflags": ["-std=gnu++11", "-std=gnu++14", "-std=c++11", "-std=c++14"],
        },
    }


def _sources(design: Design, generated: Mapping[str, str], command: str) -> dict[str, str]:
    """The firmware's sources and all that they include, each include rewritten as a path from the file that has it.

    A sketch and its other libraries are compiled with one include path; so none of our short names may stand on it.
    """
    board, firmware = design.board, find("firmware")
    own = sample_source.own_source(design.experiment)
    made = dict(generated)
    if own is not None:
        made["own_source.hpp"] = emit.own_source_header(own.as_posix(), sample_source.digest(own), command)
    ports = {port: board.port_folder(port) for port in board.ports}
    path = [folder for folder in ports.values() if (folder / "kernels").is_dir()]
    path += [firmware / "core", firmware / "app", firmware / "port" / "arduino"]
    places = _places(design, firmware, ports)

    def place(file: Path | str) -> str:
        return f"{_MODEL}/{file}" if isinstance(file, str) else places(file)

    def resolve(name: str, quoted: bool, folder: Path | None) -> Path | str | None:
        if quoted and folder is not None and (folder / name).is_file():  # also an absolute path
            return (folder / name).resolve()
        if name in made:
            return name
        return next(((each / name).resolve() for each in path if (each / name).is_file()), None)

    has_store = design.manifest.store is not None
    todo: list[Path | str] = sorted((firmware / "core").glob("*.cpp"))
    todo += sorted((firmware / "core" / "store").glob("*.cpp")) if has_store else []
    port_files = [file for folder in ports.values() for file in sorted(folder.glob("*.cpp"))]
    needed = {"storage.cpp": has_store, "measures.cpp": design.experiment.board.measures}  # other files of a port always are
    todo += [file for file in port_files if needed.get(file.name, True)]
    if design.manifest.sensor is not None:
        todo.append(firmware / "app" / f"sensor_{'replayed' if design.manifest.sensor.replayed else 'own'}.cpp")
    todo += [firmware / "app" / "tinymetafed.h", firmware / "app" / f"source_{design.manifest.sample_source}.cpp"]
    if "arduino" in board.ports:  # for a sketch that includes them
        todo += [firmware / "port" / "arduino" / name for name in ("tcp_line.hpp", "mqtt_line.hpp")]
    texts: dict[str, str] = {}
    for file in todo:  # the loop itself appends to the list
        at = place(file)
        text = made[file] if isinstance(file, str) else file.read_text(encoding="utf-8")
        folder = None if isinstance(file, str) else file.parent

        def rewritten(found: re.Match[str], at: str = at, folder: Path | None = folder) -> str:
            target = resolve(found[2] or found[3], found[2] is not None, folder)
            if target is None:
                return found[0]  # of the compiler or the Arduino core
            if target not in todo:
                todo.append(target)
            return f'{found[1]}"{posixpath.relpath(place(target), posixpath.dirname(at))}"'

        text = _INCLUDE.sub(rewritten, text)
        if at.endswith(sample_source.CPP_SUFFIXES):
            text = f'#include "{posixpath.relpath(_FORCED, posixpath.dirname(at))}"\n{text}'
        texts[at] = text
    return texts


def _places(design: Design, firmware: Path, ports: Mapping[str, Path]) -> _Places:
    """Where sources go: as in firmware/, ports of the user's project beside ours, other files of the user's below own/."""
    ours = [(firmware.resolve(), _SOURCES)]
    theirs = [(folder.resolve(), f"{_SOURCES}/port/{port}") for port, folder in ports.items()]
    sensor = design.experiment.board.sensor
    own_files = (sample_source.own_source(design.experiment), None if sensor is None else Path(sensor))
    roots = [own for own in own_files if own is not None]
    roots += [file for call in design.graph.forward if (file := own_op.header(type(call.op))) is not None]
    for number, root in enumerate(dict.fromkeys(roots)):
        files = included.with_included(root)
        parents = {str(file.parent) for file in files}
        theirs.append((Path(posixpath.commonpath(parents)), f"{_OWN}/{number}"))
    return _Places((*theirs, *ours))


@dataclass(frozen=True)
class _Places:
    """Pairs of a folder and its place in the library; the first that has a file counts."""

    folders: tuple[tuple[Path, str], ...]

    def __call__(self, file: Path) -> str:
        """The place of a file; the user's own sources are included by ours, so Arduino must not compile them by themselves.

        Raises LibraryError for a file that no source may include.
        """
        for folder, place in self.folders:
            if file.resolve().is_relative_to(folder):
                included = place.startswith(_OWN) and file.suffix in sample_source.CPP_SUFFIXES
                return f"{place}/{file.resolve().relative_to(folder).as_posix()}{'.inc' if included else ''}"
        raise LibraryError(f"{file}: lies outside of the firmware and of the user's own source; include it from there")
