"""Locust's page: who may use it, and what it may ask for.

Any site that a person visits can send requests to a server on this machine, and Locust's page answers all of them. So
Host and Origin of every request are checked before anything else, then the login where there is one, then the form.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import psutil
from flask import jsonify, request
from locust.argument_parser import ui_extra_args_dict
from locust.runners import (
    STATE_CLEANUP,
    STATE_INIT,
    STATE_RUNNING,
    STATE_STOPPED,
    STATE_STOPPING,
    MasterRunner,
)
from werkzeug.datastructures import ImmutableMultiDict

from loadgen.errors import LoadgenError
from loadgen.load.locust_host import LocustHost
from loadgen.load.options import option_names
from loadgen.plan import parse_plan

Place = tuple[str, int | None]
"""A host and its port; None is any port."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WILDCARDS = ("", "*", "0.0.0.0", "::")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CHANGING_PATHS = ("/swarm", "/stop", "/stats/reset", "/user")
"""Paths that change something, with any method: some versions of Locust accept GET there."""
LOCUST_FIELDS = frozenset({"user_count", "spawn_rate", "run_time", "host", "profile"})
"""Locust's own fields of the form that starts a run."""
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+?))\.?(?::(?P<port>[0-9]{1,5}))?")


def guard(locust_host: LocustHost, web_ui: Any, environment: Any) -> None:
    """Put our checks before Locust's own handlers."""
    options = environment.parsed_options
    web_ui.app.wsgi_app = Gate(web_ui.app.wsgi_app, allowed_places(options))
    views = web_ui.app.view_functions
    # Locust checks the login inside its handlers; ours need the same check, before they do anything.
    views["locust.swarm"] = web_ui.auth_required_if_enabled(_starting(locust_host, environment, views["locust.swarm"]))
    views["locust.update_user"] = web_ui.auth_required_if_enabled(_refuse_users)
    views["locust.request_stats"] = _polled_to_the_end(locust_host, environment, views["locust.request_stats"])


class Gate:
    """WSGI middleware: nothing from another Host or Origin comes through, and no answer is for another origin."""

    def __init__(self, application: Callable[..., Any], places: Iterable[Place]) -> None:
        self._application = application
        self._places = frozenset(places)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer one request."""
        refusal = refusal_of(environ, self._places)
        if refusal:
            text = f"loadgen: {refusal}\n".encode("ascii", "backslashreplace")
            start_response(
                "403 Forbidden", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
            )
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            # Locust allows every origin to read its answers.
            kept = [header for header in headers if not header[0].lower().startswith("access-control-")]
            return start_response(status, [*kept, ("X-Frame-Options", "SAMEORIGIN")], *rest)

        return self._application(environ, start)


def refusal_of(environ: Mapping[str, Any], places: Iterable[Place]) -> str:
    """Why a request is refused, in one line; empty if it may pass."""
    text = str(environ.get("HTTP_HOST", ""))
    default = 443 if environ.get("wsgi.url_scheme") == "https" else 80
    host = _place(text)
    if host is None or not _is_among(host, places, default):
        return f"this page does not answer for Host {text[:100]!r}: --web-allowed-host allows another"
    origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
    if origin is not None and not _same_origin(origin, host):
        return f"a request from {origin[:100]!r}, which is another origin"
    ours = site is None or site in ("same-origin", "none")
    if not _changes_something(environ):
        # A link from elsewhere may lead here; a script, an image or a frame of another site may not look.
        return "" if ours or environ.get("HTTP_SEC_FETCH_MODE") == "navigate" else "a request from another site"
    if not ours:
        return "a request from another site"
    referer = environ.get("HTTP_REFERER")
    if origin is None and referer and not _same_origin(referer, host):
        return f"a request from {referer[:100]!r}, which is another origin"
    return ""


def allowed_places(options: Any) -> list[Place]:
    """The hosts that a request may name: loopback, what the page is bound to, and what --web-allowed-host adds."""
    names = [*LOOPBACK]
    if options.web_host in WILDCARDS:
        # By address: a name that somebody else's DNS server leads here is none of ours.
        addresses = (address for known in psutil.net_if_addrs().values() for address in known)
        names += [
            known.address.partition("%")[0] for known in addresses if known.family in (socket.AF_INET, socket.AF_INET6)
        ]
        names += [socket.gethostname()]
    else:
        names += [options.web_host]
    places: list[Place] = [(_normal(name), options.web_port) for name in names]
    for text in (options.web_host_display_name or "", *options.web_allowed_host.split(",")):
        if text.strip():
            place = _place(re.sub(r"^https?://|/.*$", "", text.strip()))
            if place is None:
                raise LoadgenError(f"--web-allowed-host {text.strip()!r} is not a host name, an address or name:port")
            places.append(place)
    return places


def _changes_something(environ: Mapping[str, Any]) -> bool:
    path = str(environ.get("PATH_INFO", "")).rstrip("/")
    return environ["REQUEST_METHOD"] not in SAFE_METHODS or path.endswith(CHANGING_PATHS)


def _place(text: str) -> Place | None:
    match = _HOST.fullmatch(text.lower())
    if match is None:
        return None
    return _normal(match["six"] or match["name"]), int(match["port"]) if match["port"] else None


def _normal(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name.lower().rstrip(".")


def _is_among(host: Place, places: Iterable[Place], default_port: int) -> bool:
    name, port = host
    return any(name == known and wanted in (None, port or default_port) for known, wanted in places)


def _same_origin(url: str, host: Place) -> bool:
    """Whether a page at ``url`` is of the origin that the request's Host names."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    ports = {"http": 80, "https": 443}
    place = _place(parts.netloc)
    if place is None or parts.scheme not in ports:
        return False
    default = ports[parts.scheme]
    return (place[0], place[1] or default) == (host[0], host[1] or default)


def _starting(locust_host: LocustHost, environment: Any, locust_starts: Callable[[], Any]) -> Callable[[], Any]:
    """Prepare a run before Locust starts it: Locust validates nothing, and a refusal must reach the page."""

    def start() -> Any:
        fresh = environment.runner.state in (STATE_INIT, STATE_STOPPED)
        try:
            if locust_host.judging:
                raise LoadgenError("the last run is still being judged: wait for the verdict")
            form = _checked(request.form, environment)
            if fresh:
                changes = {name: value for name, value in form.items() if name in option_names(locust_host.workload)}
                changes |= {"run_time": form.pop("run_time", ""), "num_users": form["user_count"]}
                locust_host.prepare(changes)
                # Locust would stop the run by its own clock, which starts before the servers do.
                form |= {"run_time": "", "host": locust_host.place}
            else:
                sessions = parse_plan({"sessions": form["user_count"]}).sessions
                locust_host.check_sessions(sessions)
                form = {"user_count": str(sessions), "spawn_rate": form["spawn_rate"], "host": locust_host.place}
        except LoadgenError as error:
            return jsonify({"success": False, "message": str(error), "host": environment.host})
        request.form = ImmutableMultiDict(form)
        started = False
        try:
            answer = locust_starts()
            started = bool(answer.get_json()["success"])
        finally:
            if fresh and not started:
                locust_host.drop()
        return answer

    return start


def _checked(form: Mapping[str, str], environment: Any) -> dict[str, str]:
    """The form's fields, each one that the page shows. Raises LoadgenError for any other, or without the two numbers.

    Locust accepts every field with the name of one of its options, including names of files that it writes.
    """
    shown = LOCUST_FIELDS | set(ui_extra_args_dict())
    unknown = sorted(name for name in form if name not in shown)
    if unknown:
        raise LoadgenError(f"{unknown[0][:50]!r} is not set on the page, but on the command line")
    try:
        spawn_rate = float(form.get("spawn_rate", ""))
    except ValueError:
        spawn_rate = 0.0
    if not 0 < spawn_rate < float("inf"):
        raise LoadgenError(f"spawn_rate {form.get('spawn_rate', '')[:50]!r} is not a number above 0")
    if not form.get("user_count"):
        raise LoadgenError("the form lacks user_count, the number of sessions")
    if isinstance(environment.runner, MasterRunner) and not environment.runner.worker_count:
        raise LoadgenError("no worker has connected yet: start one, or wait for it")
    return {name: form[name] for name in form}


def _refuse_users() -> Any:
    return jsonify({"success": False, "message": "a run's users are its sessions: they are not edited by class"}), 403


def _polled_to_the_end(locust_host: LocustHost, environment: Any, locust_shows: Callable[[], Any]) -> Callable[[], Any]:
    """The page polls only while the run is reported as running, so the run stays reported until the page can have seen
    its end."""

    def show() -> Any:
        answer = locust_shows()
        state = environment.runner.state
        ending = locust_host.judging or state in (STATE_CLEANUP, STATE_STOPPING)
        if not ending and not (state == STATE_STOPPED and locust_host.has_news):
            return answer
        # After a login's redirect there is nothing to change.
        report = answer.get_json(silent=True) if hasattr(answer, "get_json") else None
        return answer if report is None else jsonify({**report, "state": STATE_RUNNING})

    return show
