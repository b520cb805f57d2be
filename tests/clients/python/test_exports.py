"""Exports, read by a program that knows nothing of Brokle."""

import io
import json
import urllib.request
import uuid
from datetime import datetime

import pyarrow.parquet

from conftest import BROKLE_URL, KEY, api, eventually, user

#: What a text in a cell of Parquet is JSON of.
JSON = {"usage", "error", "tags", "attributes", "input", "output", "metadata", "update"}
FIELDS = "trace_id,name,type,start_time,duration_ms,streaming,status_code,cost,usage,user,tags,attributes,error"


def export(session, form):
    """The session's observations, all of them."""
    _, keys = api("/keys")
    project = keys["data"][0]["project_id"]
    url = f"{BROKLE_URL}/api/v1/projects/{project}/observations?format={form}&filter=session:{session}&fields={FIELDS}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def test_parquet_holds_what_json_says(client):
    session = uuid.uuid4().hex
    for who in ("ann", "Zoë 漢字 🙂"):
        client.chat.completions.create(
            model="openai/gpt-4o-mini",
            messages=user("one two three"),
            user=who,
            extra_headers={"X-Brokle-Session": session},
        )

    def stored():
        lines = export(session, "ndjson").splitlines()
        return [json.loads(line) for line in lines] if len(lines) == 2 else None

    rows = eventually(stored)
    table = pyarrow.parquet.read_table(io.BytesIO(export(session, "parquet")))
    assert table.num_rows == 2
    for row, cells in zip(rows, table.to_pylist(), strict=True):
        assert set(row) <= set(cells)
        for name, cell in cells.items():
            expected = row.get(name)
            if name in JSON and cell is not None:
                cell = json.loads(cell)
            elif isinstance(cell, datetime):
                expected = datetime.fromisoformat(expected)
            assert cell == expected, name
    assert {row["user"] for row in rows} == {"ann", "Zoë 漢字 🙂"}
