"""Deciding how W&B can run from here, without a prompt and without waiting long.

`wandb.init` asks for a key on a terminal, and blocks for minutes on a key without a network. So
the mode is decided before it is called.
"""

from __future__ import annotations

import netrc
import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 5.0
MODES = {name: name for name in ("online", "offline", "disabled")}
MODES |= {"run": "online", "dryrun": "offline"}  # their earlier names

T = TypeVar("T")


class NoConnection(Exception):
    """Online tracking is not possible from here."""


def bounded(call: Callable[[], T], limit_s: float) -> T:
    """Return `call()`, run on a thread of its own that is left behind after `limit_s` seconds.

    Raises:
        TimeoutError: it has not returned by then.
        RuntimeError: it tried to end the program (wandb does when its process fails).
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except SystemExit as error:
            future.set_exception(RuntimeError(f"exit {error.code}"))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="metarl-wandb", daemon=True).start()
    try:
        return future.result(limit_s)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {limit_s:g} s") from error


def requested_mode(mode: str, warn: Callable[[str], None]) -> str:
    """The configured mode; variables that W&B users know decide where it is left open."""
    given = os.environ.get("WANDB_MODE", "")
    meant = MODES.get(given.strip().lower())
    if given.strip() and meant is None:
        warn(f"WANDB_MODE is {given!r}, but must be online, offline or disabled; it has no effect")
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on"):
        meant = "disabled"
    return meant if mode == "auto" and meant is not None else mode


def has_key(base_url: str, settings_key: str | None) -> bool:
    """Whether wandb would find credentials: its environment variables, settings, or a netrc."""
    variables = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    if settings_key or any(map(os.environ.get, variables)):
        return True
    candidates = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for candidate in candidates:
        try:
            entry = netrc.netrc(Path(candidate).expanduser()).authenticators(
                urlsplit(base_url).netloc
            )
        except (OSError, netrc.NetrcParseError):
            continue
        if entry is not None and entry[2]:
            return True
    return False


def connect(base_url: str) -> None:
    """Open and close a connection to the server, or to the proxy that leads to it."""
    address = urlsplit(base_url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=CONNECT_TIMEOUT_S).close()
