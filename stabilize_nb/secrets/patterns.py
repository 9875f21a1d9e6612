"""
What keys look like, for those that nobody declared: 45 formats, and the names under which secrets usually stand.

A table of our own: the libraries that have one read files line by line and ask servers whether a key works, and bring
an HTTP client and YAML for that. Each format has signs, one of which stands in every key of it: text without any of
them, nearly all text, is not searched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from stabilize_nb.models.secret import Secret
from stabilize_nb.secrets.hiding import hide


class Format(NamedTuple):
    """A kind of key: what it is, what stands in every one of them, and what one is."""

    what: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]


def _format(what: str, signs: str, pattern: str) -> Format:
    return Format(what, tuple(signs.split()), re.compile(rf"(?<![A-Za-z0-9_]){pattern}"))


FORMATS: Final = (
    _format("Anthropic key", "sk-ant-", r"sk-ant-[\w-]{24,}"),
    _format("OpenRouter key", "sk-or-", r"sk-or-[\w-]{24,}"),
    _format("OpenAI key", "sk-", r"sk-(?:(?:proj|svcacct|admin|None)-[\w-]{20,}|[A-Za-z0-9]{32,})"),
    _format("AWS access key", "AKIA ASIA ABIA ACCA", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _format("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,}"),
    _format("GitHub token", "github_pat_", r"github_pat_\w{22,}"),
    _format("GitLab token", "glpat- gldt- glrt- glptt- glcbt-", r"gl(?:pat|dt|rt|ptt|cbt)-[\w-]{20,}"),
    _format("Slack token", "xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _format("Slack app token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{20,}"),
    _format("Slack webhook", "hooks.slack.com/", r"https://hooks\.slack\.com/(?:services|workflows)/[\w/-]{20,}"),
    _format("Discord webhook", "/api/webhooks/", r"https://discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}"),
    _format("Google API key", "AIza", r"AIza[\w-]{35}"),
    _format("Google client secret", "GOCSPX-", r"GOCSPX-[\w-]{28}"),
    _format("Google access token", "ya29.", r"ya29\.[\w-]{20,}"),
    _format("Stripe key", "_live_ _test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _format("webhook secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,}"),
    _format("JSON Web Token", "eyJ", r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    _format(
        "private key", "PRIVATE",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)",
    ),
    _format("age key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    _format("SendGrid key", "SG.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),
    _format("Twilio key", "SK", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _format("Mailgun key", "key-", r"key-[0-9a-f]{32}(?![A-Za-z0-9])"),
    _format("Mailchimp key", "-us", r"[0-9a-f]{32}-us\d{1,2}(?!\d)"),
    _format("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _format("PyPI token", "pypi-", r"pypi-[\w-]{50,}"),
    _format("Docker token", "dckr_", r"dckr_(?:pat|oat)_[\w-]{20,}"),
    _format("Hugging Face token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    _format("Replicate token", "r8_", r"r8_[A-Za-z0-9]{37}"),
    _format("Groq key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _format("xAI key", "xai-", r"xai-[A-Za-z0-9]{40,}"),
    _format("Perplexity key", "pplx-", r"pplx-[A-Za-z0-9]{40,}"),
    _format("DigitalOcean token", "_v1_", r"do[opr]_v1_[0-9a-f]{64}"),
    _format("Shopify token", "shp", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _format("Square token", "sq0", r"sq0(?:atp|csp|idp)-[\w-]{22,}"),
    _format("Telegram token", ":AA", r"\d{8,10}:AA[\w-]{33}"),
    _format("Atlassian token", "ATATT3", r"ATATT3[\w=-]{50,}"),
    _format("Linear key", "lin_", r"lin_(?:api|oauth)_[A-Za-z0-9]{40,}"),
    _format("Notion token", "ntn_ secret_", r"(?:ntn_|secret_)[A-Za-z0-9]{43,}"),
    _format("Databricks token", "dapi", r"dapi[0-9a-f]{32}"),
    _format("Vault token", "hvs. hvb.", r"hv[sb]\.[\w-]{24,}"),
    _format("Azure storage key", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{80,}={0,2}"),
    _format("Postman key", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _format("New Relic key", "NRAK-", r"NRAK-[A-Z0-9]{27}"),
    _format("Grafana token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9_=+/]{32,}"),
    _format("Sentry token", "sntry", r"sntry[su]_[A-Za-z0-9_=+/]{32,}"),
    _format("Supabase key", "sbp_", r"sbp_[0-9a-f]{40}"),
)  # fmt: skip

#: How the names end, folded, under which secrets stand.
_NAMES: Final = (
    "authorization", "cookie", "password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey",
    "secretkey", "privatekey", "credential", "credentials",
)  # fmt: skip
#: Characters of the shortest text under such a name that is masked: `{"token": "the"}` is a word.
_SHORTEST: Final = 8
MASK: Final = "[hidden]"
#: Characters of a text up to which it is remembered what came of it.
_CACHED: Final = 200

_NO_MARK: Final = r"(?!\[(?:secret|hidden))"
_IN_TEXT: Final = (
    (("://",), re.compile(r"(://[^\s/:@?#]*:)[^\s/@?#]+(?=@)")),
    (
        ("authorization",),
        re.compile(
            rf"(?i)(authorization[\"']?\s*[:=]\s*+[\"']?+(?:(?:bearer|basic|token)\s+)?+){_NO_MARK}[^\s\"',}}]+"
        ),
    ),
    (("cookie",), re.compile(rf"(?i)(cookie[\"']?\s*[:=]\s*+[\"']?+){_NO_MARK}[^\n\"'}}]+")),
    (
        ("passw", "passphrase", "secret", "token", "key"),
        re.compile(
            r"(?i)(?<![\w$-])([\w-]{0,40}(?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key"
            rf"|private[-_]?key)[\"']?\s*[:=]\s*[\"']?){_NO_MARK}[^\s\"',;&}}]{{{_SHORTEST},}}"
        ),
    ),
)
_BY_SIGN: Final = tuple((sign, each.what, each.pattern) for each in FORMATS for sign in each.signs)
#: Characters of one text that are looked through before a run is started.
LOOKED_AT: Final = 1_000_000


def kind_in(text: str) -> str | None:
    """Return what kind of key text contains, of a very long one its first million characters; None when it has none."""
    text = text[:LOOKED_AT]
    for sign, what, pattern in _BY_SIGN:
        if sign in text and pattern.search(text):
            return what
    return None


def masked(text: str) -> str:
    """Return text as it may be shown or logged: without values of secrets, and without what looks like a key."""
    text = hide(text)
    return _without_keys(text) if len(text) > _CACHED else _masked_before(text)


def _without_keys(text: str) -> str:
    for sign, what, pattern in _BY_SIGN:
        if sign in text:
            text = pattern.sub(f"[hidden: {what}]", text)
    lowered = text.lower()
    for signs, pattern in _IN_TEXT:
        if any(sign in lowered for sign in signs):
            text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


#: Names and words are shown again and again.
_masked_before = lru_cache(maxsize=4_096)(_without_keys)


def masked_value(value: Any) -> Any:
    """Return data as it may be shown: text as `masked` has it, none under the name of a secret, references by repr."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Secret):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: _named(key, item) for key, item in value.items()}
    return [masked_value(item) for item in value] if isinstance(value, list) else value


def _named(key: Any, value: Any) -> Any:
    if isinstance(value, str) and len(value) >= _SHORTEST and names_secret(str(key)):
        return MASK if masked(value) == value else masked(value)
    return masked_value(value)


def names_secret(name: str) -> bool:
    """Whether what stands under a name is usually a secret; case and what parts its words do not matter."""
    return re.sub(r"[\W_]", "", name).lower().endswith(_NAMES)
