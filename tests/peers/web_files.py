"""A web server with the files of a folder, over HTTP, or over TLS with a certificate and its key.

Paths below /moved/ lead to a server without TLS. A package below /slow/ never comes, though its head does.
"""

import functools
import http.server
import ssl
import sys
import threading


class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1" + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/slow/packages/"):
            self.send_response(200)
            self.send_header("Content-Length", "2048")
            self.end_headers()
            self.wfile.write(b"x")
            self.wfile.flush()
            threading.Event().wait(600)
        else:
            self.path = self.path.removeprefix("/slow")
            super().do_GET()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    context = None

    def finish_request(self, request, address):
        # The handshake belongs to the connection's own thread.
        if self.context:
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except (ssl.SSLError, OSError):
                return
        super().finish_request(request, address)


server = Server(("127.0.0.1", 0), functools.partial(Files, directory=sys.argv[1]))
if len(sys.argv) > 2:
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(sys.argv[2], sys.argv[3])
print(server.server_port, flush=True)
server.serve_forever()
