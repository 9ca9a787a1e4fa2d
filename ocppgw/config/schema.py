"""`schemas/configuration.schema.json`: the settings tree as JSON Schema, for editors and for other programs.

Write it anew after a change of the tree: `python -m ocppgw.config.schema > schemas/configuration.schema.json`.
"""

import json
import sys

from ocppgw.config.settings import Settings


def schema_text() -> str:
    """The JSON Schema (draft 2020-12) as indented text with a final newline."""
    schema = Settings.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Configuration of ocppgw"}
    return json.dumps(head | {key: value for key, value in schema.items() if key != "title"}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
