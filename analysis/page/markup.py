"""HTML by construction: text becomes part of a page in one way, and that way escapes it."""

import html
import re
from collections.abc import Iterable

VOID = ("br", "img", "input", "link", "meta", "wbr")
# What HTML has no place for: control characters (a traceback may be coloured), halves of a pair of surrogates.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Html(str):
    """Text that is HTML already. Only `element`, `join` and `escape` make it."""


def escape(text: str) -> Html:
    """Text that is HTML stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(UNPRINTABLE.sub("\ufffd", text)))


def element(name: str, /, *content: str, **attributes: str) -> Html:
    """`element("a", "x < y", href="#here")` → `<a href="#here">x &lt; y</a>`.

    class_, aria_label: attributes whose names Python cannot write, class and aria-label.
    """
    named = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"' for key, text in attributes.items())
    return Html(f"<{name}{named}>" if name in VOID else f"<{name}{named}>{join(content)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    return Html(escape(between).join(map(escape, parts)))
