"""Keys of 46 kinds, made up: each looks like one that a service gives out, and none is written in any file."""

from __future__ import annotations

import base64
import random
from urllib.parse import quote, quote_plus

_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_HEX = "0123456789abcdef"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

#: What a key begins with, how many characters of which alphabet follow, and what it ends with.
_MADE = {
    "anthropic": ("sk-ant-" + "api03-", 90, _WORD, ""),
    "openrouter": ("sk-or-" + "v1-", 64, _HEX, ""),
    "openai": ("sk-", 48, _WORD, ""),
    "openai project": ("sk-" + "proj-", 60, _WORD, ""),
    "aws": ("AK" + "IA", 16, _UPPER, ""),
    "aws session": ("AS" + "IA", 16, _UPPER, ""),
    "github": ("gh" + "p_", 36, _WORD, ""),
    "github app": ("gh" + "s_", 36, _WORD, ""),
    "github fine": ("github_" + "pat_", 82, _WORD, ""),
    "gitlab": ("gl" + "pat-", 20, _WORD, ""),
    "slack bot": ("xo" + "xb-", 40, _WORD, ""),
    "slack user": ("xo" + "xp-", 60, _WORD, ""),
    "slack app": ("xa" + "pp-1-", 40, _WORD, ""),
    "slack hook": ("https://hooks." + "slack.com/services/", 40, _WORD, ""),
    "discord hook": ("https://discord.com/api/" + "webhooks/123456/", 60, _WORD, ""),
    "google": ("AI" + "za", 35, _WORD, ""),
    "google client": ("GOC" + "SPX-", 28, _WORD, ""),
    "google access": ("ya" + "29.", 60, _WORD, ""),
    "stripe": ("sk_" + "live_", 24, _WORD, ""),
    "stripe restricted": ("rk_" + "test_", 24, _WORD, ""),
    "webhook": ("whsec" + "_", 32, _WORD, ""),
    "jwt": ("ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0.", 43, _WORD, ""),
    "pem": ("-----BEGIN " + "PRIVATE KEY-----\n", 64, _WORD, "\n-----END PRIVATE KEY-----\n"),
    "openssh": ("-----BEGIN " + "OPENSSH PRIVATE KEY-----\n", 70, _WORD, "\n-----END OPENSSH PRIVATE KEY-----"),
    "age": ("AGE-SECRET-" + "KEY-1", 58, _UPPER, ""),
    "sendgrid": ("S" + "G.aaaaaaaaaaaaaaaaaaaaaa.", 43, _WORD, ""),
    "twilio": ("S" + "K", 32, _HEX, ""),
    "mailgun": ("ke" + "y-", 32, _HEX, ""),
    "mailchimp": ("", 32, _HEX, "-us" + "12"),
    "npm": ("np" + "m_", 36, _WORD, ""),
    "pypi": ("py" + "pi-AgEIcHlwaS5vcmc", 120, _WORD, ""),
    "docker": ("dckr_" + "pat_", 27, _WORD, ""),
    "hugging face": ("h" + "f_", 34, _WORD, ""),
    "replicate": ("r" + "8_", 37, _WORD, ""),
    "groq": ("gs" + "k_", 52, _WORD, ""),
    "xai": ("xa" + "i-", 80, _WORD, ""),
    "perplexity": ("pp" + "lx-", 48, _WORD, ""),
    "digitalocean": ("dop" + "_v1_", 64, _HEX, ""),
    "shopify": ("shp" + "at_", 32, _HEX, ""),
    "telegram": ("123456789:" + "AA", 33, _WORD, ""),
    "atlassian": ("ATA" + "TT3", 180, _WORD, ""),
    "linear": ("lin_" + "api_", 40, _WORD, ""),
    "notion": ("nt" + "n_", 46, _WORD, ""),
    "databricks": ("da" + "pi", 32, _HEX, ""),
    "vault": ("hv" + "s.", 90, _WORD, ""),
    "grafana": ("gl" + "sa_", 41, _WORD, ""),
}  # fmt: skip
#: What no pattern knows: only who declared them has them hidden.
_OWN = {
    "password": "Corr3ct horse/battery+staple",
    "quotes": 'it\'s "quoted" & <escaped>\\n',
    "letters": "schlüssel-größe-日本語",
    "digits": "4815162342108",
    "lines": "first line of the key 123456\nsecond line of the key 7890",
}


def formats(seed: int = 5) -> dict[str, str]:
    """Return a key of each kind that patterns know."""
    chance = random.Random(seed)
    return {
        kind: begin + "".join(chance.choices(letters, k=size)) + end
        for kind, (begin, size, letters, end) in _MADE.items()
    }


def declared(seed: int = 5) -> dict[str, str]:
    """Return all of them, with some that look like nothing."""
    return {**formats(seed), **_OWN}


def spellings(key: str) -> dict[str, str]:
    """Return what gives a key away."""
    data = key.strip().encode()
    return {
        "itself": key.strip(),
        "JSON": key.encode("unicode_escape").decode(),
        "URL": quote(key, safe=""),
        "form": quote_plus(key),
        "base64": base64.b64encode(data).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(data).decode(),
        "basic": base64.b64encode(b"me:" + data).decode()[4:-4],
        "hex": data.hex(),
    }
