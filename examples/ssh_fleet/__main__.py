"""`python -m examples.ssh_fleet HOST...`: a release for each host that answers, one at a time."""

from __future__ import annotations

import getpass
from typing import Any

import click

from stabilize_nb import Engine, Flow, QueueProcessorConfig, SSHTask

Outputs = dict[str, Any]

LOOK = "mkdir -p {folder} && cd {folder} && cat release 2>/dev/null || echo nothing"
#: The file is there whole or not at all, so that a connection that is lost in the middle leaves the old one.
INSTALL = "cd {folder} && printf '%s\\n' {release} > release.new && mv release.new release && cat release"


def fleet(**login: Any) -> Flow:
    """Return the flow; `login`: how a host is reached, as SSHTask takes it."""
    flow = Flow("fleet", description="A release for each host that answers")
    look = SSHTask(host="{machine}", command=LOOK, continue_on_failure=True, **login)
    flow.task(look, "look", each="machines", as_="machine")

    @flow.stage
    def answered(look: list[Outputs], machines: list[str]) -> dict[str, Any]:
        found = {machine: outputs.get("stdout") for machine, outputs in zip(machines, look, strict=True)}
        return {"had": found, "there": [machine for machine, release in found.items() if release is not None]}

    install = SSHTask(host="{machine}", command=INSTALL, restart_on_failure=True, **login)
    flow.task(install, "install", each="there", as_="machine", after=answered, mutex="rollout", retry=2)

    @flow.stage
    def report(install: list[Outputs], there: list[str], machines: list[str], had: Outputs) -> list[str]:
        has = {machine: outputs["stdout"] for machine, outputs in zip(there, install, strict=True)}
        return [
            f"{machine}: had {had[machine]}, has {has[machine]}" if machine in has else f"{machine}: no answer"
            for machine in machines
        ]

    return flow


@click.command()
@click.argument("machines", nargs=-1, required=True, metavar="HOST...")
@click.option("--release", default="7", show_default=True, help="What is written there.")
@click.option("--folder", default=".cache/ssh_fleet", show_default=True, help="Where, below the home of the user.")
@click.option("--user", default=getpass.getuser, help="Who logs in; you, if it is not said.")
@click.option("--port", default=22, show_default=True)
@click.option("--key", help="The file of a key; those of your agent and of ~/.ssh, if it is not said.")
@click.option("--known-hosts", help="The file of the hosts that are known; ~/.ssh/known_hosts, if it is not said.")
def main(
    machines: tuple[str, ...], release: str, folder: str, user: str, port: int, key: str | None, known_hosts: str | None
) -> None:
    """Write a release into a folder of each HOST that answers."""
    files = {"key_file": key, "known_hosts": known_hosts}
    flow = fleet(user=user, port=port, **{name: path for name, path in files.items() if path})
    with Engine(":memory:", config=QueueProcessorConfig(task_output="keep")) as engine:
        run = engine.start(flow, machines=[*machines], release=release, folder=folder)
        print("\n".join(run.result(timeout=300)))


if __name__ == "__main__":
    main()
