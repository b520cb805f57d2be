"""Adds a second project with one environment to the default organization, and prints the project's id.

No command and no endpoint makes projects yet, so this writes the two rows itself. The tests need them for one question:
what does another project's key see?
"""

import sqlite3
import sys

PROJECT = "01JC0000000000000000000001"
ENVIRONMENT = "01JC0000000000000000000002"
NOW = "2026-01-01T00:00:00.000000Z"

with sqlite3.connect(sys.argv[1], timeout=10) as database:
    (organization,) = database.execute("SELECT id FROM organizations").fetchone()
    database.execute(
        "INSERT INTO projects (id, organization_id, name, created_at, updated_at) VALUES (?, ?, 'other', ?, ?)",
        (PROJECT, organization, NOW, NOW),
    )
    database.execute(
        "INSERT INTO environments (id, organization_id, project_id, name, created_at) VALUES (?, ?, ?, 'other', ?)",
        (ENVIRONMENT, organization, PROJECT, NOW),
    )
print(PROJECT)
