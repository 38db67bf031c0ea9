"""Addresses of streams, as they may be shown: without what opens them."""

import re

_SECRET = re.compile(
    r"(?i)([?&;#/_][^=&;#/]*(?:pw|pas|psw|psd|token|secret|key|auth|sig|credential|session|hash|jwt)[^=&;#/]*=)[^&;]*"
)
_USER = re.compile(r"[^\s/?#=:@]+:(?!\\)[^@]*@")  # where no scheme says that this is an address
_CODED_USER = re.compile(r"(?i)(%3A%2F%2F)[^&;#]*%40")  # of an address that is a value in another one
HINT = "in a user name or password write # as %23, / as %2F, ? as %3F, [ as %5B, @ as %40"


def without_password(url: str) -> str:
    """Takes user and password out of an address, and the values of what is called password, token or key.

    Rather too much than too little: a password may hold / ? # or @ that should be written %2F and so on, so everything
    up to the last @ goes where a user and a colon stand before it, also where `://` is mistyped; and what should be a
    port is one.

    Example:
        >>> without_password("rtsp://admin:pa#ss@10.0.0.5/live?pwd=x&channel=1")
        'rtsp://10.0.0.5/live?pwd=***&channel=1'
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return _SECRET.sub(r"\1***", _USER.sub("***@", url))
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or (":" in authority and "@" in rest and "://" not in rest):
        rest = rest.rpartition("@")[2] if is_badly_written(url) else rest[authority.rindex("@") + 1 :]
    elif "[" not in authority:  # of IPv6
        rest = re.sub(r"^([^/?#:]*):(?!\d*([/?#]|$))[^/?#]*", r"\1:***", rest)
    if "://" in rest:  # a proxy sees another address
        return _SECRET.sub(r"\1***", scheme + mark) + without_password(rest)
    return _SECRET.sub(r"\1***", scheme + mark + _CODED_USER.sub(r"\1", rest))


def is_badly_written(url: str) -> bool:
    """Whether a password seems to hold what ends the part of an address that it stands in."""
    rest = url.partition("://")[2]
    authority, *after = re.split(r"[/?#]", rest, maxsplit=1)
    user = authority.rpartition("@")[0] or authority
    return ":" in user and any("@" in part for part in after)
