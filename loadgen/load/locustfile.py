"""What a locustfile and Locust's own options may ask of a run, and what is refused because it would do nothing here."""

from collections.abc import Iterable
from typing import Any

from locust import User

from loadgen.errors import LoadgenError
from loadgen.load.user import SessionUser


def session_class(environment: Any) -> type[SessionUser]:
    """The one class of users that the run has. Raises LoadgenError, in one line, for what it would have to ignore.

    Of a class and a class derived from it, as a locustfile has them that imports the one, it is the derived one.
    """
    options = environment.parsed_options
    if options.class_picker:
        raise LoadgenError("--class-picker: a run has one workload; name its class on the command line instead")
    if options.config_users:
        raise LoadgenError("--config-users: a run's users are its sessions; set their number by -u, the mix by --tags")
    if environment.shape_class is not None:
        raise LoadgenError(
            f"{type(environment.shape_class).__name__} shapes the number of users, which are sessions here: take it "
            "out of the locustfile, and shape the arrivals by --shape"
        )
    known: list[Any] = environment.user_classes
    sessions: list[type[SessionUser]] = [each for each in known if issubclass(each, SessionUser)]
    others = [each for each in known if not issubclass(each, SessionUser)]
    if not sessions:
        raise LoadgenError(f"{_names(others)}: this locustfile has no user class of loadgen")
    derived = [each for each in sessions if not any(other is not each and issubclass(other, each) for other in known)]
    if len(derived) != 1:
        raise LoadgenError(f"a run has one workload: name one of {_names(derived)} on the command line")
    if others:
        raise LoadgenError(
            f"{_names(others)}: other users would take sessions away, and nothing judges what they do: name "
            f"{derived[0].__name__} on the command line, and run them in a Locust of their own"
        )
    _check_members(derived[0])
    _check_tags(derived[0], options)
    return derived[0]


def _check_members(known: type[SessionUser]) -> None:
    """Refuse what Locust's own task loop would use, which no session runs. Raises LoadgenError."""
    for name in ("on_start", "on_stop", "wait_time"):
        if getattr(known, name) is not getattr(User, name):
            raise LoadgenError(
                f"{known.__name__}.{name}: sessions have no use for it; arrivals come by --shape and --peak-rate"
            )
    if known.fixed_count:
        raise LoadgenError(f"{known.__name__}.fixed_count: the number of sessions is set by -u")
    kinds = known.workload.kinds
    for task in known.tasks:
        name = getattr(task, "__name__", str(task))
        if name not in kinds:
            raise LoadgenError(
                f"{known.__name__}.{name} is no kind of op of {known.workload.name}: its tasks are {', '.join(kinds)}"
            )


def _check_tags(known: type[SessionUser], options: Any) -> None:
    """Refuse a tag that no task has: it was misspelt. Raises LoadgenError."""
    tags = {tag for task in known.tasks for tag in getattr(task, "locust_tag_set", ())}
    for option, given in (("--tags", options.tags), ("--exclude-tags", options.exclude_tags)):
        for tag in given or ():
            if tag not in tags:
                nothing = ", and no task is left" if option == "--tags" and tags.isdisjoint(given) else ""
                raise LoadgenError(
                    f"{option} {tag!r}: no task has that tag{nothing}; there are {', '.join(sorted(tags))}"
                )


def _names(classes: Iterable[type]) -> str:
    return ", ".join(each.__name__ for each in classes)
