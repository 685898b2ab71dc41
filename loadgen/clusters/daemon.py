"""The Docker engine as the container and compose providers see it: reached or not, its errors in a person's words.

Everything of a run carries the label ``loadgen.run``; only what carries a run's own label is ever removed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from loadgen.clusters.process import filesystem_of, one_line
from loadgen.errors import ClusterError

RUN_LABEL = "loadgen.run"
LOOPBACK = "127.0.0.1"
LAST_LINES = 4
_KILLED = 137
_LIST = {"all": True}


def docker_client() -> Any:
    """A client of the Docker engine on this machine. Raises ClusterError if there is none, or it does not answer."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as error:
        raise ClusterError("containers need the extra docker: pip install 'loadgen[docker]'") from error
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith(("unix://", "npipe://")) and not re.match(r"tcp://(127\.|localhost|\[::1\])", host):
        raise ClusterError(
            f"DOCKER_HOST={host} is another machine, where servers are published on {LOOPBACK} there only"
        )
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except DockerException as error:
        reason = _reason(error)
        raise ClusterError(
            f"Docker does not answer ({reason}): {_remedy(reason)}, or use --cluster embedded; `loadgen "
            "doctor` shows what else is missing"
        ) from error
    return client


@contextmanager
def docker_errors(doing: str) -> Iterator[None]:
    """Turn the Docker client's errors into ClusterError, with what to do about them."""
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, OSError, TimeoutError, RuntimeError) as error:
        raise ClusterError(f"{doing}: {explained(_reason(error))}") from error


def explained(reason: str) -> str:
    """An error text of Docker with the remedy, where it is a known one."""
    if "port is already allocated" in reason or "address already in use" in reason:
        return f"{reason} (another server has the port: stop it, or choose another port)"
    if "no space left on device" in reason:
        return f"{reason} (`docker system df` shows what fills the disk)"
    return reason


def have_image(client: Any, image: str, variable: str, say: Any) -> str:
    """The image's id, pulling it if it is not here. Raises ClusterError that says how to have it otherwise."""
    from docker.errors import DockerException, ImageNotFound

    try:
        return str(client.images.get(image).id)
    except ImageNotFound:
        say(f"pulling {image}")
    except DockerException as error:
        raise ClusterError(f"image {image}: {_reason(error)}") from error
    try:
        repository, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else (image, "", "latest")
        return str(client.images.pull(repository, tag=tag).id)
    except DockerException as error:
        raise ClusterError(
            f"image {image} is not on this machine and cannot be pulled ({_reason(error)}): name another by "
            f"{variable}, or build one from packages: deploy/images/build.sh"
        ) from error


def why_ended(container: Any, title: str, memory_limit: str) -> str:
    """One line on a container that is not as it should be: its state, its last log lines, its memory if that was it."""
    container.reload()
    state = container.attrs["State"]
    words = last_log_lines(container)
    if state.get("OOMKilled") or (state["Status"] == "exited" and state["ExitCode"] == _KILLED):
        cause = "out of memory" if state.get("OOMKilled") else "killed, most likely out of memory"
        return f"{title} was {cause} (limit {memory_limit}; LOADGEN_MEMORY raises it): {words}"
    if state["Status"] == "exited":
        return f"{title} ended with exit code {state['ExitCode']} while it was starting: {words}"
    return f"{title} is {state['Status']} but not ready: {words}"


def last_log_lines(container: Any) -> str:
    """The last lines that a container wrote, on one line."""
    with suppress(Exception):  # this is for a message about another error
        text = container.logs(tail=LAST_LINES).decode(errors="replace")
        return one_line(text.splitlines())
    return "its log cannot be read"


def of_run(run: str) -> dict[str, Any]:
    """The filter that matches what belongs to ``run``, and nothing else."""
    return {"label": f"{RUN_LABEL}={run}"}


def save_logs(client: Any, run: str, logs: Path) -> None:
    """Write the log of each container of ``run`` to ``logs``; a log that cannot be had is left out."""
    from docker.errors import DockerException

    with suppress(DockerException, OSError):
        for container in client.containers.list(filters=of_run(run), **_LIST):
            with suppress(DockerException, OSError), (logs / f"{container.name}.log").open("wb") as file:
                for part in container.logs(stream=True, follow=False, timestamps=True):
                    file.write(part)


def remove_run(client: Any, run: str) -> None:
    """Remove the containers, with their volumes, the networks and the volumes of ``run``. Idempotent."""
    from docker.errors import APIError, NotFound

    for container in client.containers.list(filters=of_run(run), **_LIST):
        with suppress(NotFound):
            try:
                container.remove(force=True, v=True)
            except APIError as error:
                if error.status_code != 409:  # somebody else is removing it
                    raise
    for network in client.networks.list(filters=of_run(run)):
        with suppress(NotFound):
            network.remove()
    for volume in client.volumes.list(filters=of_run(run)):
        with suppress(NotFound):
            volume.remove(force=True)


def engine_facts(client: Any) -> dict[str, Any]:
    """What ``plan.json`` says of the engine: its version, and the storage of a container's data."""
    information = client.info()
    root = Path(information.get("DockerRootDir", ""))
    return {
        "docker": information.get("ServerVersion", ""),
        "storage_driver": information.get("Driver", ""),
        "filesystem": filesystem_of(root) if root.is_dir() else "unknown",
    }


def _remedy(reason: str) -> str:
    if "Permission denied" in reason:
        return "it runs, but not for your user: `sudo usermod -aG docker $USER` and log in again"
    return "start it (`systemctl start docker`, or `dockerd` as root)"


def _reason(error: BaseException) -> str:
    explanation = getattr(error, "explanation", None)
    text = explanation if isinstance(explanation, str) and explanation else str(error)
    found = re.search(r"(No such file or directory|Permission denied|Connection refused)", text)
    if "Error while fetching server API version" in text and found:
        return f"{os.environ.get('DOCKER_HOST', '/var/run/docker.sock')}: {found.group(1)}"
    return " ".join(text.split())
