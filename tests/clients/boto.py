"""AWS KMS by boto3, unmodified: every operation of the appliance, and every way it says no.

Reads what to do from the environment, prints one JSON object a line: what was signed, for others to verify.
"""
import base64, hashlib, json, os, sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

config = Config(retries={"max_attempts": 3, "mode": "standard"}, read_timeout=20)
if sys.argv[1] == "throttled":
    config = config.merge(Config(retries={"total_max_attempts": int(sys.argv[2]), "mode": "standard"}))
if os.environ.get("KMS_CERT"):
    config = config.merge(Config(client_cert=(os.environ["KMS_CERT"], os.environ["KMS_KEY"])))
kms = boto3.client(
    "kms", endpoint_url=os.environ["KMS_URL"], region_name="eu-central-1", config=config,
    verify=os.environ.get("KMS_CA") or None,
)
b64 = lambda data: base64.b64encode(data).decode()
say = lambda **members: print(json.dumps(members), flush=True)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response["Error"]["Code"]
        if got != code:
            sys.exit(f"{call.__name__}: {got} in place of {code}: {error}")
        say(refused=code)
        return
    sys.exit(f"{call.__name__} was not refused with {code}")


def sign(name):
    described = kms.describe_key(KeyId=f"alias/{name}")["KeyMetadata"]
    algorithm, arn = described["SigningAlgorithms"][0], described["Arn"]
    public = kms.get_public_key(KeyId=arn)
    assert public["KeyId"] == arn and public["SigningAlgorithms"][0] == algorithm, public
    message = f"a message for {name}".encode()
    types = {"RAW": message}
    bits = algorithm.rpartition("_")[2]
    if algorithm == "ED25519_PH_SHA_512":
        types = {"DIGEST": hashlib.sha512(message).digest()}
    elif algorithm.startswith(("ECDSA", "RSASSA")):
        types["DIGEST"] = hashlib.new("sha" + bits, message).digest()
    elif algorithm == "ML_DSA_SHAKE_256":
        key = public["PublicKey"][-1952 if described["KeySpec"] == "ML_DSA_65" else -1312:]
        shake = lambda data: hashlib.shake_256(data).digest(64)
        types["EXTERNAL_MU"] = shake(shake(key) + bytes(2) + message)
    for kind, given in types.items():
        reply = kms.sign(KeyId=described["KeyId"], Message=given, MessageType=kind, SigningAlgorithm=algorithm)
        headers = reply["ResponseMetadata"]["HTTPHeaders"]
        assert reply["KeyId"] == arn and reply["SigningAlgorithm"] == algorithm, reply
        told = dict(KeyId=arn, Message=given, MessageType=kind, SigningAlgorithm=algorithm)
        assert kms.verify(Signature=reply["Signature"], **told)["SignatureValid"] is True
        told["Message"] = bytes([given[0] ^ 1]) + given[1:]
        refused("KMSInvalidSignatureException", kms.verify, Signature=reply["Signature"], **told)
        say(key=name, algorithm=algorithm, kind=kind, message=b64(given), signature=b64(reply["Signature"]),
            public=b64(public["PublicKey"]), index=int(headers["x-chancery-receipt-index"]),
            id=reply["ResponseMetadata"]["RequestId"])


mode = sys.argv[1]
if mode == "all":
    for name in sys.argv[2:]:
        sign(name)
    some = dict(KeyId="alias/p256", Message=b"m", SigningAlgorithm="ECDSA_SHA_256")
    refused("NotFoundException", kms.sign, **{**some, "KeyId": "alias/absent"})
    refused("NotFoundException", kms.describe_key, KeyId="12345678-1234-1234-1234-123456789012")
    refused("InvalidKeyUsageException", kms.sign, **{**some, "SigningAlgorithm": "ECDSA_SHA_384"})
    refused("InvalidKeyUsageException", kms.sign, **{**some, "KeyId": "alias/mac"})
    refused("ValidationException", kms.sign, **{**some, "SigningAlgorithm": "ECDSA_SHA_1"})
    refused("ValidationException", kms.sign, MessageType="DIGEST", **some)
    refused("ValidationException", kms.sign, **{**some, "Message": b"x" * 4097})
    refused("ValidationException", kms.sign, **{**some, "Message": bytes(64), "MessageType": "EXTERNAL_MU"})
    quantum = dict(KeyId="alias/pq", MessageType="EXTERNAL_MU", SigningAlgorithm="ML_DSA_SHAKE_256")
    refused("ValidationException", kms.sign, Message=bytes(63), **quantum)
    refused("DryRunOperationException", kms.sign, DryRun=True, **some)
    refused("UnsupportedOperationException", kms.create_key)
    ed = dict(KeyId="alias/ed", Message=hashlib.sha256(b"x").digest())
    refused("ValidationException", kms.sign, MessageType="DIGEST", SigningAlgorithm="ED25519_SHA_512", **ed)
    own = kms.sign(MessageType="DIGEST", SigningAlgorithm="ED25519", **ed)
    say(key="ed", algorithm="ED25519", kind="RAW", message=b64(ed["Message"]), signature=b64(own["Signature"]),
        public=b64(kms.get_public_key(KeyId="alias/ed")["PublicKey"]),
        index=int(own["ResponseMetadata"]["HTTPHeaders"]["x-chancery-receipt-index"]), id="")
    mac = dict(KeyId="alias/mac", Message=b"a message", MacAlgorithm="HMAC_SHA_256")
    made = kms.generate_mac(**mac)
    assert kms.verify_mac(Mac=made["Mac"], **mac)["MacValid"] is True
    refused("KMSInvalidMacException", kms.verify_mac, Mac=bytes(32), **mac)
    refused("InvalidKeyUsageException", kms.generate_mac, **{**mac, "KeyId": "alias/p256"})
    refused("DryRunOperationException", kms.generate_mac, DryRun=True, **mac)
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    ids = {key["KeyId"] for page in pages for key in page["Keys"]}
    aliases = kms.list_aliases(Limit=100)["Aliases"]
    assert {alias["TargetKeyId"] for alias in aliases} == ids and len(ids) >= 8, (ids, aliases)
elif mode == "expect":
    # One refusal, and how many attempts it took.
    attempts = []
    kms.meta.events.register("before-send.kms.*", lambda request, **_: attempts.append(request) and None)
    refused(sys.argv[2], kms.sign, KeyId=f"alias/{sys.argv[3]}", Message=b"m", SigningAlgorithm="ECDSA_SHA_256")
    say(attempts=len(attempts))
elif mode == "throttled":
    # Asked for as fast as it goes: with one attempt a throttle is told, with more the SDK waits and gets through.
    some, attempts = dict(KeyId="alias/p256", Message=b"m", SigningAlgorithm="ECDSA_SHA_256"), []
    kms.meta.events.register("before-send.kms.*", lambda request, **_: attempts.append(request) and None)
    told = None
    for _ in range(4):
        try:
            kms.sign(**some)
        except ClientError as error:
            told = error.response["Error"]["Code"]
            break
    say(told=told, attempts=len(attempts))
elif mode == "once":
    reply = kms.sign(KeyId="alias/p256", Message=b"once", SigningAlgorithm="ECDSA_SHA_256")
    metadata = reply["ResponseMetadata"]
    say(signature=b64(reply["Signature"]), index=int(metadata["HTTPHeaders"]["x-chancery-receipt-index"]),
        retries=metadata["RetryAttempts"])
