"""The command that lends this machine's boards to runs elsewhere: gateway; and the options by which train reaches gateways."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tinymetafed as tmf

from .options import DataOption, DeviceOption, ExperimentArgument, SetOption

SuperlinkOption = Annotated[
    str | None,
    typer.Option(help="Flower's SuperLink, HOST:PORT, over which gateways with boards are reached, instead of --device."),
]
GatewaysOption = Annotated[int | None, typer.Option(help="Gateways to wait for before the first round.", show_default="1")]
CertificatesOption = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of the authority that signed the SuperLink's certificate.", show_default="authorities of the system"
    ),
]
SecretOption = Annotated[
    Path | None, typer.Option(help="The file that the SuperLink has as --superexec-auth-secret-file, if it has one.")
]


def gateway(
    experiment: ExperimentArgument,
    superlink: Annotated[str, typer.Option(help="Flower's SuperLink, HOST:PORT.")],
    device: DeviceOption = None,
    name: Annotated[
        str | None, typer.Option(help="The gateway's name in reports and errors.", show_default="this machine's")
    ] = None,
    root_certificates: CertificatesOption = None,
    node_key: Annotated[
        Path | None,
        typer.Option(help="File with this gateway's private key, where the SuperLink takes only registered gateways."),
    ] = None,
    data: DataOption = None,
    set_: SetOption = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Faults on the lines of the devices: flip=0.01,delay=20ms. May be given several times."),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="File to record these lines in, for `monitor`.")] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Accept a SuperLink without TLS, and lines as `train --insecure` does: anybody on the network may then answer "
            "in place of a board or the server.",
        ),
    ] = False,
) -> None:
    """Lend this machine's boards, until Ctrl-C, to runs of an experiment that `train --superlink` begins on another machine.

    tinymetafed gateway examples/sine.toml --device native:8 --superlink 127.0.0.1:8000 --insecure --name lab-1
    """
    tmf.gateway(
        tmf.load(experiment, set_ or ()),
        device or tmf.DEFAULT_DEVICES,
        superlink=superlink,
        name=name,
        root_certificates=root_certificates,
        node_key=node_key,
        data=data,
        fault=",".join(fault or ()),
        record=record,
        insecure=insecure,
    )


def gateways_of(
    superlink: str | None,
    count: int | None,
    root_certificates: Path | None,
    server_secret: Path | None,
    insecure: bool,
    local: dict[str, bool],
) -> tmf.Gateways | None:
    """The gateways that train is to use; None for devices of this machine.

    Args:
        superlink: The SuperLink, if it is given.
        count: Number of gateways, if it is given.
        root_certificates: PEM file, if it is given.
        server_secret: File with the SuperLink's secret, if it is given.
        insecure: Whether the SuperLink has no TLS.
        local: Options that are about lines of this machine, and whether each is given.

    Raises:
        UsageError: Options contradict each other.
    """
    behind = {"--gateways": count, "--root-certificates": root_certificates, "--server-secret": server_secret}
    if superlink is None:
        if lone := [option for option, value in behind.items() if value is not None]:
            raise tmf.UsageError(f"{lone[0]} is for runs behind gateways; give --superlink HOST:PORT too")
        return None
    if wrong := [option for option, given in local.items() if given]:
        raise tmf.UsageError(
            f"{wrong[0]} is for boards of this machine; give it to `tinymetafed gateway`, or leave --superlink out"
        )
    return tmf.Gateways(superlink, 1 if count is None else count, root_certificates, server_secret, insecure)


def words_of(gateways: tmf.Gateways | None) -> list[str]:
    """The options that ``gateways`` came from, without --insecure."""
    if gateways is None:
        return []
    words = ["--superlink", gateways.superlink, "--gateways", str(gateways.count)]
    words += ["--root-certificates", str(gateways.root_certificates)] if gateways.root_certificates else []
    return words + (["--server-secret", str(gateways.server_secret)] if gateways.server_secret else [])
