"""A headless Chromium that draws files: it gets each file from a server in this process, and sends the picture back."""

from __future__ import annotations

import io
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

#: Chromium's names in the PATH: the first one is Debian's, the others are those of other systems.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",  # without it, the browser ends after loading the page
)
#: Seconds for one file, and for the browser to start.
PATIENCE_S = 30
#: A picture of more pixels on a side is drawn smaller.
MAX_SIDE = 4096

_PAGE = (
    b"""<!doctype html><meta charset=utf-8><title>-</title><script>
const send = (path, body) => fetch(path, {method: "POST", body});
async function draw(data) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([data]));
  try {
    await image.decode();
    const scale = Math.min(1, %d / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
    canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
    if (!blob) throw new Error("nothing was drawn");
    await send("/drawn", blob);
  } catch (error) {
    await send("/failed", String(error));
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
(async () => { for (;;) await draw(await (await fetch("/next" + location.search)).arrayBuffer()); })();
</script>"""
    % MAX_SIDE
)


class Chromium:
    """``draw`` returns the picture as RGBA in sRGB, or raises ``ValueError`` with the reason."""

    def __init__(self) -> None:
        #: New for each start of the browser, so that the last request of an ended browser can't get the next file.
        self._next: queue.Queue[bytes | None] = queue.Queue()
        self._starts = 0
        self._answers: queue.Queue[tuple[bool, bytes]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._process: subprocess.Popen[bytes] | None = None
        self._profile: tempfile.TemporaryDirectory[str] | None = None

    def draw(self, data: bytes) -> Image.Image:
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._next.put(data)
        try:
            drawn, body = self._answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            self._stop()
            raise ValueError(f"not drawn within {PATIENCE_S} s") from None
        if not drawn:
            raise ValueError(body.decode(errors="replace"))
        with Image.open(io.BytesIO(body)) as image:
            return image.convert("RGBA")

    @property
    def version(self) -> str:
        said = subprocess.run([self._browser(), "--version"], capture_output=True, text=True, check=True).stdout
        return " ".join(said.split()[1:2])

    def close(self) -> None:
        self._stop()
        self._server.shutdown()
        self._server.server_close()

    def _start(self) -> None:
        self._stop()
        self._profile = tempfile.TemporaryDirectory()
        self._starts += 1
        address = f"http://127.0.0.1:{self._server.server_port}/?{self._starts}"
        command = [self._browser(), *ARGUMENTS, f"--user-data-dir={self._profile.name}", address]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # all processes of the browser, which has its own session
            self._process.wait()
            self._process = None
        if self._profile is not None:
            with suppress(OSError):  # a process of the browser may still be writing
                self._profile.cleanup()
            self._profile = None
        self._next.put(None)  # so that a waiting request ends
        self._next, self._answers = queue.Queue(), queue.Queue()

    @staticmethod
    def _browser() -> str:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            raise FileNotFoundError("Chromium is not installed: apt-get install chromium")
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        browser = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.startswith("/next"):
                    self._answer(_PAGE, "text/html")
                elif self.path == f"/next?{browser._starts}" and (body := browser._next.get()) is not None:
                    self._answer(body, "application/octet-stream")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(b"", "text/plain")
                browser._answers.put((self.path == "/drawn", body))

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Logs nothing: the requests are known."""

        return Handler


@contextmanager
def chromium() -> Iterator[Chromium]:
    browser = Chromium()
    try:
        yield browser
    finally:
        browser.close()
