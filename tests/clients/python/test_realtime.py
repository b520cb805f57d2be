"""Sessions of `/v1/realtime` by OpenAI's client, to a provider that speaks WebSocket."""

import json
import threading
import uuid

import openai
import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from conftest import BROKLE_URL, KEY, call, eventually, make_client, trace

SECRET = "sk-realtime-0123456789abcdef-WXYZ"
USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"cached_tokens": 0, "text_tokens": 20, "audio_tokens": 0},
    "output_token_details": {"text_tokens": 10, "audio_tokens": 0},
}


class Provider:
    """Answers as OpenAI's service does, as far as the client asks here."""

    def __init__(self):
        self.heads = []
        self.server = websockets.sync.server.serve(self.play, "127.0.0.1", 0, process_request=self.models)
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @staticmethod
    def models(socket, request):
        # A connection is tried before it is saved.
        if request.path == "/v1/models":
            return socket.respond(200, json.dumps({"object": "list", "data": []}))

    def play(self, socket):
        self.heads.append((socket.request.path, list(socket.request.headers.raw_items())))
        session = {"type": "realtime", "id": "sess_1", "object": "realtime.session", "model": "gpt-realtime"}
        self.say(socket, {"type": "session.created", "session": session})
        for message in socket:
            event = json.loads(message)
            if event["type"] == "session.update":
                self.say(socket, {"type": "session.updated", "session": {**session, **event["session"]}})
            elif event["type"] == "response.create":
                response = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": []}
                self.say(socket, {"type": "response.created", "response": response})
                self.say(socket, {"type": "response.output_text.delta", "response_id": "resp_1", "item_id": "i",
                                  "output_index": 0, "content_index": 0, "delta": "Hé 漢字"})
                self.say(socket, {"type": "response.done", "response": {**response, "status": "completed", "usage": USAGE}})

    @staticmethod
    def say(socket, event):
        socket.send(json.dumps({"event_id": uuid.uuid4().hex, **event}))

    def stop(self):
        self.server.shutdown()
        self.thread.join()


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def connection(provider):
    name = f"realtime-{uuid.uuid4().hex[:8]}"
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"provider": "openai", "name": name, "base_url": f"http://127.0.0.1:{provider.port}/v1", "secret": SECRET}
    status, _, made = call("POST", f"{BROKLE_URL}/api/v1/connections", body, headers)
    assert status == 201, made
    yield name
    call("DELETE", f"{BROKLE_URL}/api/v1/connections/{made['id']}", None, headers)


def sockets():
    return BROKLE_URL.replace("http://", "ws://") + "/v1"


def session_trace():
    """The newest session that was accounted for."""

    def found():
        status, _, body = call("GET", f"{BROKLE_URL}/api/v1/traces?limit=20", None, {"Authorization": f"Bearer {KEY}"})
        assert status == 200, body
        return next((t for t in body["data"] if t["operation"] == "realtime" and t["status_code"] == 101), None)

    return trace(eventually(found)["trace_id"])


def test_a_session_by_openais_client(provider, connection):
    with make_client(websocket_base_url=sockets()) as client:
        with client.realtime.connect(model=f"{connection}/gpt-realtime") as session:
            assert session.recv().type == "session.created"
            session.session.update(session={"type": "realtime", "instructions": "Be brief."})
            assert session.recv().type == "session.updated"
            session.response.create()
            events = [session.recv() for _ in range(3)]
    assert [event.type for event in events] == ["response.created", "response.output_text.delta", "response.done"]
    assert events[1].delta == "Hé 漢字"
    path, head = provider.heads[0]
    assert path == "/v1/realtime?model=gpt-realtime"
    assert ("Authorization", f"Bearer {SECRET}") in [(name.title(), value) for name, value in head]
    assert KEY not in str(head)
    root = session_trace()
    assert root["usage"]["total"] == 30 and float(root["cost"]) > 0, root
    assert root["model_served"] == "gpt-realtime" and root["status"] == "ok", root


def test_the_key_as_browsers_send_it(provider, connection):
    protocols = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]
    url = f"{sockets()}/realtime?model={connection}/gpt-realtime"
    with websockets.sync.client.connect(url, subprotocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        assert json.loads(socket.recv(timeout=10))["type"] == "session.created"
        assert KEY not in str(list(socket.response.headers.raw_items()))
    assert KEY not in str(provider.heads)


def test_who_has_no_session_is_told_why():
    with make_client(websocket_base_url=sockets(), key="bk_" + "n" * 40) as client:
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            client.realtime.connect(model="gpt-realtime").enter()
    assert caught.value.response.status_code == 401
    # A call that is none of a WebSocket.
    with make_client() as client, pytest.raises(openai.APIStatusError) as caught:
        client.get("/realtime?model=gpt-realtime", cast_to=object)
    assert caught.value.status_code == 426 and caught.value.code == "upgrade_required"
