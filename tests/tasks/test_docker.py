"""DockerTask against a stand-in of the engine's API (docker_api.py): outputs, limits, adoption, refusals."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest

from stabilize_nb import Engine, Flow, TaskRegistry
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.tasks.docker import DockerTask
from stabilize_nb.tasks.docker_order import CALL_LABEL
from tests.makers import stage, workflow
from tests.tasks.commands import begun, carried_out, engine_with, wait_for
from tests.tasks.docker_api import Container, DockerApi

if TYPE_CHECKING:
    from collections.abc import Iterator

S = WorkflowStatus
ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[DockerApi]:
    """A container engine that runs nothing of the machine."""
    made = DockerApi(tmp_path)
    yield made
    made.close()


@pytest.fixture
def engine(api: DockerApi) -> Iterator[Engine]:
    """An engine whose docker task may do nothing special."""
    with engine_with(docker=DockerTask(base_url=api.url)) as made:
        yield made


def run_in(engine: Engine, **context: Any) -> Any:
    """Run a container of the small image and return the stage."""
    return carried_out(engine, "docker", **{"image": "tools", **context})


def left(api: DockerApi) -> list[str]:
    return [each.name for each in api.engine.containers.values()]


# -- what comes of a container ------------------------------------------------------------------------


def test_outputs_of_a_container(engine, api):
    """Both streams, the code and the ids; the container is gone afterwards."""
    done = run_in(engine, command=["count", "2"])

    container = done.outputs.pop("container_id")
    assert done.status is S.SUCCEEDED, done.error
    assert len(container) == 64
    assert done.outputs == {
        "stdout": "line 0\nline 1", "stderr": "warning 0\nwarning 1", "exit_code": 0, "image_id": "sha256:tools",
    }  # fmt: skip
    assert left(api) == []


def test_container_that_fails(engine):
    """Another code than 0 fails the stage, with what was said last; `continue_on_failure` goes on, with the outputs."""
    failed = run_in(engine, command=["complain", "no ink", "3"])
    tolerated = run_in(engine, command=["complain", "no ink", "3"], continue_on_failure=True)
    eaten = run_in(engine, command="eat")

    assert failed.status is S.TERMINAL
    assert failed.error == "stage 'it': the container ended with code 3: no ink"
    assert failed.context["stderr"] == "no ink"
    assert tolerated.status is S.FAILED_CONTINUE
    assert tolerated.outputs["exit_code"] == 3
    assert "ran out of memory" in eaten.error


def test_prints_are_in_the_log_while_it_runs(engine, api, tmp_path):
    """Lines of a container stand in the stage's log as they come, of both streams."""
    run = begun(engine, "docker", image="tools", command=["until", str(tmp_path / "go")])

    wait_for(lambda: "waiting" in str(run.log("it")))
    assert run.status is S.RUNNING
    (tmp_path / "go").touch()
    run.wait(20)

    assert "done" in str(run.log("it"))


def test_image_is_fetched_when_it_is_missing(engine, api):
    """An image that the engine does not have is pulled, with progress; `pull="never"` fails instead."""
    told: list[Any] = []
    unsubscribe = engine.database.bus.subscribe("pulls", lambda event: told.append(event.data))

    done = run_in(engine, image="big", command="echo hi")
    never = run_in(engine, image="other", command="echo hi", pull="never")
    nowhere = run_in(engine, image="other:1.2", command="echo hi")

    assert unsubscribe is None
    assert done.outputs["stdout"] == "hi"
    assert any("pulling: 100 of 200 bytes" in str(each) for each in told)
    assert "image 'other' is not there; pull='missing'" in never.error
    assert "image 'other:1.2' could not be pulled: manifest for other:1.2 not found" in nowhere.error


def test_settings_reach_the_engine(api, tmp_path):
    """What a stage asks for is what the engine is told; ports are those of 127.0.0.1, no privilege is gained."""
    task = DockerTask(base_url=api.url, allow=["capabilities"], folders=[str(tmp_path)])
    with engine_with(docker=task) as engine:
        done = run_in(
            engine, command="env", entrypoint=[], user="1000", workdir="/w", memory="64m", cpus=1.5,
            environment={"A": "b c", "N": 3}, cap_add=["NET_ADMIN"], cap_drop=["ALL"], read_only=True, network="none",
            ports={"80/tcp": 8080}, labels={"team": "x"}, volumes={str(tmp_path): {"bind": "/in", "mode": "ro"}},
            gpus="all",
        )  # fmt: skip

    (sent,) = api.engine.sent
    host = sent["HostConfig"]
    assert done.outputs["stdout"] == "A=b c\nN=3"
    assert (sent["User"], sent["WorkingDir"], sent["Labels"]["team"]) == ("1000", "/w", "x")
    assert (host["Memory"], host["NanoCpus"], host["ReadonlyRootfs"]) == (64 * 2**20, 1_500_000_000, True)
    assert (host["CapAdd"], host["CapDrop"], host["NetworkMode"]) == (["NET_ADMIN"], ["ALL"], "none")
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host.get("Privileged")
    assert host["Mounts"][0]["Source"] == str(tmp_path)
    assert host["Mounts"][0]["ReadOnly"] is True
    assert host["DeviceRequests"][0]["Count"] == -1


def test_values_are_arguments(engine):
    """`{key}` is one argument whatever it holds, also where the command is one text."""
    value = "a b; $(touch x) `id` 'q' \" | & \n c"

    assert run_in(engine, command=["echo", "{v}"], v=value).outputs["stdout"] == value
    assert run_in(engine, command='echo "{v}" x', v=value).outputs["stdout"] == f"{value} x"


def test_only_the_stage_itself_says_what_runs(api, tmp_path):
    """An output of an earlier stage is a value, and never an option: it adds no entrypoint, variable or permission."""
    given = {"entrypoint": ["hang"], "environment": {"X": "1"}, "user": "0", "network": "host", "word": "hello"}
    registry = TaskRegistry()
    registry.register("docker", DockerTask(base_url=api.url))
    registry.register("give", lambda: given)
    own = {"image": "tools", "command": ["echo", "{word}"], "environment": {"WORD": "{word}", "TEXT": "a {word}"}}
    with Engine(":memory:", registry=registry) as engine:
        run = engine.start(workflow(stage("a", task="give"), stage("b", "a", task="docker", context=own)))
        run.wait(20)

        assert run.outputs["b"]["stdout"] == "hello"
    (sent,) = api.engine.sent
    assert sent["Env"] == ["WORD=hello", "TEXT=a {word}"]
    assert not sent.get("Entrypoint")
    assert not sent.get("User")


def test_task_of_a_flow(api):
    """Options stand at the task; what stands in braces is an input or a stage that it follows."""
    flow = Flow("said")

    @flow.stage
    def word() -> str:
        return "hello"

    flow.task(DockerTask(base_url=api.url, image="tools", command=["echo", "{word}", "{who}"]), "say")
    with Engine(":memory:") as engine:
        run = engine.start(flow, who="ann")
        run.wait(20)

        assert run.outputs["say"]["stdout"] == "hello ann"


def test_what_is_printed_is_capped_and_masked(engine):
    """No more than `max_output_size` is kept, and values of `secrets` are stars in outputs and log."""
    capped = run_in(engine, command=["count", "50"], max_output_size=12)
    masked = run_in(engine, command="env", environment={"KEY": "hunter22"}, secrets=["KEY"])

    assert capped.outputs["stdout"] == "line 0\nline"
    assert masked.outputs["stdout"] == "KEY=***"


# -- the end of a container ---------------------------------------------------------------------------


def test_time_is_up(engine, api):
    """A container that takes too long is killed and removed, and the stage says so and has what was printed."""
    done = run_in(engine, command=["hang", "on"], timeout=0.3)

    assert done.status is S.TERMINAL
    assert done.error == "stage 'it': run timed out after 0.3 s"
    assert done.context["stdout"] == "hanging on"
    assert left(api) == []


def test_cancelled_run_leaves_no_container(engine, api):
    """Who cancels a run ends its container."""
    run = begun(engine, "docker", image="tools", command="hang")
    wait_for(lambda: left(api) and "hanging" in str(run.log("it")))

    run.cancel()

    wait_for(lambda: not left(api))


def test_container_that_was_removed_by_somebody(engine, api):
    """A container that is taken away while it runs fails the stage with a sentence."""
    run = begun(engine, "docker", image="tools", command="hang")
    wait_for(lambda: "hanging" in str(run.log("it")))

    container = next(iter(api.engine.containers.values()))
    api.engine.containers.clear()
    container.kill()
    run.wait(20)

    assert "was removed before its end, by somebody else" in run.workflow.stages[0].error


def test_detached_container_goes_on(engine, api):
    """`detach` ends the stage when the container has begun."""
    done = run_in(engine, command="hang", detach=True, name="server")

    assert done.status is S.SUCCEEDED, done.error
    assert (left(api), done.outputs["exit_code"]) == (["server"], None)
    assert run_in(engine, action="stop", name="server").status is S.SUCCEEDED
    assert run_in(engine, action="logs", name="server").outputs["stdout"] == "hanging"
    assert run_in(engine, action="rm", name="server").status is S.SUCCEEDED
    assert left(api) == []


# -- one container for one call -----------------------------------------------------------------------


CHILD = """
import sys
from stabilize_nb import Engine, TaskRegistry
from stabilize_nb.tasks.docker import DockerTask
from tests.tasks.commands import begun

url, database, file = sys.argv[1:]
registry = TaskRegistry()
registry.register("docker", DockerTask(base_url=url))
with Engine(database, registry=registry) as engine:
    run = begun(engine, "docker", image="tools", command=["until", file])
    print(run.id, flush=True)
    run.wait(60)
"""


def test_container_is_taken_up_after_a_death(api, tmp_path):
    """When the process is killed that waits for a container, the next one takes it up: started once, heard whole."""
    go, database = tmp_path / "go", tmp_path / "runs.db"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, api.url, str(database), str(go)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with child:
        run_id = child.stdout.readline().strip()
        container = wait_for(lambda: next((each for each in api.engine.containers.values() if each.printed), None))
        child.kill()
    registry = TaskRegistry()
    registry.register("docker", DockerTask(base_url=api.url))
    with Engine(database, registry=registry) as engine:
        (run,) = engine.resume(run_id)
        wait_for(lambda: f"took up container {container.name}, which is running" in str(run.log("it")))
        go.touch()
        run.wait(20)

        assert run.status is S.SUCCEEDED, run.error
        assert run.outputs["it"]["stdout"] == "waiting\ndone"
    assert container.starts == 1
    assert len(api.engine.sent) == 1
    assert left(api) == []


@pytest.mark.parametrize("status", ["created", "exited"])
def test_container_of_this_call_is_found_in_any_state(api, status):
    """What an earlier attempt made is started if it was not, and asked for its end if it has ended."""
    task = DockerTask(base_url=api.url)
    with engine_with(docker=task) as engine:
        api.engine.fails = 10**6
        run = begun(engine, "docker", image="tools", command=["echo", "hi"])
        wait_for(lambda: "task.retried" in set(run.events["type"]))
        made = planted(run, status)
        api.engine.containers[made.id] = made
        api.engine.fails = 0
        run.wait(20)

        assert run.status is S.SUCCEEDED, run.error
        assert run.outputs["it"]["stdout"] == "hi"
        assert run.outputs["it"]["container_id"] == made.id
    assert api.engine.sent == []


def planted(run: Any, status: str) -> Container:
    """Return the container that a call of this run would have made."""
    task = run.workflow.stages[0].tasks[0]
    call = f"{task.id}:0:0"
    name = f"stabilize-nb-{hashlib.blake2b(call.encode(), digest_size=10).hexdigest()}"
    made = Container(name, {"Image": "tools", "Cmd": ["echo", "hi"], "Labels": {CALL_LABEL: call}})
    if status == "exited":
        made.start()
        wait_for(lambda: made.status == "exited")
    return made


def test_log_that_breaks_off_is_taken_up_again(engine, api, tmp_path):
    """A connection that ends before the container is no end: the same container is waited for."""
    run = begun(engine, "docker", image="tools", command=["until", str(tmp_path / "go")])
    wait_for(lambda: "waiting" in str(run.log("it")))

    api.engine.cut.set()
    container = next(iter(api.engine.containers.values()))
    with container.changed:
        container.changed.notify_all()
    wait_for(lambda: "task.retried" in set(run.events["type"]))
    api.engine.cut.clear()
    (tmp_path / "go").touch()
    run.wait(20)

    assert run.status is S.SUCCEEDED, run.error
    assert run.outputs["it"]["stdout"] == "waiting\ndone"
    assert container.starts == 1


def test_name_of_somebody_elses_container(engine, api):
    """A container of that name which this stage has not started is left alone."""
    other = Container("db", {"Image": "tools", "Cmd": ["hang"]})
    api.engine.containers[other.id] = other

    done = run_in(engine, command="echo hi", name="db")

    assert "container 'db' is there already and was not started by this stage" in done.error
    assert left(api) == ["db"]


def test_no_engine():
    """Where no engine answers the stage fails at once, with what to do."""
    with engine_with(docker=DockerTask(base_url="tcp://127.0.0.1:1")) as engine:
        done = run_in(engine, command="echo hi")

    assert done.status is S.TERMINAL
    assert "no container engine answers at tcp://127.0.0.1:1: start it" in done.error
    assert "DOCKER_HOST" in done.error


# -- other actions ------------------------------------------------------------------------------------


def test_command_in_a_container(engine, api):
    """`exec` runs a command in a container that a stage has started."""
    run_in(engine, command="hang", detach=True, name="server")

    done = run_in(engine, action="exec", name="server", command=["echo", "{v}"], v="a b")
    failed = run_in(engine, action="exec", name="server", command=["complain", "no", "4"])

    assert done.outputs["stdout"] == "a b"
    assert failed.error == "stage 'it': the command ended with code 4: no"


def test_image_is_built(api, tmp_path):
    """`build` sends a folder, logs the steps and gives the id of the image."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM tools")
    (folder / "Broken").write_text("broken")
    with engine_with(docker=DockerTask(base_url=api.url, folders=[str(folder)])) as engine:
        done = carried_out(engine, "docker", action="build", path=str(folder), image="mine:1")
        broken = carried_out(engine, "docker", action="build", path=str(folder), dockerfile="Broken")
        outside = carried_out(engine, "docker", action="build", path=str(tmp_path))
        beside = carried_out(engine, "docker", action="build", path=str(folder), dockerfile="../secret")

    assert done.outputs["image_id"] == "sha256:built"
    assert "Step 1 : FROM tools" in done.outputs["stdout"]
    assert "Dockerfile" in api.engine.built
    assert "could not be built: the command returned" in broken.error
    assert "which is not allowed" in outside.error
    assert "a file inside of 'path' is expected" in beside.error


def test_lists(engine, api):
    """`ps` lists what stages have started, `images` what is there, `pull` fetches."""
    other = Container("db", {"Image": "tools", "Cmd": ["hang"]})
    api.engine.containers[other.id] = other
    run_in(engine, command="hang", detach=True, name="server")

    assert '"name": "server"' in run_in(engine, action="ps").outputs["stdout"]
    assert '"name": "db"' not in run_in(engine, action="ps").outputs["stdout"]
    assert "tools:latest" in run_in(engine, action="images").outputs["stdout"]
    assert run_in(engine, action="pull", image="big").outputs["image_id"] == "sha256:big"


# -- what is refused ----------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged=True, which is not allowed"),
    ({"cap_add": ["SYS_ADMIN"]}, "cap_add=['SYS_ADMIN'], which is not allowed"),
    ({"network": "host"}, "network='host', which is not allowed"),
    ({"network": "container:db"}, "network='container:db', which is not allowed"),
    ({"ports": {"80": "0.0.0.0:80"}}, "the port '0.0.0.0:80', which is not allowed"),
    ({"ports": {"80": ":::80"}}, "which is not allowed"),
    ({"volumes": {"/": "/host"}}, "the folder '/', which is not allowed (allowed: none)"),
    ({"volumes": {"/var/run/docker.sock": "/s"}}, "which is not allowed"),
    ({"volumes": {"./../..": {"bind": "/x"}}}, "which is not allowed"),
    ({"volumes": {"data": "/d"}}, "the volume 'data', which is not allowed"),
    ({"volumes": {"data": "d"}}, "is expected"),
    ({"volumes": ["/:/host"]}, "a mapping is expected"),
    ({"image": "--privileged"}, "the reference of an image is expected"),
    ({"image": "a b"}, "the reference of an image is expected"),
    ({"image": "tools\n"}, "the reference of an image is expected"),
    ({"image": None}, "No 'image' specified"),
    ({"name": "-x"}, "letters, digits"),
    ({"name": "a/b"}, "letters, digits"),
    ({"command": ["sh", "-c", "echo {v}"], "v": "x; id"}, "in code behind '-c'"),
    ({"command": "bash -ec 'echo {v}'", "v": "x; id"}, "in code behind '-ec'"),
    ({"entrypoint": ["sh", "-c"], "command": ["echo {v}"], "v": "x"}, "in code behind '-c'"),
    ({"command": ["echo", "{v}"], "v": "--rm"}, "begins with '-'"),
    ({"command": "echo 'x"}, "its quotes do not match"),
    ({"command": {"a": 1}}, "a list of texts is expected"),
    ({"action": "commit"}, "one of run, exec"),
    ({"pull": "often"}, "one of missing"),
    ({"memory": "lots"}, "'512m'"),
    ({"cpus": -1}, "a number above 0"),
    ({"user": "-u"}, "does not begin with '-'"),
    ({"labels": {CALL_LABEL: "x"}}, "the engine's own"),
    ({"environment": {"A=B": "x"}}, "no name of a variable"),
    ({"timeout": 0}, "seconds above 0"),
]


@pytest.mark.parametrize(("context", "sentence"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_is_not_allowed_is_refused(engine, api, context, sentence):
    """What would reach the machine, and what is no sensible value, is refused before the engine hears of it."""
    done = run_in(engine, **{"command": "echo hi", **context})

    assert done.status is S.TERMINAL
    assert sentence in done.error
    assert api.engine.sent == []
    assert left(api) == []


@pytest.mark.parametrize(
    ("allow", "context"),
    [
        ("privileged", {"privileged": True}),
        ("host_network", {"network": "host"}),
        ("public_ports", {"ports": {"80/tcp": "0.0.0.0:80"}}),
        ("volumes", {"volumes": {"data": "/d"}}),
    ],
    ids=str,
)
def test_what_is_allowed_is_done(api, allow, context):
    """Whoever registers the task may allow it, in words."""
    with engine_with(docker=DockerTask(base_url=api.url, allow=[allow])) as engine:
        assert run_in(engine, command="echo hi", **context).status is S.SUCCEEDED


def test_containers_of_others_are_left_alone(engine, api):
    """exec, logs, stop and rm are for containers that a stage has started."""
    other = Container("db", {"Image": "tools", "Cmd": ["hang"]})
    api.engine.containers[other.id] = other

    for action in ("exec", "logs", "stop", "rm"):
        done = run_in(engine, action=action, name="db", command="echo hi")
        assert "the container 'db', which is not allowed" in done.error
    assert left(api) == ["db"]


def test_links_do_not_lead_out_of_a_folder(api, tmp_path):
    """A folder is where its links lead."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "out").symlink_to("/etc")
    with engine_with(docker=DockerTask(base_url=api.url, folders=[str(inside)])) as engine:
        done = run_in(engine, command="echo hi", volumes={str(inside / "out"): "/in"})

    assert "which is not allowed" in done.error


def test_unknown_permission():
    """A word that allows nothing is refused where it is written."""
    with pytest.raises(ConfigError, match="cannot allow 'everything'; known are privileged"):
        DockerTask(allow=["everything"])


HOSTILE = [
    f"{before}{core}{after}"
    for core in ("; touch CANARY", "$(touch CANARY)", "`touch CANARY`", "| touch CANARY", "& touch CANARY", "> CANARY",
                 "\ntouch CANARY\n", "--volume=/:/host", "-v/:/host", '{"Privileged": true}', "../../CANARY",
                 "/../containers/create?name=CANARY", "%2e%2e%2fCANARY", "?force=1#CANARY", "\r\nX-Canary: 1\r\n\r\n")
    for before, after in (("", ""), ("x", ""), ("'", "'"), ('x "', '" x'))
]  # fmt: skip


@pytest.mark.parametrize("key", ["image", "name", "user", "workdir", "network", "platform"])
def test_hostile_values_do_nothing(engine, api, tmp_path, monkeypatch, key):
    """60 hostile values under a key: no file, no other request, no privilege; each is refused or one plain value."""
    monkeypatch.chdir(tmp_path)
    for text in HOSTILE:
        run_in(engine, **{"command": ["echo", "hi"], key: text})
    check_nothing_was_done(api, tmp_path)


def test_hostile_words_and_variables_do_nothing(engine, api, tmp_path, monkeypatch):
    """60 hostile values as words of a command and as variables arrive as they are."""
    monkeypatch.chdir(tmp_path)
    values = {f"v{at}": text for at, text in enumerate(HOSTILE)}
    command = ["echo", "--", *(f"{{{name}}}" for name in values)]
    done = run_in(engine, command=command, environment=values, **values)

    assert done.outputs["stdout"] == " ".join(["--", *HOSTILE]).strip()
    assert set(api.engine.sent[0]["Env"]) >= {f"{name}={text}" for name, text in values.items()}
    check_nothing_was_done(api, tmp_path)


def check_nothing_was_done(api: DockerApi, folder: Path) -> None:
    assert not (folder / "CANARY").exists()
    assert left(api) == []
    assert {request.split("/")[1] for request in api.engine.asked} <= {"version", "containers", "images"}
    for sent in api.engine.sent:
        assert not sent["HostConfig"].get("Privileged")
        assert not sent["HostConfig"].get("Binds")
        assert not sent["HostConfig"].get("Mounts")


def test_many_containers_at_once(api):
    """Twenty containers are waited for at once by two workers."""
    with engine_with(docker=DockerTask(base_url=api.url)) as engine:
        runs = [begun(engine, "docker", image="tools", command=["hang"], timeout=2) for _ in range(20)]
        wait_for(lambda: sum(each.status == "running" for each in api.engine.containers.values()) == 20)
        for container in [*api.engine.containers.values()]:
            threading.Thread(target=container.kill).start()
        for run in runs:
            run.wait(20)
    assert left(api) == []


# -- a real engine, where there is one ------------------------------------------------------------------


def real_engines() -> list[str]:
    """Return the engines that answer here: one or none."""
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").is_socket():
        return []
    try:
        client = docker.APIClient(timeout=5, **docker.utils.kwargs_from_env())
        client.ping()
        client.close()
    except docker.errors.DockerException:
        return []
    return ["the engine of this machine"]


REAL = real_engines()

if REAL:

    @pytest.mark.parametrize("where", REAL)
    def test_real_engine(where):
        """What the stand-in is asked a real engine does: prints of both streams, code, time limit, nothing left."""
        with engine_with(docker=DockerTask()) as engine:
            done = carried_out(
                engine, "docker", image="alpine:3.22", command=["sh", "-c", "echo one; echo two >&2; exit 3"],
                continue_on_failure=True,
            )  # fmt: skip
            late = carried_out(engine, "docker", image="alpine:3.22", command=["sleep", "60"], timeout=2)

        assert (done.outputs["stdout"], done.outputs["stderr"], done.outputs["exit_code"]) == ("one", "two", 3)
        assert "timed out after 2 s" in late.error
