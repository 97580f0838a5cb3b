"""Logs a run with Weights & Biases: to its server, or into files below the run's folder that `wandb sync` uploads."""

from __future__ import annotations

import netrc
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import wandb

from tinymetafed_codegen.files import replace

from ..runs.run_folder import require_plain
from .csv_tracker import own_folder
from .tracker import TrackedEnd, TrackedRound, TrackedRun

PROJECT = "tinymetafed"  # unless WANDB_PROJECT says otherwise


class WandbTracker:
    """Writes with wandb; RUN/wandb/run.id keeps the id of the run there, so that it is continued."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._run: wandb.Run | None = None

    def start(self, run: TrackedRun) -> int:
        """Begins a run, or continues the one that there is; returns how many rounds it has.

        Files that were not uploaded are written anew for all sessions, because a server takes no more than one of them.
        """
        folder = own_folder(run.folder, "wandb")
        file = folder / "run.id"
        require_plain(file)
        known = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        mode = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")
        if not re.fullmatch(r"[0-9a-z]{8}", known) or (mode == "offline" and _replaced(folder, known)):
            known = secrets.token_hex(4)
            replace(file, f"{known}\n".encode())
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=known,
            name=run.name,
            dir=str(run.folder),
            mode="online" if mode == "online" else "offline" if mode == "offline" else "disabled",
            resume="allow" if mode == "online" else None,
            config=dict(run.parameters),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, save_code=False),
        )
        self._run.define_metric("*", step_metric="round")
        self._run.define_metric("by_bytes/*", step_metric="bytes")
        if mode == "offline" and "WANDB_MODE" not in os.environ:
            self._say(f"--log wandb: not logged in, so the log is written into {folder}; `wandb sync` uploads it")
        return int(self._run.summary.get("round", 0)) if mode == "online" else 0

    def round(self, round: TrackedRound) -> None:
        """Logs the round's numbers, by round and by bytes."""
        assert self._run is not None
        by_bytes = {f"by_bytes/{name}": value for name, value in round.scalars.items()}
        self._run.log({"round": round.round, "bytes": round.bytes, **round.scalars, **by_bytes}, step=round.round)

    def finished(self, end: TrackedEnd) -> None:
        """Logs the test's scores, the report, and how the session ended."""
        assert self._run is not None
        self._run.summary.update(
            {**end.scalars, "metric": end.metric, "state": end.state, "error": end.error, "weights_sha256": end.weights_sha256}
        )
        if end.report is not None:
            report = wandb.Artifact(f"report-{self._run.id}", "report")
            report.add_file(str(end.report))
            self._run.log_artifact(report)
        self._run.finish(exit_code=0 if end.state == "finished" else 1)
        self._run = None

    def close(self) -> None:
        """Ends a run whose end was not seen."""
        if self._run is not None:
            self._run.finish(exit_code=1)


def _is_logged_in() -> bool:
    """Whether there is a key, so that wandb does not ask for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(wandb.setup().settings.base_url).hostname or ""
    file = os.environ.get("NETRC") or str(Path.home() / ("_netrc" if sys.platform == "win32" else ".netrc"))
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _replaced(folder: Path, run_id: str) -> bool:
    """Removes the files of a run that were not uploaded; whether some were, so that the run needs another id."""
    uploaded = False
    for session in folder.glob(f"offline-run-*-{run_id}"):
        if session.is_symlink() or any(session.glob("*.synced")):
            uploaded = True
        else:
            shutil.rmtree(session)
    return uploaded
