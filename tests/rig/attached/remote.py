"""Behaves like a remote endpoint, OpenAI's way or Azure's, and has its faults. Standard library only.

Knobs: models, key, azure (deployment's name), version, fault (html · redirect · busy · down · echo · none), retry_after, half,
no_max_tokens, status (of html and echo, which repeats the key), words, repeats (the key in a good answer and its head), tls (file with certificate and key).
"""
# ruff: noqa: PTH100, PTH120

import os
import ssl
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from common import Handler, journal, knobs, serve


class Remote(Handler):
    def do_GET(self):
        self.handle_one({})

    def do_POST(self):
        self.handle_one(self.body())

    def handle_one(self, asked):
        said = {
            "path": self.path,
            "authorization": self.headers.get("Authorization", ""),
            "api_key": self.headers.get("api-key", ""),
        }
        journal("request", **said, **asked)
        try:
            self.answer(asked)
        except (ConnectionError, OSError):
            self.close_connection = True

    def given(self, now):
        whole = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.headers.get("api-key", "") if now.get("azure") else whole

    def answer(self, asked):
        now = knobs()
        match now.get("fault"):
            case "html":
                return self.send(
                    b"<html><body>Please sign in</body></html>", now.get("status", 200), "text/html; charset=utf-8"
                )
            case "redirect":
                return self.send(b"", 307, headers=[("Location", now["location"])])
            case "busy":
                wait = [("Retry-After", str(now.get("retry_after", 7)))]
                return self.send(
                    {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}},
                    429,
                    headers=wait,
                )
            case "down":
                return self.send({"error": {"message": "upstream is down"}}, 503)
            case "echo":
                return self.send({"error": {"message": f"No capacity for {self.given(now)} \ud83d"}}, now["status"])
        key, given = now.get("key", ""), self.given(now)
        if key and given != key:
            return self.send({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401)
        path, _, query = self.path.partition("?")
        prefix = f"/openai/deployments/{now['azure']}" if now.get("azure") else "/v1"
        if now.get("azure") and query != f"api-version={now.get('version', '2024-10-21')}":
            return self.send({"error": {"code": "404", "message": "Resource not found"}}, 404)
        models = now.get("models", ["gpt-test"])
        words = now.get("words", "one two three four").split()
        words = [given, *words] if now.get("repeats") else words
        match path.removeprefix(prefix):
            case "/models" if not now.get("azure"):
                self.send({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})
            case "/chat/completions":
                if now.get("no_max_tokens") and "max_tokens" in asked:
                    return self.send(
                        {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}, 400
                    )
                if asked.get("model") not in models:
                    return self.send({"error": {"message": "The model does not exist", "code": "model_not_found"}}, 404)
                self.chat(asked, asked["model"] + "-2026-08-06", words[: asked.get("max_tokens") or len(words)])
            case _:
                self.send({"error": {"message": "Unknown request URL"}}, 404)
        return None


if __name__ == "__main__":
    tls = None
    if knobs().get("tls"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(knobs()["tls"])
    serve(int(sys.argv[1]), Remote, tls=tls)
