"""A page as Chromium shows it: what it measures there, without a network and without a driver."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def dom(page: Path, width: int, dark: bool = False) -> str:
    """The document after its scripts have run, at a width in CSS pixels."""
    browser = find()
    assert browser is not None
    command = [
        *(browser, *OPTIONS, f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900"),
        *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000", "--dump-dom"),
        page.as_uri(),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        return process.communicate(timeout=300)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def measure(page: Path, script: str, width: int, dark: bool = False) -> Any:
    """What `script`, the body of a function, returns in a copy of the page whose policy allows scripts.

    The copy stands in a frame, since a window cannot be as narrow as a phone.
    """
    wrapped = f"""<script>addEventListener("load", () => {{
        const measured = (() => {{ {script} }})();
        parent.document.body.textContent = JSON.stringify(measured);
    }});</script></body>"""
    text = POLICY.sub("", page.read_text(encoding="utf-8")).replace("</body>", wrapped)
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{html.escape(text)}"></iframe>'
    outer = page.with_name("measured.html")
    outer.write_text(f'<meta charset="utf-8"><meta name="color-scheme" content="light dark">{frame}', encoding="utf-8")
    body = dom(outer, width, dark).rpartition("<body>")[2].partition("</body>")[0]
    return json.loads(html.unescape(body))
