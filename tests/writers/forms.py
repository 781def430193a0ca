"""For each line of JSON on standard input, SHA-256 of the form that json.dumps makes of it."""
import hashlib, json, sys

for line in sys.stdin.buffer:
    text = json.dumps(json.loads(line), sort_keys=True)
    print(hashlib.sha256(text.encode()).hexdigest())
