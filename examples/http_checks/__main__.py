"""`python -m examples.http_checks`: ask services how they are, and file one incident about those that are not well."""

from __future__ import annotations

from typing import Any

from examples.http_checks.services import services
from stabilize_nb import Engine, Flow, QueueProcessorConfig

SERVICES = ["users", "search", "mail", "billing"]


def checks(base: str) -> Flow:
    """Return the flow that asks the services at an address."""
    flow = Flow("checks")
    flow.http(
        base + "/health/{service}",
        name="health",
        each="services",
        retry=3,
        continue_on_failure=True,
        allow_private_urls=True,
    )

    @flow.stage
    def review(health: list[dict[str, Any]], services: list[str]) -> dict[str, Any]:
        found = {name: answer["status_code"] for name, answer in zip(services, health, strict=True)}
        unwell = [name for name, status in found.items() if status != 200]
        return {"found": found, "unwell": len(unwell), "incident": {"about": unwell}}

    flow.http(
        base + "/incidents",
        name="filed",
        method="POST",
        json="{incident}",
        parse_json=True,
        after=review,
        when="unwell > 0",
        retry=3,
        retry_non_idempotent=True,
        allow_private_urls=True,
    )
    return flow


def main() -> None:
    """Run the checks, and tell what was asked and what came of it."""
    with services() as server, Engine(":memory:", config=QueueProcessorConfig(task_output="keep")) as engine:
        run = engine.start(checks(server.url), services=SERVICES)
        run.wait(timeout=60)
        for name, status in run.outputs["review"]["found"].items():
            print(f"{name:8} {status}  requests: {server.asked[f'/health/{name}']}")
        print(f"{server.asked['/incidents']} requests have filed {len(server.incidents)} incident:")
        print(run.outputs["filed"]["body_json"])


if __name__ == "__main__":
    main()
