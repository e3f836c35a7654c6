"""Any OpenAI client talks to a swarm. Needs a running node (`skep up`) and `pip install openai`.

python3 examples/openai.py
"""

import json
import os
import pathlib
import subprocess

from openai import OpenAI

home = os.environ.get("SKEP_HOME")
token = subprocess.run(["skep", "token"], check=True, capture_output=True, text=True).stdout.strip()
api = "127.0.0.1:4892" if home is None else json.loads((pathlib.Path(home) / "node.json").read_text())["api"]

client = OpenAI(base_url=f"http://{api}/v1", api_key=token)
stream = client.chat.completions.create(
    model="auto",
    messages=[{"role": "user", "content": "Name three things that bees make."}],
    max_tokens=60,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
