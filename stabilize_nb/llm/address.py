"""Where a model is asked, and with which key."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.calls import Api

#: Where a client without base_url goes, and the variable that says otherwise.
ADDRESSES: dict[Api, tuple[str, str]] = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "ollama": ("OLLAMA_HOST", "http://127.0.0.1:11434"),
}
KEYS: dict[Api, str] = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY"}


def default_address(api: Api) -> str:
    """Return the address that the environment names, or the usual one."""
    variable, usual = ADDRESSES[api]
    given = os.environ.get(variable, "").strip()
    if api == "openai" or not given or "://" in given:
        return given or usual
    # Ollama itself takes the address without scheme and without port.
    return f"http://{given}" if given.rpartition(":")[2].isdigit() else f"http://{given}:11434"


def check_address(url: str) -> None:
    """Raise ConfigError for an address that no request can go to."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        msg = f"LLMClient got base_url={shown(url)!r}; an address such as https://host/v1 is expected"
        raise ConfigError(msg)


def endpoint(api: Api, base_url: str) -> str:
    """Return where a chat is posted."""
    if api == "ollama":
        return base_url.removesuffix("/api") + "/api/chat"
    return base_url + ("" if urlsplit(base_url).path else "/v1") + "/chat/completions"


def shown(url: str) -> str:
    """Return the address without user, password and query."""
    plain = url.partition("?")[0]
    scheme, mark, _ = plain.partition("://") if "://" in plain else ("", "", plain)
    return scheme + mark + plain.removeprefix(scheme + mark).rpartition("@")[2]
