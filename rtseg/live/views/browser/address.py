"""Where the page is served: the address to listen on, and the host names that browsers may use for it."""

import errno
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass

from rtseg.core.errors import OutputError, UsageError

PORT = 8787  # the default port; if it is taken, a free one
_WRITTEN = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]/@\s]*):)?(?P<port>\d{1,5})")
_SEND_BUFFER = 1 << 17  # bytes that the system may buffer for a slow viewer: about one picture, as it gets old there


@dataclass(frozen=True)
class Address:
    """An address to listen on; `port` None: the default port, or a free one."""

    host: str = "127.0.0.1"
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads '8787', '127.0.0.1:8787', ':8787' (this machine only) or '[::]:8787'.

        Raises:
            UsageError: it has another form.
        """
        match = _WRITTEN.fullmatch(text)
        port = int(match["port"]) if match else 0
        if match is None or not 0 < port < 65536:
            raise UsageError(
                f"--web {text} is no address: give PORT or HOST:PORT, a port from 1 to 65535, such as 0.0.0.0:{PORT}"
            )
        return cls((match["host"] or "").strip("[]") or cls.host, port)


class Listener:
    """A listening socket, and who may use it.

    Attributes:
        socket: open and listening.
        token: what a browser must send; None if only this machine can connect.
        url: the page's address, with the token if there is one.
    """

    def __init__(self, address: Address) -> None:
        """Opens the socket.

        Raises:
            OutputError: the port is in use, or the address does not belong to this machine.
        """
        self.socket = _open(address)
        ip, port = self.socket.getsockname()[:2]
        self.is_local = ipaddress.ip_address(ip.partition("%")[0]).is_loopback
        self.token = None if self.is_local else secrets.token_urlsafe(24)
        self._names = {"localhost", address.host.lower()}
        if not self.is_local:
            name = socket.gethostname().lower()
            self._names |= {name, f"{name}.local"}  # its name with Avahi and Bonjour
        host = _reachable() if ipaddress.ip_address(ip.partition("%")[0]).is_unspecified else ip
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        if self.token:
            self.url += f"?token={self.token}"

    def is_called(self, host: str) -> bool:
        """Whether a Host header names this server, and not a name that somebody pointed at it (DNS rebinding).

        Any port is accepted, since a tunnel has its own.
        """
        match = re.fullmatch(r"(\[[0-9a-f:.%]+\]|[^:\[\]]+)(?::\d+)?", host.lower())
        name = match[1].strip("[]").rstrip(".") if match else ""
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return ip.is_loopback or not self.is_local  # an IP address cannot be pointed elsewhere

    def close(self) -> None:
        self.socket.close()


def _open(address: Address) -> socket.socket:
    shown = f"{address.host}:{address.port or PORT}"
    try:
        family, _, _, _, found = socket.getaddrinfo(
            address.host, address.port or PORT, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise OutputError(f"--web {shown}: {address.host} is no address of this machine ({error})") from error
    try:
        return _listening(family, found)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and address.port is None:
            return _listening(family, (found[0], 0, *found[2:]))
        if error.errno == errno.EADDRINUSE:
            raise OutputError(f"--web {shown}: the port is in use; name another, or leave it out") from error
        if error.errno == errno.EACCES:
            raise OutputError(f"--web {shown}: ports below 1024 are for the system; name a higher one") from error
        said = error.strerror or error
        raise OutputError(f"--web {shown}: {said}; 127.0.0.1 serves this machine, 0.0.0.0 its network") from error


def _listening(family: int, found: tuple[object, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows a port that was just closed
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
        opened.bind(found)
        opened.listen(64)
    except OSError:
        opened.close()
        raise
    return opened


def _reachable() -> str:
    """The address at which others reach this machine: that of its outgoing route. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address reserved for documentation
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
