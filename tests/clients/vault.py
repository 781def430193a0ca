"""Vault Transit by hvac, unmodified, with a client certificate or with a token alone."""
import base64, hashlib, json, os, sys, time
import hvac
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

b64 = lambda data: base64.b64encode(data).decode()
say = lambda **members: print(json.dumps(members), flush=True)
cert = (os.environ["VAULT_CLIENT_CERT"], os.environ["VAULT_CLIENT_KEY"]) if os.environ.get("VAULT_CLIENT_CERT") else None
client = hvac.Client(url=os.environ["VAULT_ADDR"], verify=os.environ["VAULT_CACERT"], cert=cert,
                     token=os.environ.get("VAULT_TOKEN", "anything"))
transit = client.secrets.transit


def refused(kind, call, **arguments):
    try:
        call(**arguments)
    except hvac.exceptions.VaultError as error:
        if type(error).__name__ != kind:
            sys.exit(f"{type(error).__name__} in place of {kind}: {error}")
        say(refused=kind)
        return
    sys.exit(f"not refused with {kind}")


if os.environ.get("VAULT_ONCE"):
    # hvac asks once; whoever wants more mounts it, with a key that makes it safe.
    client.session.mount("http://", HTTPAdapter(max_retries=Retry(total=2, backoff_factor=0.1, allowed_methods=None)))
    client.session.headers["Idempotency-Key"] = "once-1"
    reply = transit.sign_data(name="p256", hash_input=b64(b"m"), hash_algorithm="sha2-256")["data"]
    say(signature=reply["signature"].removeprefix("vault:v1:"))
    sys.exit(0)
if os.environ.get("VAULT_EXPECT"):
    refused(os.environ["VAULT_EXPECT"], transit.sign_data, name="p256", hash_input=b64(b"m"), hash_algorithm="sha2-256")
    sys.exit(0)
if os.environ.get("VAULT_THROTTLED"):
    # Asked for as fast as it goes: hvac does not wait, its caller does.
    told = None
    for _ in range(4):
        try:
            transit.sign_data(name="p256", hash_input=b64(b"m"), hash_algorithm="sha2-256")
        except hvac.exceptions.VaultError as error:
            told = type(error).__name__
            break
    time.sleep(1.5)
    transit.sign_data(name="p256", hash_input=b64(b"m"), hash_algorithm="sha2-256")
    say(told=told)
    sys.exit(0)
assert client.sys.read_health_status(method="GET")["sealed"] is False
if cert:
    login = client.auth.cert.login(cert_pem=cert[0], key_pem=cert[1])
    assert login["auth"]["client_token"].startswith("hvs."), login
    assert client.is_authenticated()
for name in sys.argv[1:]:
    key = transit.read_key(name=name)["data"]
    latest = key["latest_version"]
    public = key["keys"][str(latest)]["public_key"]
    message = f"a message for {name}".encode()
    bits = "384" if name == "p384" else "256"
    options = {} if key["type"] in ("ed25519", "ml-dsa") else {"hash_algorithm": "sha2-" + bits}
    if key["type"].startswith("rsa"):
        options["signature_algorithm"] = "pss" if name == "pss" else "pkcs1v15"
    inputs = [(message, {})]
    if options:
        inputs.append((hashlib.new("sha" + bits, message).digest(), {"prehashed": True}))
    if key["type"].startswith("ecdsa"):
        inputs.append((message, {"marshaling_algorithm": "jws"}))
    for given, more in inputs:
        reply = transit.sign_data(name=name, hash_input=b64(given), **options, **more)["data"]
        check = dict(name=name, hash_input=b64(given), signature=reply["signature"], **options, **more)
        assert transit.verify_signed_data(**check)["data"]["valid"] is True, check
        check["hash_input"] = b64(bytes([given[0] ^ 1]) + given[1:])
        assert transit.verify_signed_data(**check)["data"]["valid"] is False, check
        say(key=name, message=b64(message), signature=reply["signature"], public=public, type=key["type"],
            jws="marshaling_algorithm" in more, index=reply["receipt"]["index"])
if "p256" in sys.argv:
    batch = [{"input": b64(b"%d" % n), "reference": str(n)} for n in range(20)] + [{"input": "!", "reference": "bad"}]
    done = transit.sign_data(name="p256", batch_input=batch, hash_algorithm="sha2-256", hash_input=None)["data"]["batch_results"]
    assert [item["reference"] for item in done] == [item["reference"] for item in batch], done
    assert all("signature" in item for item in done[:-1]) and "error" in done[-1], done
    checks = [{"input": item["input"], "signature": made["signature"]} for item, made in zip(batch, done[:-1])]
    # hvac itself has no method for a batch of checks.
    valid = client.adapter.post("/v1/transit/verify/p256/sha2-256", json={"batch_input": checks})
    assert all(item["valid"] for item in valid["data"]["batch_results"]), valid
    mac = transit.generate_hmac(name="mac", hash_input=b64(b"m"), algorithm="sha2-256")["data"]["hmac"]
    holds = lambda text: transit.verify_signed_data(name="mac", hash_input=b64(text), hmac=mac, hash_algorithm="sha2-256")
    assert holds(b"m")["data"]["valid"] is True and holds(b"n")["data"]["valid"] is False
    some = dict(name="p256", hash_input=b64(b"m"), hash_algorithm="sha2-256")
    refused("InvalidRequest", transit.sign_data, **{**some, "name": "absent"})
    refused("InvalidRequest", transit.sign_data, **{**some, "hash_algorithm": "sha2-512"})
    refused("InvalidRequest", transit.sign_data, prehashed=True, **some)
    refused("InvalidRequest", transit.sign_data, **{**some, "name": "mac"})
    assert "p256" in transit.list_keys()["data"]["keys"]
say(done=True)
