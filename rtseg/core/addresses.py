"""Addresses of streams in a form that may be shown: without their credentials."""

import re

_SECRET = re.compile(
    r"(?i)([?&;#/_][^=&;#/]*(?:pw|pas|psw|psd|token|secret|key|auth|sig|credential|session|hash|jwt)[^=&;#/]*=)[^&;]*"
)
_USER = re.compile(r"[^\s/?#=:@]+:(?!\\)[^@]*@")  # for text without a scheme
_CODED_USER = re.compile(r"(?i)(%3A%2F%2F)[^&;#]*%40")  # in an address that is a value of another address
HINT = "in a user name or password write # as %23, / as %2F, ? as %3F, [ as %5B, @ as %40"


def without_password(url: str) -> str:
    """Removes user and password from an address, and the values of parameters called password, token or key.

    It removes too much rather than too little. A password may hold / ? # or @ although they should be written %2F and
    so on, so everything up to the last @ is removed if a user and a colon come before it, even if `://` is mistyped. A
    port that is not a number is hidden too.

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
    elif "[" not in authority:  # a colon in [] belongs to an IPv6 address
        rest = re.sub(r"^([^/?#:]*):(?!\d*([/?#]|$))[^/?#]*", r"\1:***", rest)
    if "://" in rest:  # an address inside an address, as proxies use
        return _SECRET.sub(r"\1***", scheme + mark) + without_password(rest)
    return _SECRET.sub(r"\1***", scheme + mark + _CODED_USER.sub(r"\1", rest))


def is_badly_written(url: str) -> bool:
    """Whether a password seems to hold characters that end its part of the address."""
    rest = url.partition("://")[2]
    authority, *after = re.split(r"[/?#]", rest, maxsplit=1)
    user = authority.rpartition("@")[0] or authority
    return ":" in user and any("@" in part for part in after)
