"""A headless browser for tests of pages."""

import contextlib
import shutil

import pytest


# Chromium as a program of the system; Playwright's own would have to be downloaded. Without a sandbox, since tests may run as
# root, and without what it does by itself on the network.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage"
).split()


@contextlib.contextmanager
def open_browser():
    """Chromium, by Playwright; skips the calling test where one of them is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
