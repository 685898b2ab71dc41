"""``/metrics`` of a load process, on a port of its own: Prometheus reads there what metrics.py tells."""

import functools
import importlib.util
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from loadgen.errors import PlanError
from loadgen.load.exposition import PROTOBUF_TYPE, Collector, Source, wants_protobuf
from loadgen.load.output import complain

MOST_PORT = 65_535
PAGE = b'<!doctype html><title>loadgen</title><a href="/metrics">metrics</a>\n'


def metrics_place(options: Mapping[str, Any]) -> tuple[str, int] | None:
    """The host and the first port that ``--metrics-port`` asks for; None without it. Raises PlanError."""
    text = str(options.get("metrics_port") or "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) > MOST_PORT - int(options.get("processes") or 0):
        raise PlanError(f"--metrics-port {text!r} is not a port: a number from 0 (any free one) to {MOST_PORT:,}")
    if importlib.util.find_spec("prometheus_client") is None:
        raise PlanError("--metrics-port needs prometheus-client: pip install 'loadgen[metrics]'")
    return str(options.get("metrics_host") or "127.0.0.1").strip("[]"), int(text)


@functools.cache
def check_ports(host: str, first: int, processes: int) -> None:
    """Refuse a run whose processes could not all serve their metrics. Raises PlanError.

    Once: Locust's page parses the command line again, when the run itself has taken the ports.
    """
    for port in (first, *worker_ports(first, processes)):
        try:
            listening(host, port).close()
        except OSError as error:
            raise _taken(host, port, error) from error


def worker_ports(first: int, processes: int) -> Sequence[int]:
    """The ports of the workers that ``--processes`` forks: the ones after the master's, each takes a free one."""
    return range(first + 1, first + 1 + processes) if first else (0,)


def serve(host: str, ports: Iterable[int], sources: Sequence[Source], who: str) -> Any:
    """Serve the metrics of ``sources`` on the first of ``ports`` that is free, and say where.

    Raises PlanError if none is.
    """
    from gevent.pywsgi import WSGIServer  # 30 ms, which no other command of loadgen should pay

    refusal: PlanError | None = None
    for port in ports:
        try:
            listener = listening(host, port)
        except OSError as error:
            refusal = refusal or _taken(host, port, error)
            continue
        server = WSGIServer(listener, application(Collector(sources)), log=None, error_log=None)
        server.start()
        shown = f"[{host}]" if ":" in host else host
        complain(f"metrics of {who}: http://{shown}:{listener.getsockname()[1]}/metrics")
        return server
    assert refusal is not None
    raise refusal


def listening(host: str, port: int) -> Any:
    """A socket that listens there, as gevent's: until it is closed, nobody else can. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(16)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def application(collector: Collector) -> Callable[[Mapping[str, Any], Callable[..., Any]], list[bytes]]:
    """The WSGI application: GET /metrics, and a page that links it."""

    def answer(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
        if method not in ("GET", "HEAD") or path not in ("/", "/metrics"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"metrics are at /metrics\n"]
        accept = environ.get("HTTP_ACCEPT", "")
        if path == "/":
            body, content_type = PAGE, "text/html; charset=utf-8"
        elif wants_protobuf(accept):
            body, content_type = collector.protobuf(), PROTOBUF_TYPE
        else:
            body, content_type = collector.text(accept)
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    return answer


def _taken(host: str, port: int, error: OSError) -> PlanError:
    reason = error.strerror or str(error)
    return PlanError(f"--metrics-host {host} --metrics-port: {port} cannot be listened on: {reason}")
